// Package power decides what a power-fail input means. It is pure: levels of the input and the time go in, [Action]s
// come out.
//
// A supply that fails leaves milliseconds, so the first sign is acted on at once: the role is given away while there is
// power for it. What comes back is believed only after it has been good for [Settled]: the role must not wander with
// every dip.
package power

import "time"

// Settled is how long the supply has to be good before it counts as back.
const Settled = 10 * time.Second

// Action is what follows.
type Action string

// Actions.
const (
	LastGasp Action = "last gasp" // give the role away, write out what is in memory
	Back     Action = "back"      // take part again
)

// Monitor is one power-fail input. The zero value is a good supply.
type Monitor struct {
	failing bool // what the input says
	gasped  bool // after LastGasp, before Back
	good    time.Duration
}

// Failing tells whether the supply counts as failing.
func (m *Monitor) Failing() bool { return m.gasped }

// Step takes the level of the input.
func (m *Monitor) Step(now time.Duration, failing bool) []Action {
	if m.failing && !failing {
		m.good = now
	}
	m.failing = failing
	if failing && !m.gasped {
		m.gasped = true
		return []Action{LastGasp}
	}
	return m.Tick(now)
}

// Tick tells the time.
func (m *Monitor) Tick(now time.Duration) []Action {
	if m.gasped && !m.failing && now-m.good >= Settled {
		m.gasped = false
		return []Action{Back}
	}
	return nil
}

// Deadline is when Tick has something to do; ok is false when it has not.
func (m *Monitor) Deadline() (at time.Duration, ok bool) {
	return m.good + Settled, m.gasped && !m.failing
}
