package statesync

import "time"

// behind is why this member is not in sync, for the log: judge tells of changes only, and a reason can become another, or
// last, or end with this member in the role.
type behind struct {
	reason string // without its numbers, "" when in sync
	since  time.Duration
	told   bool
	missed string // why it was not in sync with the last member that held the role; "" when it was
}

// note takes in a verdict. A reason that lasts is logged once; so is that this member took the role without being in sync.
func (b *behind) note(m *Machine, ok bool, text string) {
	if ok {
		if m.role.Holder && b.missed != "" {
			m.out.Log(Warning, "this member took the role without being in sync ("+b.missed+"): connections of the last holder may be missing")
		}
		*b = behind{}
		return
	}
	if m.loaded && m.role.Known && (m.role.Other != 0 || m.source() != nil) {
		b.missed = text
	}
	if reason := withoutDigits(text); reason != b.reason {
		b.reason, b.since, b.told = reason, m.now, m.inSync // judge tells it when this is the change
	}
	if !b.told && m.now-b.since >= fresh {
		b.told = true
		m.out.Log(Warning, "not in sync: "+text)
	}
}

func withoutDigits(text string) string {
	out := make([]byte, 0, len(text))
	for i := range len(text) {
		if c := text[i]; c < '0' || c > '9' {
			out = append(out, c)
		}
	}
	return string(out)
}
