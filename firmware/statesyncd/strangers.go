package statesyncd

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/ha/statesync/link"
)

const (
	// maxStrangers bounds connections of one interface that have not authenticated yet, maxFrom those from one address.
	maxStrangers = 8
	maxFrom      = 2
	// refusedEvery is how often one reason for refusing connections is logged; all are counted.
	refusedEvery = 10 * time.Second
)

// strangers are the connections of one interface that have not authenticated yet.
type strangers struct {
	mu    sync.Mutex
	total int
	from  map[netip.Addr]int
}

// enter reports whether one more from an address may try. Where a member's beacon has come from there is room, however many
// others wait: whoever can reach a port must not keep a member out.
func (s *strangers) enter(a netip.Addr, member bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.from[a] >= maxFrom || s.total >= maxStrangers && !member {
		return false
	}
	s.total++
	s.from[a]++
	return true
}

func (s *strangers) leave(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.from[a]--; s.from[a] == 0 {
		delete(s.from, a)
	}
}

// expects reports whether a member's beacon has come from an address lately.
func (c *core) expects(w way, a netip.Addr) bool {
	c.netMu.Lock()
	defer c.netMu.Unlock()
	for _, by := range c.seen {
		if s, ok := by[w.Name]; ok && s.addr == a && time.Since(s.last) < beaconFresh {
			return true
		}
	}
	return false
}

// refuse counts a connection that did not become a session, and logs it unless the same reason was logged just now.
func (c *core) refuse(ctx context.Context, from net.Addr, w way, err error) {
	if ctx.Err() != nil {
		return
	}
	c.do(ctx, func() {
		c.count(err)
		reason := link.ReasonOf(err)
		if last, said := c.saidRefused[reason]; said && c.now()-last < refusedEvery {
			return
		}
		c.saidRefused[reason] = c.now()
		c.Options.Log.Warn("a connection for state sync was refused", "from", from, "interface", w.Name, "reason", reason, "so_far", c.refused[reason], "err", err)
	})
}

// addressOf is where a connection comes from.
func addressOf(conn net.Conn) netip.Addr {
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

var errTooMany error = statesync.TooMany
