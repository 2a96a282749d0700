package had

import (
	"context"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/member"
)

// activeCheckName is the critical device of interface probing, ClusterXL's name for it.
const activeCheckName = "Interface Active Check"

// activeCheckPeriod is how often verdicts are looked at.
const activeCheckPeriod = 200 * time.Millisecond

// activeCheck makes a critical device of the verdicts of interface probing: a problem while a side of this member has
// failed and a peer's on the same LAN has not. It cannot make the role flap, for the reasons in docs/decisions/0051.
func activeCheck(ctx context.Context, m *member.Member) {
	tick := time.NewTicker(activeCheckPeriod)
	defer tick.Stop()
	last := cluster.Device{State: cluster.DeviceInit}
	for {
		d := cluster.Device{Name: activeCheckName}
		if problem, text := m.ActiveCheck(); problem {
			d.State, d.Text = cluster.DeviceProblem, text
		}
		if d != last {
			if _, err := m.Report(d); err != nil {
				return
			}
			last = d
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
