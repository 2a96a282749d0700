package cluster

import (
	"strings"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// Weights of problems in the demotion. A problem of the sync interface alone must never cost the role
// (reference/vendors.md §1.4): fitness is compared in steps of weightInterface.
const (
	weightSync      = 1
	weightInterface = 16
	weightDevice    = 16
)

type link struct{ up, missing, known, ignored bool }

// demotion is how unfit this member is: 0 is fit.
func (m *Machine) demotion() uint16 {
	if m.witness() || m.lockdown() {
		return wire.Ineligible
	}
	sum := 0
	for i, l := range m.links {
		if l.known && !l.up && !l.ignored {
			if m.cfg.Interfaces[i].Sync {
				sum += weightSync
			} else {
				sum += weightInterface
			}
		}
	}
	sum += weightDevice * m.failing()
	return uint16(min(sum, int(wire.Ineligible)-1))
}

func (m *Machine) setLink(in Link) {
	if in.Interface < 0 || in.Interface >= len(m.links) {
		return
	}
	l := &m.links[in.Interface]
	was := *l
	*l = link{up: in.Up, missing: in.Missing, known: true, ignored: l.ignored}
	if was == *l || (!was.known && in.Up) {
		return
	}
	name := m.cfg.Interfaces[in.Interface].Name
	switch {
	case in.Missing:
		m.log(Error, EvLink, "interface "+name+" is missing")
	case in.Up:
		m.log(Notice, EvLink, "interface "+name+": carrier is back")
	default:
		m.log(Warning, EvLink, "interface "+name+": no carrier")
	}
}

// problems lists everything that counts in the demotion, for people.
func (m *Machine) problems() []string {
	var out []string
	for i, l := range m.links {
		switch {
		case l.ignored:
		case l.known && l.missing:
			out = append(out, "interface "+m.cfg.Interfaces[i].Name+": missing")
		case l.known && !l.up:
			out = append(out, "interface "+m.cfg.Interfaces[i].Name+": no carrier")
		}
	}
	for _, d := range m.devices {
		if s := d.state(); s == DeviceProblem || s == DeviceLockdown {
			out = append(out, strings.TrimSuffix(d.Name+": "+d.text(), ": "))
		}
	}
	return out
}
