package cluster

import (
	"fmt"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// refusal limits how often a refused frame is logged.
type refusal struct {
	count  uint64
	quiet  Instant       // no further log before this
	wait   time.Duration // grows with every log, up to maxLogPeriod
	muffle uint64        // not logged since the last one
}

// logPeriod is the least time between two logs of the same refusal; it doubles up to maxLogPeriod, for a
// neighbour cluster or a mirrored port is there for months.
const (
	logPeriod    = 10 * time.Second
	maxLogPeriod = time.Hour
)

// refuse counts a refused frame and logs it at a limited rate.
func (m *Machine) refuse(iface int, r wire.Reason, detail string) {
	c := m.refused[r]
	if c == nil {
		c = &refusal{}
		m.refused[r] = c
	}
	c.count++
	c.muffle++
	if m.now < c.quiet {
		return
	}
	c.wait = min(max(2*c.wait, logPeriod), maxLogPeriod)
	c.quiet = m.now.Add(c.wait)
	on := "?"
	if iface >= 0 && iface < len(m.cfg.Interfaces) {
		on = m.cfg.Interfaces[iface].Name
	}
	if detail == "" {
		detail = remedies[r]
	}
	name := EvRefused
	if r == wire.Myself {
		name = EvMyself
	}
	m.log(Warning, name, strings.TrimRight(fmt.Sprintf("%s: %d frame(s) refused on %s. %s", r, c.muffle, on, detail), " "))
	c.muffle = 0
}

// remedies say what to do about a refusal.
var remedies = map[wire.Reason]string{
	wire.TTLTooLow: "It passed a router; heartbeats must stay on the link.",
	wire.BadTag:    "The sender has another cluster key, or is another cluster with our cluster ID; compare the keys, or change the cluster ID.",
	wire.Foreign:   "Another cluster shares this network; that is fine, its ID differs from ours.",
	wire.Unknown:   "A member that our node file does not list has our cluster key; add it or take the key away.",
	wire.Myself:    "Our own heartbeats come back: a mirrored port, a loop, or two members with the same member ID. Compare 'member' in the node files and look for port mirroring.",
	wire.Replay:    "Old heartbeats arrive again: a mirrored port, a loop, or somebody replays a recording.",
}
