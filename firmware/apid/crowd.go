package apid

import (
	"net/netip"

	"github.com/twinkeep/twinkeep/firmware/subnet"
)

// Limits of connections.
const (
	maxConnections = 48
	maxPerSource   = 12
)

// guest is a connection.
type guest struct {
	source netip.Prefix
	known  bool   // a request with a good token came by it
	order  uint64 // of its coming
}

// crowd decides who may stay when there are too many. It is pure.
type crowd struct {
	guests map[uint64]*guest
	last   uint64
}

func newCrowd() *crowd { return &crowd{guests: make(map[uint64]*guest)} }

// enter takes a connection. leave is the one that must go for it; 0: none. Without ok it is refused.
//
// Who has no token yet gives way: first of those whose source has the most, the oldest. So whoever fills the house with silent
// connections makes room by that, and never drives out a bearer of a token.
func (c *crowd) enter(a netip.Addr) (id, leave uint64, ok bool) {
	source := subnet.Of(a)
	count := make(map[netip.Prefix]int)
	for _, g := range c.guests {
		count[g.source]++
	}
	switch {
	case count[source] >= maxPerSource:
		leave = c.choose(func(g *guest) int {
			if g.source == source {
				return 1
			}
			return 0
		})
		ok = leave != 0
	case len(c.guests) >= maxConnections:
		leave = c.choose(func(g *guest) int { return count[g.source] })
		ok = leave != 0
	default:
		ok = true
	}
	if !ok {
		return 0, 0, false
	}
	delete(c.guests, leave)
	c.last++
	c.guests[c.last] = &guest{source: source, order: c.last}
	return c.last, leave, true
}

// choose gives the oldest unknown guest of the greatest weight, 0 when all weigh nothing.
func (c *crowd) choose(weight func(*guest) int) (id uint64) {
	best := 0
	for i, g := range c.guests {
		if g.known {
			continue
		}
		if w := weight(g); w > best || w == best && w > 0 && g.order < c.guests[id].order {
			id, best = i, w
		}
	}
	return id
}

func (c *crowd) proved(id uint64) {
	if g := c.guests[id]; g != nil {
		g.known = true
	}
}

func (c *crowd) left(id uint64) { delete(c.guests, id) }
