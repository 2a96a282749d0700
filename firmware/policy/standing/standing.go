// Package standing decides whether a member may hold the role by the policy it runs, and when it should go through the
// recovery order again. It is pure.
//
// What the active member runs is what the cluster runs; while nobody is active, it is the newest that a member is heard
// to run. A member that runs something else is not eligible, and stays so until it runs that or something newer, also
// when whoever ran it is gone: an older policy fails closed.
package standing

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Times.
const (
	// Patience is for how long the member may differ: an install switches the members one after the other.
	Patience = 2 * time.Second
	// Company is how long a member that has just begun to run a policy waits for peers that are still looking for theirs.
	Company = 3 * time.Second
	fresh   = 3 * time.Second
)

// Mark is a policy as heartbeats tell it; zero: none.
type Mark struct {
	Revision uint64
	Digest   string // first eight bytes, in hexadecimal
}

// String names it for people.
func (m Mark) String() string { return fmt.Sprintf("revision %d (%.8s)", m.Revision, m.Digest) }

// Peer is another member as it is heard.
type Peer struct {
	Name   string
	Active bool // it says that it holds the role
	Idle   bool // it says that it cannot: it may still be looking for its policy
	// Refused: it was asked to run what this member runs, and does not.
	Refused bool
	Heard   time.Duration // ago; negative: never
	Mark
}

// Input is what is known now.
type Input struct {
	Now  time.Duration // monotonic
	Ours Mark          // in force; zero: none
	Why  string        // there is none
	Hold string        // why the member waits for its operator; empty: it does not
	// Deaf: it is not known what the others are doing.
	Deaf      bool
	Holder    bool // this member holds the role
	Switching Mark // prepared here by an install; zero: none
	Left      Mark // what the others run without this member, which rejected it; zero: nothing
	Peers     []Peer
}

// Verdict is the decision.
type Verdict struct {
	Eligible bool
	Why      string // not
	// Recover: the recovery order may bring something else than the last time.
	Recover bool
}

// Machine remembers what the members ran. The zero value is that of a member that has just begun.
type Machine struct {
	begun, settled bool
	since          time.Duration // of the policy, or of the last Unsettle
	listen         time.Duration
	ours           Mark
	differs        time.Duration // since when
	differing      bool
	missed         Mark // the cluster ran this, and this member does not
	forgiven       Mark // of Left
	who            string
	held           string // whom it waited beside, and what they ran
	holding        bool
}

// Unsettle makes the member wait, for listen at least, until it knows what the others run: its HA settings have changed,
// and it may not hear those with other timings well.
func (m *Machine) Unsettle(now, listen time.Duration) {
	m.settled, m.since, m.listen = false, now, listen
}

// Missed is what the cluster runs, or ran, and this member does not, and who was heard to run it: something newer than what
// runs here. Zero: nothing. Whoever keeps it on a disk gives it back with [Machine.Recall].
func (m *Machine) Missed() (missed Mark, who string) {
	if m.missed.Revision <= m.ours.Revision {
		return Mark{}, ""
	}
	return m.missed, m.who
}

// Recall tells a machine that has just begun what its member had missed before it was restarted.
func (m *Machine) Recall(missed Mark, who string) { m.missed, m.who = missed, who }

// Step decides.
func (m *Machine) Step(in Input) Verdict {
	if !m.begun || in.Ours != m.ours {
		if m.ours == (Mark{}) {
			m.settled, m.since = false, in.Now
		}
		m.begun, m.ours, m.differing = true, in.Ours, false
	}
	if in.Hold == "" {
		m.holding = false
	}
	switch {
	case in.Hold != "":
		beside := actives(in)
		news := m.holding && !in.Deaf && beside != m.held
		if !in.Deaf || !m.holding {
			m.held, m.holding = beside, true
		}
		return Verdict{Why: in.Hold, Recover: news}
	case in.Ours == (Mark{}):
		return Verdict{Why: in.Why, Recover: actives(in) != ""}
	}
	left := in.Left.Revision > in.Ours.Revision && in.Left != m.forgiven
	if left {
		m.missed, m.who, m.settled = in.Left, "the cluster", true
	}
	switch {
	case in.Holder && left:
		return m.short()
	case in.Holder:
		m.settled, m.missed, m.differing = true, Mark{}, false
		return Verdict{Eligible: true}
	}
	who, ref, active := m.reference(in)
	if ref == in.Ours || m.settled && m.given(in, ref) {
		m.differing = false
		if active || in.Ours.Revision >= m.missed.Revision {
			m.missed = Mark{}
		}
		if active && ref == in.Ours {
			m.forgiven = in.Left // the cluster has gone back
		}
		if m.missed != (Mark{}) {
			return m.short()
		}
		return m.settle(in)
	}
	if !m.differing {
		m.differing, m.differs = true, in.Now
	}
	if m.missed == (Mark{}) && m.settled && (in.Now-m.differs < Patience || ref == in.Switching) {
		return Verdict{Eligible: true}
	}
	m.missed, m.who = ref, who
	v := m.short()
	v.Recover = ref != in.Switching
	return v
}

// given reports whether whoever is active with a policy was asked to run ours, and does not: it is the one that may not
// hold the role.
func (m *Machine) given(in Input, ref Mark) bool {
	for _, p := range in.Peers {
		if p.heard() && p.Active && p.Mark == ref {
			return p.Refused && ref.Revision < in.Ours.Revision
		}
	}
	return false
}

// short is the verdict on a member that does not run what the cluster runs.
func (m *Machine) short() Verdict {
	return Verdict{Why: fmt.Sprintf("this member runs policy %s, %s runs %s: see policy history", m.ours, m.who, m.missed)}
}

// settle waits until the others can be judged.
func (m *Machine) settle(in Input) Verdict {
	waiting := in.Now - m.since
	switch {
	case m.settled:
	case in.Deaf, waiting < m.listen:
		return Verdict{Why: "listening for what the others run"}
	case waiting < Company:
		for _, p := range in.Peers {
			if p.heard() && p.Mark == (Mark{}) && p.Idle {
				return Verdict{Why: p.Name + " has no policy yet: waiting a moment for it"}
			}
		}
	}
	m.settled = true
	return Verdict{Eligible: true}
}

func (p Peer) heard() bool { return p.Heard >= 0 && p.Heard <= fresh }

// reference is what the cluster runs, as far as is heard, and whether an active member says so.
func (m *Machine) reference(in Input) (who string, ref Mark, active bool) {
	for _, p := range in.Peers {
		if p.heard() && p.Active && p.Mark != (Mark{}) {
			if p.Mark == in.Ours {
				return p.Name, p.Mark, true
			}
			who, ref, active = p.Name, p.Mark, true
		}
	}
	if active {
		return who, ref, true
	}
	ref = in.Ours
	for _, p := range in.Peers {
		if p.heard() && p.Revision > ref.Revision {
			who, ref = p.Name, p.Mark
		}
	}
	return who, ref, false
}

// actives are the active members with a policy, as one text to compare.
func actives(in Input) string {
	var out []string
	for _, p := range in.Peers {
		if p.heard() && p.Active && p.Mark != (Mark{}) {
			out = append(out, fmt.Sprintf("%s %s", p.Name, p.Mark))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
