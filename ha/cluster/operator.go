package cluster

import (
	"fmt"

	"github.com/twinkeep/twinkeep/ha/wire"
)

func (m *Machine) activate() {
	switch {
	case m.active():
		m.reply(true, "this member is already active")
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
			m.reply(false, fmt.Sprintf("%s is not a peer that is alive, fit and on standby; this member stays active", m.name(in.To)))
			return
		}
	}
	if s == nil {
		m.reply(false, "no peer is alive, fit and on standby; this member stays active")
		return
	}
	m.reply(true, fmt.Sprintf("handing over to %s", m.name(s.id)))
	m.release(s.id, "the operator moved the role to "+m.name(s.id))
	m.awayUntil = m.now.Add(DefaultAway)
	if in.For > 0 {
		m.awayUntil, m.backAt = m.now.Add(in.For), m.now.Add(in.For)
	}
}

func (m *Machine) leave() {
	if m.active() {
		m.log(Notice, EvReleased, "this member is leaving")
	}
	m.enter(wire.Down, "this member is leaving")
	for i, f := range m.cfg.Interfaces {
		if f.Heartbeat {
			m.emit(Send{Interface: i, Beat: m.Farewell(i)})
		}
	}
	m.listenUntil, m.nextBeat = Never, Never
}
