package cluster

import (
	"fmt"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// longAgo is before every Instant in use, and far enough from the ends to be subtracted.
const longAgo = Instant(-1 << 60)

// sentRing is for how many of our last heartbeats we know when they were sent: more than leave in ten dead times of the
// fastest timing on three interfaces.
const sentRing = 1024

// sentAt is when we sent the heartbeat with a sequence, longAgo if that is not known any more.
func (m *Machine) sentAt(seq uint64) Instant {
	if seq == 0 || seq > m.seq || m.seq-seq >= sentRing {
		return longAgo
	}
	return m.sent[seq%sentRing]
}

// deafTo reports whether a peer that we hear well has not heard us for about the dead time: the path to it is cut, the
// path from it is not. It is the only one of the two that cannot know. What it heard last must be old, and must have been
// the last for a while; on a slow path it is old but grows.
func (m *Machine) deafTo(p *peer) bool {
	t := &m.cfg.Timing
	return p.alive && p.lastHeard.Sub(p.steady) >= t.Lease && m.stale(p)
}

// stale reports whether the newest echo of a peer that speaks is old.
func (m *Machine) stale(p *peer) bool {
	t := &m.cfg.Timing
	return p.lastHeard.Sub(p.echoSent) >= max(t.Lease, t.Dead-t.Beat) && p.lastHeard.Sub(p.echoAt) >= t.Lease
}

// unheard gives the role up when a standby that hears us no longer is about to take it: the lease of a dead member would
// have run out by then, and ours must not outlive it only because we live. A member that others vouch for at the
// standby keeps the role (heldElsewhere); with a quorum the standby cannot take it.
func (m *Machine) unheard() {
	if m.quorum() {
		return
	}
	t := &m.cfg.Timing
	vouched := false // one hears us, and says so to the others
	for _, p := range m.others {
		vouched = vouched || p.alive && !m.deafened(p) && !m.stale(p) && m.now.Sub(p.lastHeard) < t.Lease
	}
	// One that still knows us may hear us from the others yet; one that announces its takeover and does not know us any
	// more has not.
	i := slices.IndexFunc(m.others, func(p *peer) bool {
		return m.deafened(p) && (!vouched || p.view.Vote != m.cfg.Self && m.heralds(p))
	})
	if i < 0 {
		return
	}
	deaf := m.others[i]
	since := fmt.Sprintf("for %v", m.now.Sub(deaf.echoSent).Round(100*time.Microsecond))
	if deaf.echoed == 0 {
		since = "since it started"
	}
	why := fmt.Sprintf("%s is heard here but has heard nothing from this member %s: the path to it is cut, and it is about to take the role", m.name(deaf.id), since)
	m.log(Warning, EvUnheard, why)
	m.yieldUntil, m.successorID = m.now.Add(3*t.Dead), deaf.id
	m.cede()
	m.rest(why)
	m.beatAll()
}

// deafened reports whether a standby hears us no longer.
func (m *Machine) deafened(p *peer) bool {
	return p.alive && p.candidate() && (m.deafTo(p) && p.view.State != wire.Init || m.heralds(p))
}

// outvoted gives the role up when a member that hears us and another active one, which we do not hear, finds that one the
// better: the path between the two of us is cut, but not all paths.
func (m *Machine) outvoted() {
	t := &m.cfg.Timing
	if m.quorum() || m.now.Sub(m.tookAt) < 2*t.Dead {
		return // they may not have buried our predecessor yet
	}
	for _, p := range m.others {
		if !p.alive || p.view.Vote == 0 || p.view.Vote == m.cfg.Self || p.view.Vote == p.id || m.now.Sub(p.lastHeard) >= t.Lease || m.now.Sub(p.echoSent) >= t.Lease {
			continue
		}
		if h := m.peer(p.view.Vote); h != nil && !h.alive {
			m.log(Notice, EvBothActive, fmt.Sprintf("%s hears us and %s, which is active too and silent here, and takes that one for the better; stepping down", m.name(p.id), m.name(h.id)))
			m.cede()
			m.rest(fmt.Sprintf("%s keeps the role after both were active", m.name(h.id)))
			m.beatAll()
			return
		}
	}
}

// heralds reports whether a peer says that it is about to take the role that we hold, because it does not hear us: what it heard of us last, also before we
// took the role, is old, and has been the last for a while.
func (m *Machine) heralds(p *peer) bool {
	t := &m.cfg.Timing
	return p.view.Has(wire.Bidding) && p.lastHeard.Sub(p.echoSent) >= t.Lease && p.lastHeard.Sub(p.echoAt) >= t.Beat
}

// patience is after which silence of the holder a standby says that it is about to take the role: a beat before the dead
// time, when the lease of a dead holder has run out already.
func (t Timing) patience() time.Duration { return max(t.Lease, t.Dead-t.Beat) }

// herald says in our heartbeats, a beat before, that we are about to take the role for want of a holder: one that lives but
// is not heard here can step down in time. With a quorum the votes see to that.
func (m *Machine) herald() {
	if !m.bid.on && !m.lacksHolder() {
		m.heralded = Never
		return
	}
	if m.heralded == Never {
		m.heralded = m.now
		vote := m.ballot.member
		if m.judge(); m.ballot.member == vote { // else that was said at once
			m.beatAll()
		}
	}
}

// lacksHolder reports whether this member is a beat away from judging that there is no holder.
func (m *Machine) lacksHolder() bool {
	if m.quorum() || m.active() || m.nextBeat == Never || !m.mayHerald() {
		return false
	}
	h := m.holder()
	switch {
	case h != nil:
		return m.state != wire.Init && m.now.Sub(h.lastHeard) >= m.cfg.Timing.patience()
	case m.state == wire.Init:
		return m.now >= m.listenUntil.Add(-m.cfg.Timing.Dead)
	}
	return false
}

// mayHerald reports whether a warning of ours would be heeded: the holder looks at those only that could take the role.
func (m *Machine) mayHerald() bool { return m.state != wire.Ready && !m.lockdown() }

// nextHerald is when herald has something to say or has been heard for long enough.
func (m *Machine) nextHerald() Instant {
	switch h := m.holder(); {
	case m.quorum() || m.active() || m.nextBeat == Never:
	case m.heralded != Never:
		d := Never
		if at := m.heralded.Add(m.cfg.Timing.Beat); at > m.now {
			d = at
		}
		if h != nil {
			if at := m.untoldAt(h); at > m.now {
				d = min(d, at)
			}
		}
		return d
	case !m.mayHerald():
	case h != nil:
		return h.lastHeard.Add(m.cfg.Timing.patience())
	case m.state == wire.Init:
		return m.listenUntil.Add(-m.cfg.Timing.Dead)
	}
	return Never
}

// untoldAt is since when neither the holder itself has been heard nor another member that hears it, for as long as makes a standby say that it is about to take
// the role: then the holder must not count on it that somebody will still say here that it lives.
func (m *Machine) untoldAt(h *peer) Instant {
	return max(h.lastHeard, h.heldAt).Add(m.cfg.Timing.patience())
}

// handedOver reports whether the last holder gave the role up by itself and no other member can have taken it since, so that nobody need be warned: it has
// named this one, or all others are heard or have said farewell. A member that is merely silent here may have taken the role and live.
func (m *Machine) handedOver() bool {
	p := m.peer(m.lastHolder)
	switch {
	case p == nil:
		return false
	case m.chosen() == m.cfg.Self:
		return true
	case p.alive && !p.view.Has(wire.Yielding), !p.alive && !p.left():
		return false
	}
	return !slices.ContainsFunc(m.others, func(o *peer) bool {
		return o != p && o.id <= MaxMembers && !o.alive && o.lastOn >= 0 && (!o.left() || o.rumourAt > o.lastHeard)
	})
}

// left reports whether a peer has said farewell and has not been heard since.
func (p *peer) left() bool { return !p.alive && p.departed != 0 && p.nonce == 0 }
