package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/cluster"
)

// TestTimingRulesAgree: a timing that the node file lets pass is one that the cluster core takes.
func TestTimingRulesAgree(t *testing.T) {
	steps := []time.Duration{0, 1, 4, 10, 12, 16, 24, 40, 50, 60, 100, 500}
	for _, beat := range steps {
		for _, lease := range steps {
			for _, dead := range steps {
				for _, silence := range []time.Duration{24, 60, 500} {
					for _, safety := range []bool{false, true} {
						want := cluster.Timing{Beat: beat * time.Millisecond, Lease: lease * time.Millisecond, Dead: dead * time.Millisecond, Silence: silence * time.Millisecond}
						core := cluster.Config{Cluster: 7, Self: 1, Nonce: 1, Members: []cluster.Member{{ID: 1}, {ID: 2}}, Timing: want, Safety: safety}.Validate()
						text := strings.Replace(timed, "TIMING", fmt.Sprintf("{beat: %v, lease: %v, dead: %v, silence: %v}", want.Beat, want.Lease, want.Dead, want.Silence), 1)
						text = strings.Replace(text, "name: x", fmt.Sprintf("safety: %v", safety), 1)
						_, _, err := node.Parse("node.yaml", []byte(text))
						if (err == nil) != (core == nil) {
							t.Fatalf("%+v, safety %v: node file says %v, core says %v", want, safety, err, core)
						}
					}
				}
			}
		}
	}
}

const timed = `version: 1
hostname: gw-a
cluster:
  id: 7
  member: 1
  name: x
  key: dGVzdCBrZXkgb2YgdGhlIG5hbWVzcGFjZSBsYWIgMTI=
  members: [{id: 1, name: gw-a}, {id: 2, name: gw-b}]
  timing: TIMING
interfaces:
  - {name: G1, zone: lan, address: 10.1.0.2/24, vips: [10.1.0.1]}
  - {name: G3, sync: true, address: 169.254.77.1/30}
`
