package sim

import (
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// Moment names an instant at which trouble is worse than at others.
type Moment string

// Moments.
const (
	OnActive  Moment = "active"  // an active member sends a heartbeat
	OnRelease Moment = "release" // a member says for the first time that it gives the role away
	OnBid     Moment = "bid"     // a member says for the first time that it is about to take the role
	OnVote    Moment = "vote"    // a member or witness changes its vote
	OnOpen    Moment = "open"    // a member opens its gate
	OnShut    Moment = "shut"    // a member shuts its gate or lets it drain
	OnBrink   Moment = "brink"   // the majority's support of an active member ends within two heartbeats
)

// momentPatience is for how many dead times a fault waits for its moment.
const momentPatience = 5

// sudden are kinds that can begin in the middle of what a process does.
var sudden = []Kind{Cut, Partition, Isolate, Crash, PowerCut, Pause, PauseBox, Freeze}

// await lets a fault wait for its moment.
func (w *World) await(f *Fault) {
	w.awaited = append(w.awaited, f)
	w.After(momentPatience*w.timing.Dead, func() {
		if i := slices.Index(w.awaited, f); i >= 0 {
			w.awaited = slices.Delete(w.awaited, i, i+1)
			w.meet(f, w.Nodes[0])
		}
	})
}

// meet lets a fault begin whose moment has come, by what n does.
func (w *World) meet(f *Fault, n *Node) {
	if f.Member == 0 && !f.anywhere() {
		if n.ID > maxMember && !slices.Contains(ofWitness, f.Kind) || n.ID == f.Peer {
			n = w.Nodes[0]
		}
		if f.Member = n.ID; f.Peer == f.Member {
			f.Peer = w.Nodes[1].ID
		}
	}
	if f.Lag == 0 && slices.Contains(sudden, f.Kind) {
		w.strike(f)
		return
	}
	w.After(time.Duration(f.Lag), func() { w.strike(f) })
}

// spring finds the faults that wait for what a member is about to do, and reports whether there was one.
func (n *Node) spring(a cluster.Action) (hit bool) {
	s, ok := a.(cluster.Send)
	if !ok {
		return false
	}
	for i := 0; i < len(n.w.awaited); i++ {
		if f := n.w.awaited[i]; n.at(f.On, &s) {
			n.w.awaited = slices.Delete(n.w.awaited, i, i+1)
			i--
			n.w.meet(f, n)
			hit = true
		}
	}
	return hit
}

// at reports whether a moment has come when a heartbeat leaves.
func (n *Node) at(m Moment, s *cluster.Send) bool {
	b := &s.Beat
	first := func(f wire.Flags) bool { return b.Has(f) && !n.said.Has(f) }
	switch m {
	case OnActive:
		return b.Order == wire.Keep
	case OnRelease:
		return first(wire.Yielding)
	case OnBid:
		return first(wire.Bidding)
	case OnVote:
		return b.Vote != n.said.Vote
	case OnOpen:
		return b.Order == wire.Open
	case OnShut:
		return b.Order == wire.Shut || b.Order == wire.Drain
	case OnBrink:
		return b.Order == wire.Keep && n.w.quorum && n.w.mandate(n).Sub(n.w.Now) < 2*n.w.timing.Beat
	}
	return false
}

// mandate is until when an active member may keep the role by what the network has carried, whatever the member thinks: a
// vote counts for dead - lease - beat after the heartbeat that its voter heard last was sent (ha/cluster, Quorum).
func (w *World) mandate(n *Node) cluster.Instant {
	var heard []cluster.Instant
	for _, v := range w.Nodes {
		if v != n {
			heard = append(heard, w.path[n.ID][v.ID].newest)
		}
	}
	slices.Sort(heard)
	voters := len(w.Nodes)
	need := voters - (voters/2 + 1) // besides itself
	if need == 0 {
		return cluster.Never
	}
	return heard[len(heard)-need].Add(w.timing.Dead - w.timing.Lease - w.timing.Beat)
}
