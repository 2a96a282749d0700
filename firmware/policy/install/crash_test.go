package install

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/policy/internal/powercut"
)

var every = flag.Int("every", 5, "crash at every so-many-th of the places; 1: at each")

// TestCrash cuts the power of one member around every operation on its disk and within its files, at each phase of an
// install. When it is back, all members run the same, and what was reported as installed is.
func TestCrash(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, victim := range []uint8{1, 2} {
		for _, coordinator := range []uint8{1, 2} {
			for _, confirm := range []time.Duration{0, 5 * time.Minute} {
				name := fmt.Sprintf("member %d crashes, member %d coordinates, confirm %v", victim, coordinator, confirm)
				begin := func() *cluster {
					c := newCluster(t, 2)
					c.install(1, newPolicy(t, 1, ""), nil)
					return c
				}
				two := newPolicy(t, 2, "")
				c := begin()
				c.members[victim].disk.CutAfter(1 << 30)
				c.install(coordinator, two, confirmIn(confirm))
				cuts := c.members[victim].disk.Cuts(2003)
				ends := map[uint64]int{}
				for i, n := range cuts {
					if i%*every != 0 {
						continue
					}
					c := begin()
					v := c.members[victim]
					v.disk.CutAfter(n)
					report := c.install(coordinator, two, confirmIn(confirm))
					v.reboot(powercut.Losses()[i / *every % 4], rng)
					c.settle(true)
					a, b := c.members[1].revision(), c.members[2].revision()
					what := fmt.Sprintf("%s, cut after %d steps, report %v", name, n, report)
					if confirm == 0 {
						ends[a]++
						if a != b || report.Installed && a != 2 {
							t.Fatalf("%s: members have %d and %d", what, a, b)
						}
						if r := c.install(1, newPolicy(t, 3, ""), nil); !r.Installed || len(r.Missed()) > 0 {
							t.Fatalf("%s: the next install: %v", what, r)
						}
					} else {
						c.pass(confirm)
						c.settle(true)
						c.members[3-victim].runs(1, what)
						if got := v.revision(); got != 1 {
							t.Fatalf("%s: revision %d at the end", what, got)
						}
					}
					for _, m := range c.members {
						m.stop()
					}
					if t.Failed() {
						return
					}
				}
				t.Logf("%s: %d cuts; ended with revision 1: %d, 2: %d", name, len(cuts), ends[1], ends[2])
			}
		}
	}
}
