package member

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
)

// Change is one change of the role as this member saw it, with the evidence at that moment. Ages in it are from the
// change backwards.
type Change struct {
	Ago    Duration `json:"ago"`
	What   string   `json:"what"` // "gw-b became active", "gw-a gave up the role"
	Reason string   `json:"reason"`
	Term   uint64   `json:"term"`
	State  string   `json:"state"` // of this member afterwards
	// Problems of this member, critical devices among them.
	Problems []string       `json:"problems,omitempty"`
	Peers    []PeerEvidence `json:"peers"`
	Quorum   *QuorumStatus  `json:"quorum,omitempty"`
	Timing   TimingStatus   `json:"timing"`
}

// PeerEvidence is what was known of one other member, or witness, at a change.
type PeerEvidence struct {
	Member   uint8    `json:"member"`
	Name     string   `json:"name"`
	State    string   `json:"state"` // LOST when silent
	Demotion uint16   `json:"demotion"`
	Last     Duration `json:"last"` // how old its newest heartbeat was, -1ns if there never was one
	On       string   `json:"on"`   // where that arrived
	Vote     string   `json:"vote,omitempty"`
	Gone     string   `json:"gone,omitempty"`
}

// maxChanges is how many are kept.
const maxChanges = 32

// changeLog is the newest changes of the role.
type changeLog struct {
	count uint64
	held  bool
	list  []kept
}

type kept struct {
	at cluster.Instant
	Change
}

// recordChange looks after every step whether the role has changed hands.
func (m *Member) recordChange(now cluster.Instant) {
	count, held := m.machine.Changes(), m.machine.Holds()
	c := &m.changes
	if count == c.count && held == c.held {
		return
	}
	v := m.machine.View()
	ch := Change{State: v.State.String(), Term: v.Term, Problems: v.Problems, Reason: v.Reason, Timing: m.timing(), Quorum: m.quorum()}
	switch {
	case count != c.count && len(v.Failovers) > 0:
		f := v.Failovers[len(v.Failovers)-1]
		ch.What, ch.Reason, ch.Term = m.name(f.Holder)+" became active", f.Reason, f.Term
	case held:
		ch.What = m.name(m.cfg.Self) + " became active"
	default:
		ch.What = m.name(m.cfg.Self) + " gave up the role"
	}
	c.count, c.held = count, held
	votes := m.machine.Votes()
	for _, p := range append(v.Peers, votes.Witnesses...) {
		e := PeerEvidence{Member: p.ID, Name: m.name(p.ID), State: p.State.String(), Demotion: p.Demotion, Last: -1, On: m.interfaceName(p.LastOn), Gone: p.Gone}
		if p.Heard {
			e.Last = Duration(now.Sub(p.LastHeard))
		}
		if w := votes.Peers[p.ID]; w != 0 && votes.Needed {
			e.Vote = m.name(w)
		}
		ch.Peers = append(ch.Peers, e)
	}
	c.list = append(c.list, kept{now, ch})
	if n := len(c.list) - maxChanges; n > 0 {
		c.list = slices.Delete(c.list, 0, n)
	}
}

// Changes are the newest changes of the role, newest first.
func (m *Member) Changes() ([]Change, error) {
	out := []Change{}
	ok := m.do(func() {
		for _, k := range slices.Backward(m.changes.list) {
			k.Ago = Duration(m.now().Sub(k.at))
			out = append(out, k.Change)
		}
	})
	if !ok {
		return nil, ErrStopped
	}
	return out, nil
}

func (m *Member) timing() TimingStatus {
	t := m.cfg.Timing
	return TimingStatus{Beat: Duration(t.Beat), Lease: Duration(t.Lease), Dead: Duration(t.Dead), Silence: Duration(t.Silence)}
}

// quorum is nil where the role needs no majority.
func (m *Member) quorum() *QuorumStatus {
	v := m.machine.Votes()
	if !v.Needed {
		return nil
	}
	return &QuorumStatus{Voters: v.Voters, Majority: v.Majority, Support: v.Support, Vote: v.Own, Missing: v.Missing, Safety: m.cfg.Safety, Forced: v.Forced}
}

// addVotes adds to a status who supports whom.
func (m *Member) addVotes(s *Status, age func(bool, cluster.Instant) Duration) {
	v := m.machine.Votes()
	s.Quorum, s.Lock, s.Locked = m.quorum(), m.cfg.Lock, v.Locked
	for i := range s.Peers {
		s.Peers[i].Vote = v.Peers[s.Peers[i].Member]
	}
	for _, w := range v.Witnesses {
		s.Witnesses = append(s.Witnesses, WitnessStatus{Member: w.ID, Name: w.Name, Alive: w.Alive, State: w.State.String(), Vote: v.Peers[w.ID],
			LastHeard: age(w.Heard, w.LastHeard), LastOn: m.interfaceName(w.LastOn), Differs: m.differs.text(w.ID)})
	}
}

// ClearLock lets the role be given back (`cluster clear-lock`).
func (m *Member) ClearLock() (Reply, error) { return m.ask(cluster.ClearLock{}) }

// Sync says whether the connection table equals the active member's.
func (m *Member) Sync(in bool, text string) (Reply, error) {
	return m.ask(cluster.SyncState{InSync: in, Text: text})
}

// Busy says whether this box's CPUs are saturated.
func (m *Member) Busy(on bool) { m.do(func() { m.step(cluster.Busy(on)) }) }

// Watch changes until the next start how an interface is used: whether it carries heartbeats, and whether its carrier
// counts. Nil leaves it.
func (m *Member) Watch(name string, heartbeat, monitor *bool) (r Reply, err error) {
	ok := m.do(func() {
		i := slices.IndexFunc(m.ports, func(p *portState) bool { return p.Name == name })
		if i < 0 {
			r = Reply{Message: fmt.Sprintf("there is no interface %q", name)}
			return
		}
		p := m.ports[i]
		w := cluster.Watch{Interface: i, Heartbeat: p.Heartbeat, Monitored: !p.unmonitored}
		if heartbeat != nil {
			w.Heartbeat = *heartbeat
		}
		if monitor != nil {
			w.Monitored = *monitor
		}
		m.step(w)
		if r = m.reply; r.OK {
			p.Heartbeat, p.unmonitored = w.Heartbeat, !w.Monitored
			if err := m.writeFarewell(); err != nil {
				m.log.Warn("the supervisor cannot say farewell for this process", "err", err)
			}
		}
	})
	if !ok {
		return r, ErrStopped
	}
	return r, nil
}

// SetPriority changes the priority of member id, 1..8, without a restart.
func (m *Member) SetPriority(id, priority uint8) error {
	ok, err := m.adapt(func() bool { return m.machine.SetPriority(id, priority) }, id, priority)
	if err == nil && !ok {
		err = errors.New("this member is taking the role; try again")
	}
	return err
}

// Remove forgets member id, which must not be alive, without a restart.
func (m *Member) Remove(id uint8) error {
	ok, err := m.adapt(func() bool { return m.machine.Remove(id) }, id, 0)
	if err == nil && !ok {
		err = fmt.Errorf("%s is alive, or this member is taking the role; shut it down first", m.name(id))
	}
	return err
}

// adapt changes what the node file says of a member while this one runs. While it bids for the role, nothing changes.
func (m *Member) adapt(change func() bool, id, priority uint8) (done bool, err error) {
	for range 20 {
		if !m.do(func() {
			if done = change(); done {
				m.ours.priorities[id-1] = priority
				m.settings = appendSettings(nil, m.ours)
			}
		}) {
			return false, ErrStopped
		}
		if done {
			break
		}
		time.Sleep(m.cfg.Timing.Dead / 2)
	}
	return done, nil
}
