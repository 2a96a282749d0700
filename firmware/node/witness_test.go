package node

import (
	"strings"
	"testing"
	"time"
)

const witnessed = `version: 1
hostname: gw-w
cluster:
  id: 7
  member: 9
  key: QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=
  lock: true
  members: [{id: 1, name: gw-a, priority: 120}, {id: 2, name: gw-b}]
  witnesses: [{id: 9, name: gw-w}]
interfaces:
  - {name: W1, number: 2, address: 10.1.0.9/24, nn: 0x18}
`

func TestWitness(t *testing.T) {
	n, warnings, err := Parse("node.yaml", []byte(witnessed))
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	c := n.Cluster
	if !c.Judges() || !c.Quorum() || c.Routed() || !c.Lock || c.Safety || len(c.Witnesses) != 1 || n.Interfaces[0].Number != 2 {
		t.Errorf("%+v", c)
	}
	// The timing's defaults are those of a cluster that needs a majority, key by key.
	want := quorumTiming
	if c.Timing != want {
		t.Errorf("timing %+v", c.Timing)
	}
	n, _, err = Parse("node.yaml", []byte(strings.Replace(witnessed, "  lock: true", "  timing: {silence: 1s}", 1)))
	if want.Silence = time.Second; err != nil || n.Cluster.Timing != want {
		t.Errorf("timing %+v, %v", n.Cluster.Timing, err)
	}
}

// TestRoutedWitness: a witness elsewhere needs no interface of its own.
func TestRoutedWitness(t *testing.T) {
	text := strings.Replace(witnessed[:strings.Index(witnessed, "interfaces:")], "name: gw-w}]", "name: gw-w, address: 203.0.113.9}]", 1)
	n, warnings, err := Parse("witness.yaml", []byte(text))
	if err != nil || len(warnings) > 0 || !n.Cluster.Routed() {
		t.Fatal(err, warnings)
	}
	if _, _, err := Parse("witness.yaml", []byte(strings.Replace(text, "member: 9", "member: 1", 1))); err == nil {
		t.Error("a member without interfaces is taken")
	}
}
