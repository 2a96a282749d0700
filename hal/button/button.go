// Package button decides what presses of the button at the front mean. It is pure: presses, releases and the time go in,
// [Action]s come out. The button itself is a key of package hal/evdev or a line of package hal/gpio.
//
//	short press                        show the role
//	held for Long                      the confirmation pattern begins: the factory reset is offered
//	  released, then pressed and held
//	  for Hold within Window           the factory reset is confirmed
//	  anything else                    it is cancelled
//
// A button that is stuck, or leant on, confirms nothing: the reset needs a second press.
package button

import "time"

// Times that decide what a press means.
const (
	Long   = 5 * time.Second  // held for less is a short press
	Window = 10 * time.Second // from the release to the second press
	Hold   = 3 * time.Second  // the second press
	Stuck  = 30 * time.Second // held for so long it is no person's press
)

// Action is what follows from the button.
type Action string

// Actions.
const (
	ShowRole  Action = "show role"
	Offered   Action = "factory reset offered"   // show the confirmation pattern
	Cancelled Action = "factory reset cancelled" // back to normal
	Confirmed Action = "factory reset confirmed" // do it
)

// State is where a button is in its dialogue.
type State string

// States. Every button begins in Idle.
const (
	Idle       State = "idle"
	Down       State = "down"       // pressed, not yet long
	Offering   State = "offering"   // pressed for long
	Waiting    State = "waiting"    // released after long, for the second press
	Confirming State = "confirming" // pressed for the second time
	Ignoring   State = "ignoring"   // until it is released
)

// Machine is one button. The zero value is an idle one. It is not safe for concurrent use.
type Machine struct {
	state State
	since time.Duration // when State began, on the caller's monotonic clock
}

// State is where the button is.
func (m *Machine) State() State {
	if m.state == "" {
		return Idle
	}
	return m.state
}

func (m *Machine) to(s State, now time.Duration) { m.state, m.since = s, now }

// deadline is when time alone changes the state.
func (m *Machine) deadline() (after time.Duration, ok bool) {
	after, ok = map[State]time.Duration{Down: Long, Offering: Stuck - Long, Waiting: Window, Confirming: Hold}[m.State()]
	return after, ok
}

// Deadline is when Tick has something to do unless the button is touched before; ok is false when it never has.
func (m *Machine) Deadline() (at time.Duration, ok bool) {
	after, ok := m.deadline()
	return m.since + after, ok
}

// Tick tells the time.
func (m *Machine) Tick(now time.Duration) []Action {
	var out []Action
	for {
		after, ok := m.deadline()
		if !ok || now < m.since+after {
			return out
		}
		at := m.since + after
		switch m.State() {
		case Down:
			m.to(Offering, at)
			out = append(out, Offered)
		case Offering:
			m.to(Ignoring, at)
			out = append(out, Cancelled)
		case Waiting:
			m.to(Idle, at)
			out = append(out, Cancelled)
		case Confirming:
			m.to(Ignoring, at)
			out = append(out, Confirmed)
		}
	}
}

// Press tells that the button went down. A press of one that is down already changes nothing.
func (m *Machine) Press(now time.Duration) []Action {
	out := m.Tick(now)
	switch m.State() {
	case Idle:
		m.to(Down, now)
	case Waiting:
		m.to(Confirming, now)
	}
	return out
}

// Release tells that it came up. A release of one that is up already changes nothing.
func (m *Machine) Release(now time.Duration) []Action {
	out := m.Tick(now)
	switch m.State() {
	case Down:
		m.to(Idle, now)
		out = append(out, ShowRole)
	case Offering:
		m.to(Waiting, now)
	case Confirming:
		m.to(Idle, now)
		out = append(out, Cancelled)
	case Ignoring:
		m.to(Idle, now)
	}
	return out
}
