package license

import (
	"fmt"
	"time"
)

// State says what the licence lets the member do.
type State uint8

const (
	// Lockdown lets only management traffic pass; the member must not hold the role.
	Lockdown State = iota
	// Demo is full service without a licence, for DemoTime.
	Demo
	// Grace is full service while the licence server is out of reach.
	Grace
	// Licensed is full service.
	Licensed
)

// String gives the state in lower case.
func (s State) String() string {
	return [...]string{"lockdown", "demo", "grace", "licensed"}[s]
}

const (
	// DemoTime is how long a box runs without a licence, in running time over all its boots.
	DemoTime = 2 * time.Hour
	// ContactEvery is how often the licence server is asked.
	ContactEvery = 4 * time.Hour
	// contactLate is the silence of the licence server from which on the grace is spoken of.
	contactLate = 2 * ContactEvery
	// settled is how long a wall clock must have run without a step before its time counts as seen.
	settled = time.Hour
	// step is a change of the wall clock against the monotonic one that is no slewing.
	step = 2 * time.Second
	// writeSoon and writeLate are how old the ledger on disk may get: while time runs down, and else.
	writeSoon = time.Minute
	writeLate = time.Hour
	// longest bounds what is added up, so that nothing overflows.
	longest = 10 * 365 * 24 * time.Hour
	maxWhy  = 200
)

// Port is a NIC of the box.
type Port struct {
	Name    string `json:"name"` // in the node file
	Device  string `json:"device"`
	MAC     string `json:"mac,omitempty"` // burnt in where the driver tells, else as it is; empty when not present
	Present bool   `json:"present"`
	Up      bool   `json:"up"` // administratively; a pulled cable makes no difference
}

// Answer is what the licence server said, believed by its signature.
type Answer struct {
	ID        string // of the licence
	Withdrawn bool
	Why       string // for people
}

// Input is the world at one moment.
type Input struct {
	Now  time.Duration // since boot, monotonic
	Wall time.Time     // what the clock on the wall says; it may be wrong
	// Licence is the installed licence when its signature is good. Fault says why the installed one is not believed.
	// Both are empty when none is installed.
	Licence *Licence
	Fault   string
	// Registration is the name of the registration interface in the node file; empty: the one with the licence's MAC.
	Registration string
	Ports        []Port
	Unspecified  []string // interfaces whose shared address is 0.0.0.0 or ::
	Answer       *Answer  // since the last step
	Unreachable  string   // why the server could not be asked the last time
}

// Verdict is what the machine makes of the world.
type Verdict struct {
	State  State
	Reason string // one sentence
	Leave  string // how to leave lockdown, demo or grace
	// Remaining is what is left of the demo or of the grace.
	Remaining time.Duration
	// Registration is the interface that the licence is bound to; nil when there is none.
	Registration *Port
	// Time is what the term is counted against.
	Time time.Time
	// Warnings are for the console: what will become a problem.
	Warnings []string
	// Notices are for the log, once each.
	Notices []string
}

// Machine decides. It has no clock: feed Step about once a second and whenever something changed.
type Machine struct {
	ledger Ledger
	built  time.Time

	now     time.Duration
	seen    time.Time // Ledger.Seen, running on with the monotonic clock
	wall    time.Time // at the last step
	steady  time.Duration
	started bool
	written time.Duration
	urgent  bool
	last    Verdict
}

// NewMachine starts from what was remembered. built is the date of the firmware, zero when unknown; boot names the boot
// of the kernel, and now is the time since then.
func NewMachine(l Ledger, built time.Time, boot string, now time.Duration) *Machine {
	m := &Machine{ledger: l, built: built.UTC(), now: now, written: now}
	same := l.Boot == boot && l.Boot != "" && l.At <= now
	if same {
		m.now = l.At // the machine ran on while this program was started again
	} else if l.Counting {
		// The last minute of the last boot was not written down.
		m.ledger.Demo += writeSoon
		m.urgent = true
	}
	m.ledger.Boot = boot
	m.ledger.Counting = l.Counting && same
	m.seen = later(later(l.Seen, m.built), later(l.Issued, earliest))
	return m
}

// earliest is before any firmware.
var earliest = time.Date(firstYear, 1, 1, 0, 0, 0, 0, time.UTC)

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Step takes the world as it is now. A time before that of the last step counts as that.
func (m *Machine) Step(in Input) Verdict {
	elapsed := min(max(in.Now-m.now, 0), longest)
	m.now = max(m.now, in.Now)
	m.tick(elapsed, in.Wall.UTC())
	if l := in.Licence; l != nil && l.Issued.After(m.ledger.Issued) {
		// The vendor's signature says what time it was, so a clock that once ran ahead is forgiven; and a fresh grace.
		m.ledger.Issued, m.seen, m.ledger.Away = l.Issued, later(l.Issued, m.built), 0
		m.urgent = true
	}
	if m.ledger.Counting {
		m.ledger.Demo = min(m.ledger.Demo+elapsed, DemoTime)
	}
	if in.Licence != nil && in.Licence.Server != "" {
		m.ledger.Away = min(m.ledger.Away+elapsed, longest)
	}
	m.hear(in)
	v := m.decide(in)
	counting := v.State == Demo
	m.urgent = m.urgent || counting != m.ledger.Counting || !m.started || v.State != m.last.State
	m.ledger.Counting = counting
	v.Notices = m.notices(v)
	m.last, m.started = v, true
	return v
}

// Try tells what the machine would make of the world, and changes nothing.
func (m *Machine) Try(in Input) Verdict {
	trial := *m
	return trial.Step(in)
}

// Away is the running time since the licence server was last reached.
func (m *Machine) Away() time.Duration { return m.ledger.Away }

// tick lets the time seen run on, and takes the wall clock for seen when it has been steady.
func (m *Machine) tick(elapsed time.Duration, wall time.Time) {
	m.seen = m.seen.Add(elapsed)
	drift := wall.Sub(m.wall) - elapsed
	if !m.started || drift > step || drift < -step {
		m.steady = m.now
	}
	m.wall = wall
	if m.now-m.steady >= settled && wall.After(m.seen) && credible(wall) {
		m.seen = wall
	}
}

// hear takes what the licence server said.
func (m *Machine) hear(in Input) {
	a := in.Answer
	if a == nil || in.Licence == nil || a.ID != in.Licence.ID {
		return
	}
	m.urgent = true
	if a.Withdrawn {
		m.ledger.Withdrawn, m.ledger.Why = a.ID, a.Why[:min(len(a.Why), maxWhy)]
		return
	}
	m.ledger.Away = 0
	if m.ledger.Withdrawn == a.ID {
		m.ledger.Withdrawn, m.ledger.Why = "", ""
	}
}

// Due reports whether the ledger should be written now.
func (m *Machine) Due() bool {
	age := m.now - m.written
	running := m.last.State == Demo || m.last.State == Grace
	return m.urgent || age >= writeLate || running && age >= writeSoon
}

// Ledger is what to write; call Written when that is done.
func (m *Machine) Ledger() Ledger {
	l := m.ledger
	l.At, l.Seen = m.now, m.seen.Truncate(time.Second)
	return l
}

// Written says that the ledger of now is on disk, or that there is no use in trying again at once.
func (m *Machine) Written() { m.written, m.urgent = m.now, false }

// Close gives the ledger for an orderly end: nothing runs down until the next start.
func (m *Machine) Close() Ledger {
	l := m.Ledger()
	l.Counting = false
	return l
}

// notices tells what is new since the last verdict.
func (m *Machine) notices(v Verdict) []string {
	var out []string
	switch {
	case v.State == Lockdown && (!m.started || m.last.State != Lockdown):
		out = append(out, fmt.Sprintf("LOCKDOWN: %s. Only management traffic passes. To leave: %s", v.Reason, v.Leave))
	case v.State == Lockdown && v.Reason != m.last.Reason:
		out = append(out, fmt.Sprintf("still in lockdown: %s. To leave: %s", v.Reason, v.Leave))
	case m.started && m.last.State == Lockdown && v.State != Lockdown:
		out = append(out, fmt.Sprintf("lockdown is over: %s", v.Reason))
	case !m.started || m.last.State != v.State:
		out = append(out, fmt.Sprintf("%s: %s", v.State, v.Reason))
	}
	// Reminders at a half, three quarters and seven eighths, as Clavister Stream's.
	if m.started && v.State == Demo && m.last.State == Demo {
		for _, part := range []time.Duration{DemoTime / 2, DemoTime / 4, DemoTime / 8} {
			if m.last.Remaining > part && v.Remaining <= part {
				out = append(out, fmt.Sprintf("the demo ends in %s, then lockdown; install a licence with: license install", v.Remaining.Round(time.Second)))
			}
		}
	}
	return out
}
