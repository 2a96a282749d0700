package cluster

import (
	"fmt"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// # Quorum
//
// With a witness or in safety mode nobody holds the role without a majority. Every member and witness is a voter; each
// supports at most one claim at a time and says whose in every heartbeat (wire.Beat.Vote). A voter that has voted for a
// member promises not to vote for another one until it has not heard that member for the dead time, or has heard it say
// that it claims nothing any more.
//
// The claimant sees in the vote's echo which of its own heartbeats the voter had heard, and knows when it sent that one:
// the promise outlasts that instant by the dead time. So a vote counts for [Timing.vote] after the instant, which is
// short enough that the kernel's lease, started at the very end, is over before the promise is. Only intervals on one
// clock are compared, never two clocks.
//
// Taking the role needs the votes of a majority. Keeping it needs less: that no majority can be had without this
// member's voters. Of two voters neither can take the role from a silent other; so in safety mode without a witness a
// member that died without a farewell is replaced by the operator only (activate by force).

// vote is for how long after we sent a heartbeat the vote that echoes it counts.
func (t Timing) vote() time.Duration { return t.Dead - t.Lease - t.Beat }

// minVote is the least vote, in beats: less would lose the role by the loss of one heartbeat.
const minVote = 3

// quorum reports whether the role needs a majority.
func (m *Machine) quorum() bool { return m.cfg.Quorum() }

// Quorum reports whether the role needs a majority.
func (c *Config) Quorum() bool { return c.Safety || len(c.Witnesses) > 0 }

// witness reports whether this machine only judges.
func (m *Machine) witness() bool { return m.cfg.Self > MaxMembers }

// voters is how many members and witnesses there are.
func (m *Machine) voters() int { return len(m.cfg.Members) + len(m.cfg.Witnesses) }

// ballot is this member's own vote.
type ballot struct {
	member uint8 // whom it supports, 0: nobody
	// named is set while the vote is for a successor that its predecessor has named and that has not claimed the role
	// itself yet.
	named bool
	// bound is until when the promise of an earlier vote holds, from then on it is free. Until then it can only be given to the same member again, if
	// that one has taken the role by it.
	bound Instant
	to    uint8 // whom that promise was given
}

// judge updates this member's vote.
func (m *Machine) judge() {
	v := &m.ballot
	if !m.quorum() { // then it only tells the others whom it takes for the holder
		was := v.member
		*v = ballot{}
		if m.active() {
			v.member = m.cfg.Self
		} else if h := m.holder(); h != nil && (m.heralded == Never || m.now < m.untoldAt(h)) {
			v.member = h.id
		} else if h != nil && was == h.id {
			m.beatAll() // a beat before the takeover; later ones may be too late
		}
		return
	}
	if v.member == m.cfg.Self && !m.active() && !m.bid.on {
		m.cast(0, m.now)
	}
	if p := m.peer(v.member); p != nil {
		claims := p.alive && (p.view.Has(wire.Holder) || p.view.Has(wire.Bidding))
		switch {
		case claims:
			v.named = false
		case p.departed != 0 && p.nonce == 0, p.alive && !v.named:
			m.cast(0, m.now) // it says itself that it claims nothing
		case !p.alive || m.namer(p.id) == nil && m.now >= m.yieldUntil || m.passedOver(p):
			m.cast(0, p.lastHeard.Add(m.cfg.Timing.Dead))
		}
	}
	want, named := m.favourite()
	if want == 0 || want == v.member || v.member != 0 || m.now < m.voteFrom {
		return
	}
	if m.now < v.bound && (want != v.to || m.holder() == nil || want != m.holder().id) {
		return
	}
	m.cast(want, m.now)
	v.named = named
	if want != m.cfg.Self {
		m.news = true
	}
}

// cast changes the vote. An earlier promise still binds.
func (m *Machine) cast(member uint8, bound Instant) {
	m.ballot = ballot{member: member, bound: max(m.ballot.bound, bound), to: m.ballot.to}
	if member == 0 {
		m.ballot.bound = bound
	} else {
		m.ballot.to = member
	}
}

// favourite is the member whose claim this one would support: its own, that of who holds the role, that of the
// successor whom the last holder named, or that of the best bidder.
func (m *Machine) favourite() (id uint8, named bool) {
	if m.active() || m.bid.on {
		return m.cfg.Self, false
	}
	if h := m.holder(); h != nil {
		return h.id, false
	}
	if m.now < m.yieldUntil && m.heir(m.successorID) {
		return m.successorID, true
	}
	var best *peer
	for _, p := range m.others {
		switch {
		case !p.alive:
		case p.view.Has(wire.Yielding) && m.heir(p.view.Successor):
			return p.view.Successor, true
		case p.candidate() && p.view.Has(wire.Bidding) && !m.rather(p) && (best == nil || p.merit().compare(best.merit()) > 0):
			best = p
		}
	}
	if best == nil {
		return 0, false
	}
	return best.id, false
}

// heir reports whether a named successor may get this member's vote unasked: it is heard, and has not had the role since and lost it again, which its
// predecessor need not know.
func (m *Machine) heir(id uint8) bool {
	p := m.peer(id)
	return p != nil && p.alive && id != m.lastHolder && !m.passedOver(p)
}

// rather reports whether this member keeps its vote from a bidder because it is about to make the better bid itself.
func (m *Machine) rather(p *peer) bool {
	return (m.state == wire.Standby || m.state == wire.Down) && m.mayTake() && m.merit().compare(p.merit()) > 0 &&
		m.vacant != Never && m.now.Sub(m.vacant) < 2*m.cfg.Timing.Dead
}

// namer is the peer that names a member as its successor now.
func (m *Machine) namer(id uint8) *peer {
	for _, p := range m.others {
		if p.alive && p.view.Has(wire.Yielding) && p.view.Successor == id {
			return p
		}
	}
	return nil
}

// peer is the peer with an ID, nil if there is none.
func (m *Machine) peer(id uint8) *peer {
	if int(id) >= len(m.peers) {
		return nil
	}
	return m.peers[id]
}

// mayClaim reports whether this member's own vote is free to be its own.
func (m *Machine) mayClaim() bool {
	v := m.ballot
	return !m.quorum() || v.member == m.cfg.Self || v.member == 0 && m.now >= v.bound && m.now >= m.voteFrom
}

// support is until when each vote for this member counts, best first; its own vote counts for ever.
func (m *Machine) support() []Instant {
	s := m.counted[:0]
	if m.ballot.member == m.cfg.Self || m.mayClaim() {
		s = append(s, Never)
	}
	for _, p := range m.others {
		switch {
		case p.alive && p.view.Vote == m.cfg.Self && p.echoed > m.voteFloor:
			s = append(s, p.echoSent.Add(m.cfg.Timing.vote()))
		case m.voters() == 2 && p.left():
			// Of two, the other has said farewell: it cannot take the role again without our vote.
			s = append(s, Never)
		}
	}
	for i := 1; i < len(s); i++ { // best first; there are few
		for j := i; j > 0 && s[j] > s[j-1]; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
	m.counted = s
	return s
}

// until is until when at least n votes count.
func until(support []Instant, n int) Instant {
	if n <= 0 {
		return Never
	}
	if n > len(support) {
		return longAgo
	}
	return support[n-1]
}

// mandate is until when this member may take the role, or keep it.
func (m *Machine) mandate() Instant {
	if !m.quorum() {
		return Never
	}
	majority := m.voters()/2 + 1
	end := until(m.support(), majority)
	if m.forced {
		if end > m.now {
			m.forced = false // it has the majority again, and needs it from now on
		}
		return Never
	}
	if !m.active() {
		return end
	}
	if m.doubt.on && m.confirmed() >= majority {
		m.doubt = doubt{}
	}
	end = until(m.counted, m.voters()-majority+1) // no majority without us
	if m.doubt.on {
		end = min(end, m.doubt.until)
	}
	return end
}

// doubt is raised when the holder hears of a term above its own: another member has had a majority meanwhile, which only a holder whose clock stood still
// can have missed. Of an even number of voters each could then keep half of them for ever, so now it needs a majority of votes that know of its claim.
type doubt struct {
	on    bool
	until Instant // when it gives the role up
	floor uint64  // votes must echo more than this
}

// confirmed counts the votes for this member, its own included, that were given after the doubt was raised.
func (m *Machine) confirmed() int {
	n := 1
	for _, p := range m.others {
		if p.alive && p.view.Vote == m.cfg.Self && p.echoed > m.doubt.floor {
			n++
		}
	}
	return n
}

// keepMandate gives the role up when a majority could form without this member.
func (m *Machine) keepMandate() {
	if m.now < m.mandate() {
		return
	}
	why := fmt.Sprintf("no majority: only %d of %d members and witnesses support this member now (%s)", m.supporters(), m.voters(), m.silentPeers())
	m.log(Warning, EvQuorum, why)
	m.cede()
	m.rest(why)
	m.beatAll()
}

// supporters counts the votes that count now.
func (m *Machine) supporters() (n int) {
	for _, t := range m.support() {
		if t > m.now {
			n++
		}
	}
	return n
}

// silentPeers names those whose votes are missing.
func (m *Machine) silentPeers() string {
	out := ""
	for _, p := range m.others {
		if p.alive && p.view.Vote == m.cfg.Self && p.echoSent.Add(m.cfg.Timing.vote()) > m.now {
			continue
		}
		why := "silent"
		switch {
		case p.alive && p.view.Vote == m.cfg.Self:
			why = "does not hear us"
		case p.alive && p.view.Vote != 0:
			why = "votes for " + m.name(p.view.Vote)
		case p.alive:
			why = "does not vote"
		}
		if out != "" {
			out += ", "
		}
		out += m.name(p.id) + " " + why
	}
	if out == "" {
		return "all are heard"
	}
	return out
}
