package sim

import (
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// Gate models the kernel's set (ha/gate): the instants, in world time, at which its three keys run out.
type Gate struct{ lease, drain, shut cluster.Instant }

// Open reports whether frames to and from the shared MAC pass both ways.
func (g *Gate) Open(now cluster.Instant) bool { return g.lease > now && g.shut <= now }

// order works the gate as the egress rules of ha/gate do. Timeouts are counted from the last jiffy, which was at
// from. It reports false when the frame is dropped.
func (g *Gate) order(o wire.Order, now, from cluster.Instant, t *cluster.Timing) bool {
	switch o {
	case wire.Keep:
		if !g.Open(now) {
			return false
		}
		g.lease = from.Add(t.Lease)
	case wire.Open:
		g.lease = from.Add(t.Lease)
	case wire.Drain:
		g.drain, g.shut = from.Add(t.Dead), from.Add(t.Lease)
	case wire.Shut:
		g.shut = from.Add(t.Lease)
	}
	return true
}

// sleep moves everything that has not run out by d: the jiffies of a machine whose clock stood still.
func (g *Gate) sleep(since cluster.Instant, d time.Duration) {
	for _, k := range []*cluster.Instant{&g.lease, &g.drain, &g.shut} {
		if *k > since {
			*k = k.Add(d)
		}
	}
}
