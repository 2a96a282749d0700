package probe

import (
	"fmt"
	"time"
)

// fault is a failed side of ours, which stays until it is proved good.
type fault struct {
	on    bool
	text  string
	good  Instant // proved good since, never if not
	hold  time.Duration
	ended Instant // when it was last over
}

func (f *fault) init() { f.good, f.ended = never, never }

// conclude turns a finding that lasts into the verdict. healthy: all living members are heard here and hear us.
func (m *Machine) conclude(f *iface, found finding, healthy bool) {
	if found.Kind != f.finding.Kind {
		if f.trouble && f.fast > FastRounds {
			f.fast, f.wait, f.next = 0, Round, min(f.next, m.now.Add(Round)) // news: ask often again
		}
		f.findRound, f.foundAt = f.round, m.now
	}
	f.finding = found
	rounds := f.round - f.findRound
	switch {
	case f.fault.on:
		m.recover(f, healthy)
	case found.Kind == Ours && rounds >= RoundsOurs && found.proof >= f.foundAt:
		m.fail(f, found.Text)
	case found.Kind == OK || found.Kind == Carrier:
		m.publish(f, found.Verdict)
	case found.Kind != Ours && rounds >= RoundsOther && f.round > 1:
		m.publish(f, found.Verdict)
	case f.verdict.Kind == OK || f.verdict.Kind == Carrier:
		m.publish(f, Verdict{Interface: found.Interface, Kind: Probing, Text: "heartbeats are missing; asking peers and neighbours"})
	}
}

// fail begins a fault of ours.
func (m *Machine) fail(f *iface, text string) {
	t := &f.fault
	if t.hold == 0 || t.ended == never || m.now.Sub(t.ended) > max(10*t.hold, time.Minute) {
		t.hold = m.cfg.Hold
	} else {
		t.hold = min(2*t.hold, MaxHold)
	}
	t.on, t.text, t.good = true, text, never
	m.publish(f, Verdict{Interface: f.finding.Interface, Kind: Ours, Text: text})
}

// recover ends a fault when this interface has been proved good for long enough.
func (m *Machine) recover(f *iface, healthy bool) {
	t := &f.fault
	if !f.link.Up || !healthy && !(f.trouble && m.proved(f, m.absent(f))) {
		t.good = never
		m.publish(f, Verdict{Interface: f.finding.Interface, Kind: Ours, Text: t.text})
		return
	}
	if t.good == never {
		t.good = m.now
	}
	if m.now.Sub(t.good) < t.hold {
		m.publish(f, Verdict{Interface: f.finding.Interface, Kind: Ours, Text: fmt.Sprintf("our side had failed; it works again, and counts as good after %v of that", t.hold)})
		return
	}
	t.on, t.ended = false, m.now
	m.publish(f, f.finding.Verdict)
}

func (m *Machine) absent(f *iface) []uint8 {
	silent, deaf, _ := m.missing(f)
	return append(silent, deaf...)
}

func (m *Machine) publish(f *iface, v Verdict) {
	if v.Kind == f.verdict.Kind && v.Text == f.verdict.Text {
		return
	}
	v.Since = f.verdict.Since
	if v.Kind != f.verdict.Kind {
		v.Since = m.now
	}
	f.verdict = v
	m.out = append(m.out, Changed{v})
}
