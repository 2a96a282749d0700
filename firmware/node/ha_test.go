package node

import (
	"testing"
	"time"
)

func TestSameHA(t *testing.T) {
	load := func() *Node {
		return &Node{Cluster: &Cluster{ID: 7, Member: 1, Name: "test", Timing: Timing{Beat: 10 * time.Millisecond}},
			Interfaces: []Interface{{Name: "G1", Zone: "lan"}}}
	}
	a, b := load(), load()
	b.Interfaces[0].Zone, b.Cluster.Name = "dmz", "other"
	if !SameHA(a, b) {
		t.Error("a zone or a name makes had start anew")
	}
	b.Cluster.Timing.Beat += time.Millisecond
	if SameHA(a, b) {
		t.Error("other times do not reach had")
	}
}
