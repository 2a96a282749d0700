package sim

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/wire"
)

func frameOf(payload []byte) []byte {
	return wire.AppendFrame(nil, wire.Envelope{Dst: wire.BeatMAC(0x11, 7), SrcIP: netip.MustParseAddr("10.0.0.1"), DstIP: netip.MustParseAddr("10.0.0.255")}, payload)
}

// history plays random faults that always leave the members at least one path (or at most lose frames), so
// that invariant 1 must hold without exception.
func history(seed uint64) *World {
	rng := rand.New(rand.NewPCG(seed, 99))
	n := 2 + rng.IntN(3)
	w := New(seed, n, timing)
	w.Net = Net{Loss: []float64{0, 0, 0.01, 0.05}[rng.IntN(4)], Duplicate: 0.02, Delay: 50 * time.Microsecond, Jitter: time.Duration(1 + rng.Int64N(int64(3*time.Millisecond)))}
	w.Run(timing.Silence + time.Duration(rng.Int64N(int64(time.Second))))
	for range 12 {
		m := w.Nodes[rng.IntN(n)]
		switch rng.IntN(9) {
		case 0:
			if m.Machine != nil {
				m.PowerCut()
			}
		case 1:
			if m.Machine != nil {
				last := m.Machine
				m.Crash()
				w.After(time.Duration(rng.Int64N(int64(2*time.Millisecond))), func() {
					if m.Machine == nil {
						m.Farewell(last)
					}
				})
			}
		case 2, 3:
			if m.Machine == nil {
				m.Boot()
			}
		case 4:
			m.Pause(time.Duration(rng.Int64N(int64(10 * timing.Dead))))
		case 5:
			m.SetLink(rng.IntN(2), rng.IntN(2) == 0)
		case 6:
			m.Input(cluster.Activate{})
		case 7:
			m.Input(cluster.Deactivate{})
		case 8:
			m.Input(cluster.Connections(rng.Uint32N(10000)))
		}
		w.Run(time.Duration(rng.Int64N(int64(300 * time.Millisecond))))
	}
	// Peace: everything mended.
	for _, m := range w.Nodes {
		for i := range m.Config.Interfaces {
			m.down[i] = false
		}
		if m.Machine == nil {
			m.Boot()
		} else {
			for i := range m.Config.Interfaces {
				m.SetLink(i, true)
			}
		}
	}
	w.Net.Loss = 0
	w.Run(5 * time.Second)
	return w
}

func TestHistories(t *testing.T) {
	n := uint64(60)
	if testing.Short() {
		n = 10
	}
	for seed := range n {
		w := history(seed)
		if w.Violation == "" && len(w.Open()) == 1 {
			continue
		}
		t.Errorf("seed %d: violation %q, open gates %v, %s", seed, w.Violation, w.Open(), w.States())
		if t.Failed() {
			return
		}
	}
}
