package cluster

import (
	"slices"

	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// beat sends what is due in the schedule. A late member does not send the missed ones.
func (m *Machine) beat() {
	if m.now < m.nextBeat || m.nextBeat == Never {
		return
	}
	if len(m.slots) == 0 {
		m.nextBeat = m.now.Add(m.cfg.Timing.Beat)
		return
	}
	m.send(m.slots[m.slot])
	m.slot = (m.slot + 1) % len(m.slots)
	step := m.cfg.Timing.Beat / time.Duration(len(m.slots))
	m.nextBeat = m.nextBeat.Add(step)
	if m.nextBeat <= m.now {
		m.nextBeat = m.now.Add(step)
	}
}

// beatAll sends one heartbeat on every interface at once, for news that must not wait.
func (m *Machine) beatAll() {
	for i := range m.cfg.Interfaces {
		if m.cfg.Interfaces[i].Heartbeat {
			m.send(i)
		}
	}
	m.nextBeat = m.now.Add(m.cfg.Timing.Beat / time.Duration(max(len(m.slots), 1)))
}

func (m *Machine) send(iface int) {
	m.seq++
	m.sent[m.seq%sentRing] = m.now
	b := m.compose(iface)
	by := Never
	b.Seq, b.Heard = m.seq, m.echo(iface)
	routed := m.cfg.Interfaces[iface].Routed
	switch {
	case routed:
	case m.now == m.orderAt:
		b.Order = m.order
	case m.active():
		b.Order = wire.Keep
	}
	if m.active() && !routed {
		m.lastHold, by = m.now, m.mandate()
	}
	m.emit(Send{Interface: iface, Beat: b, By: by})
}

// beats reports whether any heartbeat of ours leaves by an interface with a gate.
func (m *Machine) beats() bool {
	for i := range m.cfg.Interfaces {
		if f := &m.cfg.Interfaces[i]; f.Heartbeat && !f.Routed {
			return true
		}
	}
	return false
}

// compose is a heartbeat without its sequence and without whom it hears.
func (m *Machine) compose(iface int) wire.Beat {
	f := &m.cfg.Interfaces[iface]
	b := wire.Beat{
		Version: wire.Version, Cluster: m.cfg.Cluster, Member: m.cfg.Self, State: m.state, Interface: f.Number,
		Nonce: m.cfg.Nonce, Term: m.term, Demotion: m.demotion(), Priority: m.priority(), NN: f.NN,
		Connections: m.connections, Serial: m.cfg.Serial, Vote: m.ballot.member,
		PolicyRevision: m.policy.Revision, PolicyDigest: m.policy.Digest,
	}
	set := func(on bool, fl wire.Flags) {
		if on {
			b.Flags |= fl
		}
	}
	set(m.active(), wire.Holder)
	set(f.Sync, wire.SyncIf)
	set(m.inSync || m.active(), wire.InSync) // the active member is what the others are compared to
	set(m.now < m.yieldUntil, wire.Yielding)
	set(m.now < m.claimUntil, wire.Claiming)
	set(m.now < m.cededUntil, wire.Ceded)
	set(m.heralded != Never, wire.Bidding)
	if m.bid.on { // what the others judge the bid by does not change while it stands
		set(true, wire.Bidding)
		b.Demotion, b.Connections = m.bid.merit.demotion, m.bid.merit.connections
	}
	if m.now < m.yieldUntil {
		b.Successor = m.successorID
	}
	return b
}

// echo is whom this member hears: the newest heartbeat of each, by whichever interface it came, for what goes out by one may be the only way to somebody who
// hears the sender no longer. After them come boots that have not proved themselves: the one heard on this interface, or else the one
// heard last on any. One of a member that is silent otherwise takes its place, so that there is room for it; beside members that are heard it may be a
// recording, and has what room is left.
func (m *Machine) echo(iface int) []wire.Heard {
	start := len(m.told)
	for _, p := range m.others {
		if p.nonce != 0 && (p.alive || m.newcomer(p, iface) == nil) {
			m.told = append(m.told, wire.Heard{Member: p.id, Nonce: p.nonce, Seq: p.view.Seq})
		}
	}
	for _, p := range m.others {
		if h := m.newcomer(p, iface); h != nil && len(m.told)-start < wire.MaxHeard {
			m.told = append(m.told, *h)
		}
	}
	return m.told[start:len(m.told):len(m.told)]
}

// newcomer is the boot of a peer that wants to prove itself, as far as it was heard: on an interface, or else on any of late. Nil if there is none.
func (m *Machine) newcomer(p *peer, iface int) *wire.Heard {
	if h := &p.heard[iface]; p.mayProve(h.nonce) {
		return &wire.Heard{Member: p.id, Nonce: h.nonce, Seq: h.seq}
	}
	if p.mayProve(p.newcomer.Nonce) && m.now.Sub(p.newcomerAt) < m.cfg.Timing.Dead {
		return &p.newcomer
	}
	return nil
}

// mayProve reports whether a nonce is that of a boot which has not proved itself, and could yet.
func (p *peer) mayProve(nonce uint64) bool {
	return nonce != 0 && nonce != p.nonce && !slices.Contains(p.retired, nonce)
}

// Farewell is the last heartbeat of this boot for one interface. It is valid whenever it is sent: the
// supervisor sends it for a member that died (init/supervise, ha/member).
func (m *Machine) Farewell(iface int) wire.Beat {
	b := m.compose(iface)
	b.Flags = wire.Farewell | b.Flags&wire.SyncIf
	b.State, b.Seq, b.Order = wire.Down, wire.FinalSeq, wire.Drain
	return b
}
