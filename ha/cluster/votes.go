package cluster

import (
	"slices"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// Votes is a snapshot of who supports whom, for status displays.
type Votes struct {
	Needed   bool   // the role needs a majority
	Voters   int    // members and witnesses
	Majority int    // of them
	Support  int    // votes for this member that count now, its own included; 0 while it supports somebody else
	Missing  string // whose votes are missing and why, for people
	Own      uint8  // whom this member supports, 0: nobody
	Forced   bool   // the operator gave it the role without a majority
	Locked   string // why the role is not given back by itself; empty: it is not locked
	// Peers is whom the others support as they say, by member and witness ID; 0: nobody, or not heard now.
	Peers     [MaxID + 1]uint8
	Witnesses []PeerView
}

// Votes takes a snapshot.
func (m *Machine) Votes() Votes {
	v := Votes{
		Needed: m.quorum(), Voters: m.voters(), Majority: m.voters()/2 + 1, Own: m.ballot.member, Forced: m.forced, Locked: m.locked,
	}
	if v.Needed && !m.witness() {
		v.Missing = m.silentPeers()
		if v.Own == m.cfg.Self || m.active() {
			v.Support = m.supporters()
		}
	}
	for _, p := range m.peers {
		if p != nil && p.alive {
			v.Peers[p.id] = p.view.Vote
		}
	}
	for _, c := range m.cfg.Witnesses {
		p := m.peers[c.ID]
		if p == nil {
			continue
		}
		w := PeerView{ID: p.id, Name: c.Name, Alive: p.alive, State: wire.Lost, Term: p.view.Term, Heard: p.lastOn >= 0, LastHeard: p.lastHeard, LastOn: p.lastOn, Gone: p.gone}
		if p.alive {
			w.State = p.view.State
		}
		v.Witnesses = append(v.Witnesses, w)
	}
	return v
}

// Changes counts the changes of the holder, as [View.Count] does.
func (m *Machine) Changes() uint64 { return m.count }

// SetPriority changes a member's priority without a restart. It reports false, and changes nothing, while this member
// bids for the role: what a bid is judged by does not change while it stands.
func (m *Machine) SetPriority(id, priority uint8) bool {
	if m.bid.on || m.heralded != Never {
		return false
	}
	m.cfg.Members = slices.Clone(m.cfg.Members)
	for i := range m.cfg.Members {
		if m.cfg.Members[i].ID == id {
			m.cfg.Members[i].Priority = priority
		}
	}
	if p := m.peer(id); p != nil {
		p.priority = priority
	}
	return true
}

// Remove forgets a member that has been stopped for good, without a restart of this one: it has no vote any more. It
// reports false, and changes nothing, while that member is alive or this one bids for the role. As with a restart, it must
// not come back before every other member has forgotten it too.
func (m *Machine) Remove(id uint8) bool {
	p := m.peer(id)
	if id > MaxMembers || p == nil || p.alive || m.bid.on || m.heralded != Never {
		return false
	}
	if m.ballot.member == id {
		m.cast(0, p.lastHeard.Add(m.cfg.Timing.Dead))
	}
	m.peers[id], m.holderKnown = nil, false
	m.others = slices.DeleteFunc(m.others, func(o *peer) bool { return o == p }) // its farewell counts for nothing any more
	m.cfg.Members = slices.DeleteFunc(slices.Clone(m.cfg.Members), func(c Member) bool { return c.ID == id })
	return true
}
