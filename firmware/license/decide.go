package license

import (
	"fmt"
	"strings"
	"time"
)

// install is how most lockdowns are left.
const install = "install a licence with: license install FILE"

// decide finds the first rule that holds. What it says first is what the operator has to mend first.
func (m *Machine) decide(in Input) Verdict {
	v := Verdict{State: Lockdown, Time: later(m.wall, m.seen)}
	l := in.Licence
	switch {
	case len(in.Unspecified) > 0:
		v.Reason = fmt.Sprintf("the shared address of %s is 0.0.0.0", strings.Join(in.Unspecified, ", "))
		v.Leave = "give it an address in the node file: node edit"
		return v
	case in.Fault != "":
		v.Reason = "the installed licence is not valid: " + in.Fault
		v.Leave = install + ", or go back to the demo with: license remove"
		return v
	case l == nil:
		return m.demo(v)
	}
	v.Registration, v.Reason, v.Leave = registration(l, in)
	switch end := l.Until.End(); {
	case v.Reason != "":
		return v
	case v.Time.Before(l.From.Start()):
		v.Reason = fmt.Sprintf("the term of licence %s begins on %s, and by the clock of this box it is %s", l.ID, l.From, v.Time.Format(time.DateOnly))
		v.Leave = "wait, set the clock if it is behind, or " + install
		return v
	case !l.Until.IsZero() && !v.Time.Before(end):
		v.Reason = fmt.Sprintf("the term of licence %s ended on %s", l.ID, l.Until)
		v.Leave = install
		if m.wall.Before(end) {
			v.Reason += fmt.Sprintf("; the clock says %s, but this box has seen %s", m.wall.Format(time.DateOnly), m.seen.Format(time.DateOnly))
		}
		return v
	case m.ledger.Withdrawn == l.ID:
		v.Reason = fmt.Sprintf("the licence server has withdrawn licence %s", l.ID)
		if m.ledger.Why != "" {
			v.Reason += ": " + m.ledger.Why
		}
		v.Leave = install
		return v
	}
	v.State = Licensed
	v.Reason = fmt.Sprintf("licence %s is bound to %s on %s", l.ID, l.MAC, v.Registration.Name)
	m.warn(&v, l)
	return m.contact(v, in)
}

// demo is a box without a licence.
func (m *Machine) demo(v Verdict) Verdict {
	v.Leave = install
	if v.Remaining = DemoTime - m.ledger.Demo; v.Remaining <= 0 {
		v.Remaining = 0
		v.Reason = fmt.Sprintf("there is no licence, and the demo of %s is used", brief(DemoTime))
		return v
	}
	v.State, v.Reason = Demo, "there is no licence"
	return v
}

// registration finds the interface that the licence is bound to, and says why that is not as it should be.
func registration(l *Licence, in Input) (port *Port, reason, leave string) {
	var named, bound *Port
	for i := range in.Ports {
		p := in.Ports[i]
		if p.Name == in.Registration {
			named = &p
		}
		if p.Present && p.MAC == l.MAC && (bound == nil || !bound.Up) {
			bound = &p
		}
	}
	port = bound
	if in.Registration != "" {
		port = named
	}
	other := install + ", one that is bound to this box"
	if named != nil && bound != nil && named.Name != bound.Name {
		other = fmt.Sprintf("write registration: %s in the node file, or %s", bound.Name, other)
	}
	switch {
	case port == nil && in.Registration != "":
		return nil, fmt.Sprintf("the registration interface %s is not in the node file", in.Registration), "correct registration: in the node file: node edit"
	case port == nil:
		return nil, fmt.Sprintf("no interface has the MAC %s that licence %s is bound to", l.MAC, l.ID),
			"put the network card back, or " + other
	case !port.Present:
		return port, fmt.Sprintf("the registration interface %s is missing (device %s)", port.Name, port.Device),
			"put the network card back, or " + other
	case port.MAC != l.MAC:
		return port, fmt.Sprintf("the registration interface %s has the MAC %s, but licence %s is bound to %s", port.Name, port.MAC, l.ID, l.MAC), other
	case !port.Up:
		return port, fmt.Sprintf("the registration interface %s is disabled", port.Name), "enable it with: interface enable " + port.Name
	}
	return port, "", ""
}

// warn says what will end the licence, or make it hard to judge.
func (m *Machine) warn(v *Verdict, l *Licence) {
	if !l.Until.IsZero() {
		if left := l.Until.End().Sub(v.Time); left < 30*24*time.Hour {
			v.Warnings = append(v.Warnings, fmt.Sprintf("the term ends on %s, in %s; then lockdown", l.Until, brief(left)))
		}
	}
	if behind := m.seen.Sub(m.wall); behind > 24*time.Hour {
		v.Warnings = append(v.Warnings, fmt.Sprintf("the clock is %s behind what this box has seen; the term is counted from that", brief(behind)))
	}
}

// contact is the rule of the licence server.
func (m *Machine) contact(v Verdict, in Input) Verdict {
	l := in.Licence
	if l.Server == "" || m.ledger.Away < contactLate {
		return v
	}
	why := ""
	if in.Unreachable != "" {
		why = ": " + in.Unreachable
	}
	v.Reason = fmt.Sprintf("the licence server %s was last reached %s ago%s", l.Server, brief(m.ledger.Away), why)
	v.Leave = "make a way to the licence server; it is asked again by itself, at once with: license contact"
	v.State, v.Remaining = Grace, l.Grace()-m.ledger.Away
	if v.Remaining <= 0 {
		v.State, v.Remaining = Lockdown, 0
		v.Reason += fmt.Sprintf("; the grace of %d days is over", l.GraceDays)
		v.Leave += "; or " + install
	}
	return v
}

// brief writes a time with its largest unit.
func brief(d time.Duration) string {
	for _, u := range []struct {
		name string
		size time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}} {
		switch n := d / u.size; {
		case n == 1:
			return "1 " + u.name
		case n > 1:
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	return "less than a minute"
}
