package install

import (
	"fmt"
	"slices"
	"strings"
)

// Step is what the coordinator wants of a member.
type Step int

// Steps.
const (
	DoPrepare Step = iota + 1
	DoDecide       // the coordinator itself: write the decision, then call Decided
	DoSwitch
	DoAbort
)

// Command is one step of one member.
type Command struct {
	Step   Step
	Member uint8
}

// Result of one member.
type Result struct {
	Member uint8  `json:"member"`
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"`
	// Prepared is set when the member has the policy on its disk and awaits the decision, or knows it.
	Prepared bool `json:"prepared,omitempty"`
}

// State of a member in an install.
type State string

// States of a member at the end.
const (
	Installed   State = "installed"
	Kept        State = "kept the old policy" // because of another member
	Rejected    State = "rejected"            // it keeps the old policy and is not eligible while others run the new one
	Busy        State = "busy"                // with another install, which may be over soon
	Unreachable State = "unreachable"
	Later       State = "switches later" // the install is decided, and the member was busy for too long
)

// Report is what an operator reads.
type Report struct {
	Transaction Transaction `json:"transaction"`
	Installed   bool        `json:"installed"` // on one member at least
	// Decided is set from when no member may keep the old policy but by its own fault: one that has prepared and does not run the new one yet will.
	Decided bool     `json:"decided,omitempty"`
	Members []Result `json:"members"`
}

// Missed are the members that do not run the new policy.
func (r Report) Missed() []string {
	var out []string
	for _, m := range r.Members {
		if m.State != Installed {
			out = append(out, fmt.Sprintf("member %d", m.Member))
		}
	}
	return out
}

// Open reports whether a member that does not run the new policy yet will do so by itself.
func (r Report) Open() bool {
	return r.Decided && slices.ContainsFunc(r.Members, func(m Result) bool { return m.State == Later || m.State == Unreachable && m.Prepared })
}

// rejecting are the members that were asked and do not run it.
func (r Report) rejecting() (out []uint8) {
	for _, m := range r.Members {
		if m.State == Rejected {
			out = append(out, m.Member)
		}
	}
	return out
}

// String is one line.
func (r Report) String() string {
	var parts []string
	for _, m := range r.Members {
		s := fmt.Sprintf("member %d %s", m.Member, m.State)
		if m.Reason != "" {
			s += " (" + m.Reason + ")"
		}
		parts = append(parts, s)
	}
	return fmt.Sprintf("%s: %s", r.Transaction.Policy, strings.Join(parts, ", "))
}

// Coordinator is one install. It is pure: each answer gives the next commands, and there are none left at the end.
//
// The first member prepares alone, in the order of the IDs: it is the lock that two operators contend for.
type Coordinator struct {
	tx       Transaction
	partial  bool // go on without members that do not answer or reject
	waiting  []uint8
	queue    []uint8 // not asked yet
	results  map[uint8]Result
	prepared []uint8
	decided  bool
}

// NewCoordinator makes one. partial lets the install go on without members that are unreachable or reject.
func NewCoordinator(tx Transaction, partial bool) (*Coordinator, []Command) {
	c := &Coordinator{tx: tx, partial: partial, queue: slices.Clone(tx.Members), results: map[uint8]Result{}}
	return c, c.ask(1)
}

func (c *Coordinator) ask(n int) (out []Command) {
	for _, m := range c.queue[:n] {
		c.waiting = append(c.waiting, m)
		out = append(out, Command{DoPrepare, m})
	}
	c.queue = c.queue[n:]
	return out
}

func (c *Coordinator) answered(member uint8) bool {
	i := slices.Index(c.waiting, member)
	if i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
	}
	return i >= 0
}

// Prepared gives a member's answer to DoPrepare: nil, or why not, and what that makes of it.
func (c *Coordinator) Prepared(member uint8, err error, state State) []Command {
	if !c.answered(member) {
		return nil
	}
	if err == nil {
		c.prepared = append(c.prepared, member)
	} else {
		c.results[member] = Result{Member: member, State: state, Reason: err.Error()}
	}
	failed := len(c.results) > 0
	switch {
	case failed && (!c.partial || member == c.tx.Coordinator):
		c.queue = nil // nobody else needs to try
	case len(c.queue) > 0 && len(c.prepared) == 0:
		return c.ask(1)
	case len(c.queue) > 0:
		return c.ask(len(c.queue))
	}
	if len(c.waiting) > 0 {
		return nil
	}
	if !failed || c.partial && slices.Contains(c.prepared, c.tx.Coordinator) {
		return []Command{{DoDecide, c.tx.Coordinator}}
	}
	return c.each(DoAbort)
}

func (c *Coordinator) each(s Step) (out []Command) {
	slices.Sort(c.prepared)
	for _, m := range c.prepared {
		out = append(out, Command{s, m})
		if s == DoSwitch {
			c.waiting = append(c.waiting, m)
		}
	}
	return out
}

// Decided says whether the decision is on the disk.
func (c *Coordinator) Decided(err error) []Command {
	if err != nil {
		c.results[c.tx.Coordinator] = Result{Member: c.tx.Coordinator, State: Rejected, Reason: err.Error()}
		return c.each(DoAbort)
	}
	c.decided = true
	return c.each(DoSwitch)
}

// Switched gives a member's answer to DoSwitch.
func (c *Coordinator) Switched(member uint8, err error, state State) {
	if !c.answered(member) {
		return
	}
	switch {
	case err == nil:
		c.results[member] = Result{Member: member, State: Installed}
	case state == Busy:
		c.results[member] = Result{member, Later, err.Error() + "; it has prepared, and switches as soon as it can", true}
	case state == Unreachable:
		c.results[member] = Result{member, state, err.Error() + "; it had prepared, and learns the decision when it is back", true}
	default:
		c.results[member] = Result{Member: member, State: state, Reason: err.Error()}
	}
}

// Report is the result so far.
func (c *Coordinator) Report() Report {
	r := Report{Transaction: c.tx, Decided: c.decided}
	for _, m := range c.tx.Members {
		res, ok := c.results[m]
		if !ok {
			res = Result{Member: m, State: Kept}
		}
		r.Installed = r.Installed || res.State == Installed
		r.Members = append(r.Members, res)
	}
	return r
}
