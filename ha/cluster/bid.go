package cluster

import (
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// bid is one member's announcement that it is about to take the vacant role.
//
// Two members can see the same vacancy within one network delay and each think itself the better one, for what each
// knows of the other is a little old. So whoever hears others that could take the role asks them first: it bids, and
// takes the role when every one of them has heard the bid and none makes a better one. While a bid stands, what it is
// judged by is frozen, so that two bidders compare the same two things and exactly one of them is the better. A
// member that is alone, or to which the last holder gave the role, need not ask.
type bid struct {
	on    bool
	seq   uint64 // the first heartbeat that carries it
	since Instant
	merit merit
}

// bidPatience is how long a bid waits for a member that is alive but does not echo it, in dead times: a link that
// works one way only must not leave the role vacant.
const bidPatience = 2

// agreed makes or continues a bid and reports whether the role may be taken.
func (m *Machine) agreed(standing bid) bool {
	others := false
	for _, p := range m.peers {
		others = others || p != nil && p.candidate()
	}
	if !others {
		return true
	}
	if !standing.on || standing.merit.demotion != m.demotion() || standing.merit.inSync != m.inSync {
		m.bid = bid{on: true, seq: m.seq + 1, since: m.now, merit: m.merit()}
		m.beatAll()
		return false
	}
	m.bid = standing
	heard := true
	for _, p := range m.peers {
		if p == nil || !p.candidate() {
			continue
		}
		if p.view.Has(wire.Bidding) && p.merit().compare(standing.merit) > 0 {
			m.bid = bid{}
			m.vacant = m.now // its turn
			return false
		}
		heard = heard && p.echoed >= standing.seq
	}
	return heard || m.now.Sub(standing.since) >= bidPatience*time.Duration(m.cfg.Timing.Dead)
}

// otherBids reports whether a bid of another member stands. It has our echo, which counts as our word not to take the
// role past it.
func (m *Machine) otherBids() bool {
	for _, p := range m.peers {
		if p != nil && p.candidate() && p.view.Has(wire.Bidding) {
			return true
		}
	}
	return false
}
