package sim

import (
	"slices"

	"github.com/twinkeep/twinkeep/ha/cluster"
)

// prefer is the operator's change of a member's priority on every member and witness.
func (w *World) prefer(id, priority uint8) {
	for _, n := range w.Nodes {
		n.Config.Members = slices.Clone(n.Config.Members)
		for i := range n.Config.Members {
			if n.Config.Members[i].ID == id {
				n.Config.Members[i].Priority = priority
			}
		}
		n.adapt(func(m *cluster.Machine) bool { return m.SetPriority(id, priority) })
	}
}

// forget is the operator's removal of a member that has been stopped for good: on one of the others after the other. A
// member that stands still instead of having stopped is switched off before.
func (w *World) forget(gone *Node) {
	if gone.Machine != nil {
		gone.PowerCut()
	}
	for _, n := range w.Nodes {
		if n == gone {
			continue
		}
		w.After(w.upTo(3*w.timing.Dead), func() {
			n.Config.Members = slices.DeleteFunc(slices.Clone(n.Config.Members), func(c cluster.Member) bool { return c.ID == gone.ID })
			n.adapt(func(m *cluster.Machine) bool { return m.Remove(gone.ID) })
		})
	}
}

// tries is how often a change is tried at a member that bids for the role or takes the removed one for alive.
const tries = 20

// adapt changes what a running machine knows of the members, as ha/member does; one that starts later reads it in its
// configuration.
func (n *Node) adapt(change func(*cluster.Machine) bool) {
	left, boots := tries, n.boots
	var try func()
	try = func() {
		if n.Machine == nil || n.boots != boots {
			return
		}
		if left--; n.resume > n.w.Now || n.next < len(n.todo) || !change(n.Machine) {
			if left > 0 {
				n.w.After(n.w.timing.Dead/2, try)
			}
			return
		}
		n.w.disturb()
		n.due = n.Machine.Deadline()
		n.wake()
	}
	try()
}
