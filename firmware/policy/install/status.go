package install

import (
	"time"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
)

// UnsyncedPolicy is one line of policy unsynced.
type UnsyncedPolicy struct {
	artifact.Ref
	Missed    []string `json:"missed,omitempty"` // who did not get it, when that is known
	InForce   bool     `json:"in_force,omitempty"`
	Abandoned bool     `json:"abandoned,omitempty"` // the operator gave it up; it is kept for whoever wants it back
}

// Status is what the console shows of a member's policy.
type Status struct {
	InForce  artifact.Ref     `json:"in_force"` // zero: none, the member is closed
	Meta     artifact.Meta    `json:"meta,omitzero"`
	Under    *Transaction     `json:"under_way,omitempty"` // an install that this member is prepared for
	Confirm  *ConfirmStatus   `json:"confirm,omitempty"`
	History  []HistoryEntry   `json:"history"` // newest first
	Unsynced []UnsyncedPolicy `json:"unsynced,omitempty"`
	Damage   []string         `json:"damage,omitempty"` // found when the store was opened
	// Missed is what the cluster runs without this member, kept across restarts; nil: nothing.
	Missed *Missed `json:"missed,omitempty"`
	// Standing says whether this member may hold the role by its policy, and Why not.
	Standing Standing `json:"standing,omitzero"`
	// Recovery is what the recovery order came to last.
	Recovery string `json:"recovery,omitempty"`
	// Peers is what the other members say that they run.
	Peers []PeerPolicy `json:"peers,omitempty"`
	// Server is the management server; empty: there is none.
	Server string `json:"server,omitempty"`
	// Uninstalled: an operator took the policy out of force on this member.
	Uninstalled bool `json:"uninstalled,omitempty"`
}

// Standing of a member.
type Standing struct {
	Eligible bool   `json:"eligible"`
	Why      string `json:"why,omitempty"`
}

// PeerPolicy is the policy of another member, as its heartbeats say.
type PeerPolicy struct {
	Member   uint8  `json:"member"`
	Name     string `json:"name"`
	State    string `json:"state"`
	Revision uint64 `json:"revision,omitempty"` // 0: none
	Digest   string `json:"digest,omitempty"`   // its first eight bytes, in hexadecimal
}

// ConfirmStatus is a policy that goes back unless it is confirmed.
type ConfirmStatus struct {
	Transaction Transaction   `json:"transaction"`
	Previous    artifact.Ref  `json:"previous"`
	Remaining   time.Duration `json:"remaining_ns"`
}

// HistoryEntry is one stored policy.
type HistoryEntry struct {
	artifact.Ref
	Meta    artifact.Meta `json:"meta"`
	InForce bool          `json:"in_force,omitempty"`
	Refused string        `json:"refused,omitempty"`
}

// Status is what this member has.
func (n *Node) Status() Status {
	st := n.store().State()
	s := Status{InForce: st.Ref(), Unsynced: n.Unsynced(), Damage: n.store().Damage()}
	r := recordOf(&st)
	if r.Missed != (Missed{}) {
		s.Missed = &r.Missed
	}
	if r.Prepared != nil {
		s.Under = &r.Prepared.Transaction
	}
	if p := r.Pending; p != nil {
		s.Confirm = &ConfirmStatus{Transaction: p.Transaction, Previous: p.Previous, Remaining: p.Until.left(n.Now())}
	}
	for i := len(st.Entries) - 1; i >= 0; i-- {
		e := st.Entries[i]
		if e.Digest == st.Current {
			s.Meta = e.Meta
		}
		s.History = append(s.History, HistoryEntry{Ref: e.Ref, Meta: e.Meta, InForce: e.Digest == st.Current, Refused: e.Refused})
	}
	if n.Describe != nil {
		n.Describe(&s)
	}
	return s
}
