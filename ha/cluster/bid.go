package cluster

import (
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
	lags  bool // it was made although another one could have taken the role in sync, because that one did not act
}

// bidPatience is how long a bid waits for a member that is alive but does not echo it, in dead times: a link that
// works one way only must not leave the role vacant.
const bidPatience = 2

// agreed makes or continues a bid and reports whether the role may be taken.
func (m *Machine) agreed(standing bid) bool {
	others := false
	for _, p := range m.others {
		others = others || m.asks(p)
	}
	if !others && !m.quorum() && (m.handedOver() || m.heralded != Never && m.now.Sub(m.heralded) >= m.cfg.Timing.Beat) {
		return true
	}
	lags := m.lags()
	if standing.on && lags && !standing.lags {
		// This one has lost its sync, or another one has got it. What was promised to the bid would be kept: only without it are the votes free for the other.
		m.vacant = m.now
		m.reason = "another member is in sync, this one is not"
		m.beatAll()
		return false
	}
	if !standing.on || standing.merit.demotion != m.demotion() || standing.merit.inSync != m.inSync {
		m.bid = bid{on: true, seq: m.seq + 1, since: m.now, merit: m.merit(), lags: lags}
		m.beatAll()
		return false
	}
	m.bid = standing
	heard := others || m.quorum()
	for _, p := range m.others {
		if !m.asks(p) {
			continue
		}
		if p.candidate() && p.view.Has(wire.Bidding) && p.merit().compare(standing.merit) > 0 {
			m.bid = bid{}
			m.vacant = m.now // its turn
			return false
		}
		heard = heard && p.alive && p.echoed >= standing.seq
	}
	if heard || m.now.Sub(standing.since) < bidPatience*m.cfg.Timing.Dead {
		return heard
	}
	for _, p := range m.others {
		if p.candidate() && p.view.Has(wire.Bidding) && p.echoed < standing.seq {
			m.bid = bid{}
			m.vacant = m.now // it does not hear us, so it cannot give way: its turn
			return false
		}
	}
	return true
}

// asks reports whether a peer must have heard a bid before the role is taken: it could take the role itself. One that gave the role away does not want it
// now, but may have heard that this is over before we hear so from it.
func (m *Machine) asks(p *peer) bool {
	return p.candidate() || m.rumoured(p) || p.alive && p.view.Has(wire.Yielding) && p.view.Successor != m.cfg.Self && p.view.Demotion != wire.Ineligible
}

// rumoured reports whether others hear a member that we do not, so that it could bid out of our sight: it has just come
// up and has not proved itself here yet, or the path between it and us is cut.
func (m *Machine) rumoured(p *peer) bool {
	d := m.cfg.Timing.Dead
	return !p.alive && p.id <= MaxMembers && (m.now.Sub(p.rumourAt) < d || p.vouched != 0 && m.now.Sub(p.vouchedAt) < d)
}

// otherBids reports whether a bid of another member stands. It has our echo, which counts as our word not to take the
// role past it.
func (m *Machine) otherBids() bool {
	for _, p := range m.others {
		if p.candidate() && p.view.Has(wire.Bidding) {
			return true
		}
	}
	return false
}
