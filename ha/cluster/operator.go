package cluster

import (
	"fmt"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

func (m *Machine) activate(in Activate) {
	switch {
	case m.active():
		m.reply(true, "this member is already active")
	case m.witness():
		m.reply(false, "a witness only judges, it cannot hold the role")
	case in.Force && m.quorum() && m.mayTake() && m.state != wire.Init && m.holder() == nil && m.heldElsewhere() == nil:
		m.reply(true, "taking the role without a majority")
		m.forced = true // before its first heartbeats are handed out: no majority's support ends for them
		m.take("the operator forced it without a majority")
		m.judge()
	case in.Force && m.holder() != nil:
		m.reply(false, fmt.Sprintf("%s is active and heard: it is asked to hand over, force is not needed", m.name(m.holder().id)))
	case m.state == wire.Init:
		m.reply(false, "this member is still listening after its start; try again when it is STANDBY")
	default:
		m.claimUntil = m.now.Add(10 * m.cfg.Timing.Dead)
		m.yieldUntil = m.now
		m.nextBeat = m.now
		m.reply(true, "asking the active member to hand over; see 'ha'")
	}
}

func (m *Machine) deactivate(in Deactivate) {
	if !m.active() {
		m.reply(true, "this member is not active ("+m.state.String()+")")
		return
	}
	s := m.successor()
	if in.To != 0 {
		if s = nil; in.To != m.cfg.Self && in.To <= MaxMembers && m.peers[in.To] != nil && m.fitToSucceed(m.peers[in.To]) {
			s = m.peers[in.To]
		}
		if s == nil {
			m.reply(false, fmt.Sprintf("%s: %s; this member stays active", m.name(in.To), m.whyNot(m.peer(in.To))))
			return
		}
	}
	if s == nil {
		why := make([]string, len(m.others))
		for i, p := range m.others {
			why[i] = m.name(p.id) + ": " + m.whyNot(p)
		}
		m.reply(false, fmt.Sprintf("no peer can take over (%s); this member stays active", strings.Join(why, "; ")))
		return
	}
	m.reply(true, fmt.Sprintf("handing over to %s", m.name(s.id)))
	m.handOver(s.id, "the operator moved the role to "+m.name(s.id), handover{away: DefaultAway, back: in.For})
}

// handover is a planned change of the role that has begun.
type handover struct {
	to    uint8 // 0: none
	why   string
	until Instant
	// away is for how long this member does not ask for the role back in mode primary-up; back, if not 0, after which
	// time it asks for it in any mode, and away is the same then.
	away, back time.Duration
}

// handOver gives the role to a member, when that has every connection.
func (m *Machine) handOver(to uint8, why string, h handover) {
	if m.handover.to != 0 {
		return
	}
	h.to, h.why, h.until = to, why, m.now
	m.handover = h
	if m.cfg.Barrier {
		m.handover.until = m.now.Add(BarrierPatience)
		m.emit(Barrier{Successor: to})
		return
	}
	m.finishHandover()
}

// finishHandover gives the role away when the barrier is passed.
func (m *Machine) finishHandover() {
	h := m.handover
	if h.to == 0 || m.now < h.until {
		return
	}
	m.handover = handover{}
	if p := m.peer(h.to); p == nil || !m.fitToSucceed(p) {
		m.log(Warning, EvReleased, fmt.Sprintf("%s cannot take the role any more; this member keeps it", m.name(h.to)))
		return
	}
	m.release(h.to, h.why)
	if h.back > 0 {
		m.backAt, h.away = m.now.Add(h.back), h.back
	}
	m.awayUntil = m.now.Add(h.away)
}

func (m *Machine) leave() {
	if m.active() {
		m.log(Notice, EvReleased, "this member is leaving")
	}
	m.enter(wire.Down, "this member is leaving")
	for i, f := range m.cfg.Interfaces {
		if f.Heartbeat {
			b := m.Farewell(i)
			b.Flags |= wire.Yielding // it goes by its own decision
			m.emit(Send{Interface: i, Beat: b, By: Never})
		}
	}
	m.listenUntil, m.nextBeat = Never, Never
}

// setLock is called when the role was taken: unplanned, it stays until the operator says otherwise.
func (m *Machine) setLock(why string) {
	if m.cfg.Lock {
		m.locked = why
		m.log(Warning, EvLock, "the role stays here until 'cluster clear-lock': "+why)
	}
}

func (m *Machine) unlock(why string) {
	if m.locked != "" {
		m.locked = ""
		m.log(Notice, EvLock, "the lock is gone: "+why)
	}
}

func (m *Machine) clearLock() {
	if m.locked == "" {
		m.reply(true, "there is no lock")
		return
	}
	m.unlock("the operator cleared it")
	m.reply(true, "the lock is cleared")
}

// setSync takes in whether the connection table equals the active member's.
func (m *Machine) setSync(in SyncState) {
	if m.inSync != in.InSync {
		m.inSync = in.InSync
		severity, text := Notice, "in sync"
		if !in.InSync {
			severity, text = Warning, "not in sync: "+in.Text
		}
		m.log(severity, EvSync, text)
	}
	m.reply(true, "")
}

// busyDead is the factor by which a member with saturated CPUs is slower to take others for dead, and busyLimit for how
// long at most. A second line: real-time scheduling is the first, and the gate needs neither.
const (
	busyDead  = 2
	busyLimit = 10 * time.Second
)

func (m *Machine) setBusy(on bool) {
	if on && !m.busy {
		m.busySince = m.now
	}
	m.busy = on
}

// dead is after which silence a peer is taken for dead.
func (m *Machine) dead() time.Duration {
	if m.busy && m.now.Sub(m.busySince) < busyLimit {
		return busyDead * m.cfg.Timing.Dead
	}
	return m.cfg.Timing.Dead
}

// watch changes how an interface is used.
func (m *Machine) watch(in Watch) {
	if in.Interface < 0 || in.Interface >= len(m.links) {
		m.reply(false, "there is no such interface")
		return
	}
	f := &m.cfg.Interfaces[in.Interface]
	beats := 0
	for i, g := range m.cfg.Interfaces {
		if g.Heartbeat && !g.Routed && i != in.Interface {
			beats++
		}
	}
	if !in.Heartbeat && beats == 0 {
		m.reply(false, "no other interface carries heartbeats: without them the peers cannot see this member, and no gate can be open")
		return
	}
	f.Heartbeat, m.links[in.Interface].ignored = in.Heartbeat, !in.Monitored
	m.slots, m.slot = m.cfg.schedule(), 0
	m.log(Notice, EvLink, fmt.Sprintf("interface %s: heartbeats %s, monitoring %s, by the operator", f.Name, onOff(in.Heartbeat), onOff(in.Monitored)))
	m.reply(true, fmt.Sprintf("interface %s: heartbeats %s, monitoring %s", f.Name, onOff(in.Heartbeat), onOff(in.Monitored)))
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// whyNot says why a peer cannot take over from this member.
func (m *Machine) whyNot(p *peer) string {
	switch {
	case p == nil:
		return "there is no such peer"
	case p.id > MaxMembers:
		return "a witness"
	case !p.alive:
		return "not heard"
	case p.view.State != wire.Standby && p.view.State != wire.Down:
		return "it is " + p.view.State.String()
	case !p.view.Has(wire.InSync):
		return "not in sync with this member yet, see 'sync'"
	case p.view.Has(wire.Yielding):
		return "it has just given the role away"
	}
	return fmt.Sprintf("less fit than this member (demotion %d, here %d)", p.view.Demotion, m.demotion())
}
