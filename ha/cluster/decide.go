package cluster

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// merit is what members are compared by when the role is to be given.
type merit struct {
	demotion    uint16
	inSync      bool
	connections uint32
	priority    uint8
	serial      uint64
	id          uint8
}

// compare orders by merit, the one place where that order is written (DESIGN §7): fitness, in sync,
// connection count (in steps of about a tenth), priority, newer serial, lower member ID. Positive
// means that a is better.
func (a merit) compare(b merit) int {
	if c := cmp.Compare(b.demotion, a.demotion); c != 0 {
		return c
	}
	if a.inSync != b.inSync {
		if a.inSync {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(magnitude(a.connections), magnitude(b.connections)), cmp.Compare(a.priority, b.priority), cmp.Compare(a.serial, b.serial), cmp.Compare(b.id, a.id))
}

// magnitude is a connection count on a scale of steps of 64, and of a sixteenth to an eighth of it from 512 on: what counts is on which step it is. A
// difference compared by itself would let three members each be better than the next, in a ring, and none would take the role.
func magnitude(connections uint32) int {
	if connections < 512 {
		return int(connections >> 6)
	}
	octave := bits.Len32(connections) - 10
	return 8 + 8*octave + int(connections>>(6+octave))&7
}

func (m *Machine) merit() merit {
	return merit{demotion: m.demotion(), inSync: m.inSync, connections: m.connections, priority: m.priority(), serial: m.cfg.Serial, id: m.cfg.Self}
}

func (p *peer) merit() merit {
	v := &p.view
	return merit{demotion: v.Demotion, inSync: v.Has(wire.InSync), connections: v.Connections, priority: v.Priority, serial: v.Serial, id: p.id}
}

func (m *Machine) priority() uint8 {
	for i := range m.cfg.Members {
		if c := &m.cfg.Members[i]; c.ID == m.cfg.Self {
			return c.Priority
		}
	}
	return 0
}

// candidate reports whether a peer could take the role now.
func (p *peer) candidate() bool {
	v := &p.view
	return p.alive && v.Demotion != wire.Ineligible && !v.Has(wire.Yielding) && (v.State == wire.Standby || v.State == wire.Down || v.State == wire.Init)
}

// holder is an alive peer that says it holds the role: the better one if there are several. It is asked for several
// times in every Step and looked for only when a peer that holds the role has been heard, or was lost.
func (m *Machine) holder() *peer {
	if m.holderKnown {
		return m.heldBy
	}
	m.heldBy, m.holderKnown = nil, true
	for _, p := range m.others {
		if p.alive && p.view.Has(wire.Holder) && (m.heldBy == nil || p.merit().compare(m.heldBy.merit()) > 0) {
			m.heldBy = p
		}
	}
	return m.heldBy
}

// successor is the best peer that could take over from this member right now, nil if there is none.
func (m *Machine) successor() *peer {
	var best *peer
	for _, p := range m.others {
		if !m.fitToSucceed(p) {
			continue
		}
		if best == nil || p.merit().compare(best.merit()) > 0 {
			best = p
		}
	}
	return best
}

// fitToSucceed reports whether a peer could take over from this member right now.
func (m *Machine) fitToSucceed(p *peer) bool {
	return p.candidate() && p.view.State != wire.Init && p.view.Has(wire.InSync) && p.view.Demotion/weightInterface <= m.demotion()/weightInterface
}

// decide settles the role after every input.
func (m *Machine) decide() {
	h := m.holder()
	switch {
	case m.nextBeat == Never: // leaving
	case m.active():
		m.decideActive(h)
	case m.witness():
		m.decideWitness()
	case m.state == wire.Init:
		m.decideInit(h)
	default:
		m.decideResting(h)
	}
}

func (m *Machine) decideActive(h *peer) {
	for _, judge := range []func(){m.keepMandate, m.unheard, m.outvoted, m.obeyLockdown, m.finishHandover} {
		if judge(); !m.active() {
			return
		}
	}
	if h != nil {
		m.settle(h)
		if !m.active() {
			return
		}
	} else if m.contested {
		m.contested = false
		m.log(Notice, EvBothActive, "the other active member has stepped down; announcing again")
		m.announceAgain()
	}
	for _, p := range m.others {
		if !p.candidate() || p.view.State == wire.Init || !p.view.Has(wire.Claiming) || !p.view.Has(wire.InSync) {
			continue
		}
		if m.locked == "" && p.view.Demotion/weightInterface <= m.demotion()/weightInterface {
			m.handOver(p.id, fmt.Sprintf("%s asked for the role", m.name(p.id)), handover{})
			if !m.active() {
				return
			}
		}
	}
	// A clearly fitter standby takes over; the sync interface alone weighs too little for that.
	if s := m.successor(); s != nil && s.view.Demotion/weightInterface < m.demotion()/weightInterface {
		m.release(s.id, fmt.Sprintf("%s is fitter: %v here", m.name(s.id), m.problems()))
		return
	}
	switch bad := m.demotion() > 0; {
	case bad && m.state == wire.Active:
		m.enter(wire.ActiveAttention, fmt.Sprintf("%v, and no fitter member to take over", m.problems()))
	case !bad && m.state == wire.ActiveAttention:
		m.enter(wire.Active, "all problems are gone")
	}
}

// settle decides between this active member and another one that is active as well.
func (m *Machine) settle(h *peer) {
	deaf, slept := m.deafTo(h), m.slept(h)
	if deaf || slept || h.merit().compare(m.merit()) > 0 && !m.sleeper(h) {
		claim := m.claim(h)
		switch {
		case deaf:
			claim = "it does not hear this member, so it cannot step down"
		case slept:
			claim = "by its heartbeats the clock of this member stood still, and it has served since"
		}
		m.log(Notice, EvBothActive, fmt.Sprintf("%s is active too and has the better claim (%s); stepping down", m.name(h.id), claim))
		m.cede()
		m.rest(fmt.Sprintf("%s keeps the role after both were active", m.name(h.id)))
		m.beatAll()
		return
	}
	if !m.contested {
		m.contested = true
		if m.term <= h.view.Term {
			m.term = h.view.Term + 1
			m.emit(KeepTerm(m.term))
		}
		claim := m.claim(h)
		if m.sleeper(h) {
			claim = "by its heartbeats it stood still as a whole, and this member has served since"
		}
		m.log(Notice, EvBothActive, fmt.Sprintf("%s is active too; this member has the better claim (%s) and stays", m.name(h.id), claim))
	}
}

// claim says by what two active members were told apart.
func (m *Machine) claim(h *peer) string {
	a, b := m.merit(), h.merit()
	switch {
	case a.demotion != b.demotion:
		return fmt.Sprintf("demotion %d here, %d there", a.demotion, b.demotion)
	case a.inSync != b.inSync:
		return "only one is in sync"
	case magnitude(a.connections) != magnitude(b.connections):
		return fmt.Sprintf("%d connections here, %d there", a.connections, b.connections)
	case a.priority != b.priority:
		return fmt.Sprintf("priority %d here, %d there", a.priority, b.priority)
	case a.serial != b.serial:
		return "newer serial number"
	}
	return "lower member ID"
}

func (m *Machine) decideInit(h *peer) {
	if h != nil {
		m.vacant = Never
		m.rest(fmt.Sprintf("%s is active with term %d", m.name(h.id), h.view.Term))
		return
	}
	if m.now < m.listenUntil {
		return
	}
	if !m.prolonged && slices.ContainsFunc(m.others, m.unproven) {
		m.prolonged, m.listenUntil = true, m.now.Add(m.cfg.Timing.Dead)
		m.reason = "a member speaks that has not proved yet that it hears this one"
		return
	}
	m.vacant = m.now
	m.rest("no active member was heard while listening")
	m.decideResting(nil)
}

// unproven reports whether a peer that is silent otherwise speaks just now with a boot that has not proved itself: the network may have come back this
// moment. A recording does the same, so nobody waits for it twice.
func (m *Machine) unproven(p *peer) bool {
	return !p.alive && p.mayProve(p.newcomer.Nonce) && m.now.Sub(p.newcomerAt) < 2*m.cfg.Timing.Beat
}

func (m *Machine) decideResting(h *peer) {
	standing := m.bid
	m.bid = bid{}
	if s, _ := m.resting(); s != m.state {
		m.rest("all problems are gone, all devices are ready")
	}
	if h != nil {
		m.vacant = Never
		m.reclaim(h)
		return
	}
	if p := m.heldElsewhere(); p != nil {
		m.vacant = Never
		m.reason = fmt.Sprintf("%s is silent here, but another member hears it", m.name(p.id))
		return
	}
	if m.state == wire.Ready {
		return // not prepared: the device that says so becomes ready, or a problem
	}
	if m.vacant == Never {
		m.vacant = m.now
	}
	chosen := m.chosen()
	if chosen == m.cfg.Self && m.lags() || m.passedOver(m.peer(chosen)) { // whoever gave it the role did not know yet
		chosen = 0
	}
	if !m.mayTake() {
		return
	}
	// One member after the other: the best at once, the next a dead time later, and so on, so that a best
	// one that does not act leaves nobody without a gateway for long.
	rank, since := 0, m.vacant
	if m.lags() {
		// Who is in sync comes first. It may be quiet because it has just given the role up, or its vote, or one that it needs, may be promised to a
		// successor that does not use it, or to a bidder, as this one's is.
		since = max(since.Add(m.cfg.Timing.Dead), m.ballot.bound)
	}
	for _, p := range m.others {
		if p.candidate() && chosen != m.cfg.Self && p.id != chosen && p.merit().compare(m.merit()) > 0 {
			rank++
		}
	}
	if chosen != 0 && chosen != m.cfg.Self {
		rank++ // heard here or not
	}
	if m.now.Sub(since) < time.Duration(rank)*m.cfg.Timing.Dead {
		return
	}
	if chosen == m.cfg.Self && !m.otherBids() && m.now < m.mandate() {
		m.take(m.whyVacant())
		return
	}
	if !m.mayClaim() || !m.agreed(standing) {
		return
	}
	if m.now >= m.mandate() {
		m.reason = "no majority: " + m.silentPeers()
		return
	}
	m.bid = bid{}
	m.take(m.whyVacant())
}

// lags reports whether this member is not in sync while another one that could take the role is, and is as fit.
func (m *Machine) lags() bool { return !m.inSync && m.betterPrepared(m.cfg.Self, m.demotion()) }

// passedOver reports whether a named successor says that it is not in sync, while another member that could take the role is, and is as fit: it will not
// use what it was given (lags), so neither the others nor their votes wait for it.
func (m *Machine) passedOver(p *peer) bool {
	return p != nil && p.candidate() && !p.view.Has(wire.InSync) && m.betterPrepared(p.id, p.view.Demotion)
}

// betterPrepared reports whether a member other than one of the given demotion could take the role in sync, and is as fit: this one, or one it hears. One that is
// quiet for a moment counts, as the others count it; its vote would bind it for longer than that.
func (m *Machine) betterPrepared(than uint8, demotion uint16) bool {
	if than != m.cfg.Self && m.state == wire.Standby && m.inSync && m.demotion()/weightInterface <= demotion/weightInterface && m.willing() {
		return true
	}
	return slices.ContainsFunc(m.others, func(p *peer) bool {
		return p.id != than && p.candidate() && p.view.State == wire.Standby && p.view.Has(wire.InSync) && p.view.Demotion/weightInterface <= demotion/weightInterface
	})
}

// mayTake reports whether nothing of its own keeps this member from taking the role.
func (m *Machine) mayTake() bool { return m.now >= m.quietUntil && m.willing() }

// willing reports whether nothing but a moment of quiet keeps this member from taking the role.
func (m *Machine) willing() bool {
	// Its peers must have heard that it yields no longer: an active one that it does not hear steps down then (unheard).
	return m.now >= m.yieldUntil.Add(2*m.cfg.Timing.Beat) && !m.lockdown() &&
		m.beats() // without a heartbeat to hold it open, no gate can be open
}

// claims notes when this member stops to claim the role, and spreads its vote.
func (m *Machine) claims() {
	claiming := m.active() || m.bid.on
	if m.claimed && !claiming {
		m.voteFloor = m.seq
	}
	m.claimed = claiming
	m.judge()
	if m.news {
		m.news = false
		m.beatAll()
	}
}

// decideWitness ends the witness's time of listening.
func (m *Machine) decideWitness() {
	if m.state == wire.Init && m.now >= m.listenUntil {
		m.enter(wire.Witness, "judging")
	}
}

// chosen is the member that the last holder gave the role to, 0 if it did not say, or if somebody has had the role since: its term has come here.
func (m *Machine) chosen() uint8 {
	if p := m.peers[m.lastHolder]; m.lastHolder != 0 && p != nil && p.alive && p.view.Has(wire.Yielding) && p.namedAt >= m.term {
		return p.view.Successor
	}
	return 0
}

// reclaim asks for the role back, in mode primary-up and at the end of a time away. The active member agrees by handing over, which it does only
// to a member that is fit and in sync (successor).
func (m *Machine) reclaim(h *peer) {
	if m.now >= m.backAt && m.state == wire.Standby {
		m.backAt = Never
		m.log(Notice, EvClaim, fmt.Sprintf("the time away is over: asking %s for the role", m.name(h.id)))
		m.claimUntil = m.now.Add(10 * m.cfg.Timing.Dead)
		return
	}
	hold := PrimaryHold * m.cfg.Timing.Dead
	if m.now < m.awayUntil || m.cfg.Mode != PrimaryUp || m.state != wire.Standby || !m.inSync || m.now < m.claimUntil || m.now.Sub(m.since) < hold || m.now < m.yieldUntil {
		return
	}
	for _, p := range m.others {
		if p.alive && p.view.Demotion == 0 && p.view.Priority >= m.priority() {
			return // somebody alive is as good; among equals nobody takes the role from the other
		}
	}
	if h.view.Priority < m.priority() {
		if m.claimLog < m.since { // it goes on asking, quietly
			m.claimLog = m.now
			m.log(Notice, EvClaim, fmt.Sprintf("mode primary-up: asking %s for the role", m.name(h.id)))
		}
		m.claimUntil = m.now.Add(10 * m.cfg.Timing.Dead)
	}
}

// whyVacant is the evidence for a takeover.
func (m *Machine) whyVacant() string {
	if p := m.peers[m.lastHolder]; m.lastHolder != 0 && p != nil && p.gone != "" {
		return p.gone
	}
	for _, p := range m.others {
		if p.alive {
			return "no member is active"
		}
	}
	return "no other member was heard"
}
