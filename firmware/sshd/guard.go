package sshd

import (
	"net/netip"
	"time"

	"github.com/twinkeep/twinkeep/firmware/subnet"
)

// Limits of the guard. A console is a process of some 10 MB, and boards have 256 MB.
const (
	maxConnections = 12
	maxStrangers   = 8 // connections that have not logged in
	maxPerSource   = 3 // of them, from one source
	maxSessions    = 6 // consoles of all connections together
	maxPerLogin    = 4 // consoles of one connection

	// freeFailures may be typing errors. Each one more shuts the source out for twice as long as the one before.
	freeFailures = 5
	firstBlock   = 30 * time.Second
	maxBlock     = 15 * time.Minute
	forget       = time.Hour // without a failure
	maxSources   = 1024      // that are remembered
	maxProved    = 64        // sources that somebody has logged in from
)

// guard decides who may connect, and remembers who failed to log in. It is pure: now is any clock that never goes back.
type guard struct {
	visitors map[uint64]*visitor
	sources  map[netip.Prefix]*record
	proved   map[netip.Prefix]bool
}

type visitor struct {
	source netip.Prefix
	known  bool // has logged in
}

// record is what is remembered of a source.
type record struct {
	failures int
	last     time.Duration // the newest
	until    time.Duration // shut out
}

func newGuard() *guard {
	return &guard{visitors: make(map[uint64]*visitor), sources: make(map[netip.Prefix]*record), proved: make(map[netip.Prefix]bool)}
}

// admit takes a connection, or says why not. leave is the one that must go for it; 0: none.
//
// When there are too many that have not logged in, the oldest of them gives way, and those of sources that somebody has logged in from
// come last: hostile sources, however many, get in each other's way and not in the operator's.
func (g *guard) admit(now time.Duration, id uint64, a netip.Addr) (leave uint64, refusal string) {
	source := subnet.Of(a)
	strangers, same := 0, 0
	for _, v := range g.visitors {
		if !v.known {
			strangers++
			if v.source == source {
				same++
			}
		}
	}
	switch {
	case g.blocked(now, source) > 0:
		return 0, "too many failed logins"
	case same >= maxPerSource:
		return 0, "too many connections of this source that have not logged in"
	case strangers >= maxStrangers || len(g.visitors) >= maxConnections:
		if leave = g.oldestStranger(); leave == 0 {
			return 0, "too many connections"
		}
		delete(g.visitors, leave)
	}
	g.visitors[id] = &visitor{source: source}
	return leave, ""
}

// oldestStranger gives who gives way; 0: nobody. IDs grow.
func (g *guard) oldestStranger() (id uint64) {
	proved := false
	for i, v := range g.visitors {
		if v.known {
			continue
		}
		if p := g.proved[v.source]; id == 0 || proved && !p || proved == p && i < id {
			id, proved = i, p
		}
	}
	return id
}

// blocked is how long a source is shut out from now on; 0 when it is not.
func (g *guard) blocked(now time.Duration, source netip.Prefix) time.Duration {
	if r := g.sources[source]; r != nil && r.until > now {
		return r.until - now
	}
	return 0
}

// shut reports whether the source of a connection has been shut out meanwhile.
func (g *guard) shut(now time.Duration, id uint64) bool {
	v := g.visitors[id]
	return v == nil || g.blocked(now, v.source) > 0
}

// failed counts a failed login, and gives how long the source is shut out for it.
func (g *guard) failed(now time.Duration, id uint64) time.Duration {
	v := g.visitors[id]
	if v == nil {
		return 0
	}
	r := g.sources[v.source]
	if r == nil || now-r.last > forget && r.until <= now {
		g.makeRoom(now)
		r = new(record)
		g.sources[v.source] = r
	}
	r.failures++
	r.last = now
	if over := r.failures - freeFailures; over >= 0 {
		block := maxBlock
		if over < 10 {
			block = min(firstBlock<<over, maxBlock)
		}
		r.until = now + block
		return block
	}
	return 0
}

// makeRoom forgets what is old, else whoever would be let in first.
func (g *guard) makeRoom(now time.Duration) {
	if len(g.sources) < maxSources {
		return
	}
	var first netip.Prefix
	for s, r := range g.sources {
		if now-r.last > forget && r.until <= now {
			delete(g.sources, s)
			continue
		}
		if f := g.sources[first]; f == nil || r.until < f.until || r.until == f.until && r.last < f.last {
			first = s
		}
	}
	if len(g.sources) >= maxSources {
		delete(g.sources, first)
	}
}

// succeeded takes a login: the connection is no stranger, and its source has proved itself.
func (g *guard) succeeded(id uint64) {
	if v := g.visitors[id]; v != nil {
		v.known = true
		delete(g.sources, v.source)
		if len(g.proved) >= maxProved {
			for s := range g.proved {
				delete(g.proved, s)
				break
			}
		}
		g.proved[v.source] = true
	}
}

// left takes the end of a connection.
func (g *guard) left(id uint64) { delete(g.visitors, id) }
