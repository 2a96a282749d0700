package hald

import (
	"slices"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/hal/led"
)

// Facts is what hald knows of the box besides its own parts, from the other daemons.
type Facts struct {
	Uptime    time.Duration // of the box
	Answers   bool          // had answered
	HA        member.Status
	Applied   bool   // gatewayd has the node file in force
	Locked    string // why the licence locks the box down; empty: it does not
	Upgrading string // why it counts as upgrading; empty: it does not
	Disk      string // what is wrong with the data partition; empty: nothing
}

// patience is how long a box may take to start before that is a fault.
const patience = 90 * time.Second

// standalone tells whether had answers and has no cluster: the box forwards by itself.
func (f *Facts) standalone() bool {
	return f.Answers && f.HA.ClusterID == 0 && f.HA.ConfigError == ""
}

// active tells whether this box forwards.
func (f *Facts) active() bool {
	if f.standalone() {
		return f.Applied
	}
	return f.Answers && strings.HasPrefix(f.HA.State, "ACTIVE")
}

// judge decides what the case shows. parts is what the hardware complains about. The worst wins: lockdown, an upgrade (for
// it is meant), attention, then the role.
func judge(f Facts, parts []string) (s led.Status, reasons []string) {
	if f.Locked != "" {
		return led.Lockdown, []string{f.Locked}
	}
	if f.Upgrading != "" {
		return led.Upgrading, []string{f.Upgrading}
	}
	reasons = slices.Clone(parts)
	if f.Disk != "" {
		reasons = append(reasons, f.Disk)
	}
	starting := f.Uptime < patience
	switch {
	case !f.Answers:
		if !starting {
			reasons = append(reasons, "had does not answer")
		}
	case f.standalone():
		if !f.Applied && !starting {
			reasons = append(reasons, "the node file is not in force")
		}
	default:
		reasons = append(reasons, clusterReasons(f.HA, starting)...)
	}
	switch {
	case len(reasons) > 0:
		return led.Attention, reasons
	case f.active():
		return led.Active, nil
	case f.Answers && (f.HA.State == "STANDBY" || f.HA.State == "WITNESS"):
		return led.Standby, nil
	}
	return led.Booting, nil
}

// clusterReasons is what somebody should look at in a cluster.
func clusterReasons(s member.Status, starting bool) (out []string) {
	if s.ConfigError != "" {
		out = append(out, s.ConfigError)
	}
	// hald's own devices are among its parts already.
	for _, p := range s.Problems {
		if !strings.HasPrefix(p, api.TemperatureDevice) && !strings.HasPrefix(p, api.PowerDevice) {
			out = append(out, p)
		}
	}
	if starting {
		return out // a peer that is not there yet, a state on its way
	}
	switch s.State {
	case "ACTIVE!", "DOWN":
		if len(out) == 0 {
			out = append(out, "the member is "+s.State)
		}
	}
	for _, p := range s.Peers {
		if !p.Alive {
			out = append(out, p.Name+" is lost")
		}
	}
	if s.Locked != "" {
		out = append(out, "the role is locked: "+s.Locked)
	}
	return out
}
