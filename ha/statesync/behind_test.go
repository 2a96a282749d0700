package statesync

import (
	"strings"
	"testing"
	"time"
)

// TestTakesRoleBehind: why a member is not in sync stands in the log once, however long it lasts, and so does that it takes
// the role all the same. A member that is in sync takes it without a word.
func TestTakesRoleBehind(t *testing.T) {
	for _, full := range []bool{false, true} {
		w := newWorld(t, 1)
		w.role(1, 1)
		w.run(3 * time.Second)
		n := w.nodes[2]
		if full {
			n.k.room = 50
		}
		w.traffic(1, 400)
		w.run(20 * time.Second)
		if ok, text := n.m.InSync(); ok == full {
			t.Fatalf("full %v: in sync %v, %s", full, ok, text)
		}
		w.role(2, 2)
		w.run(time.Second)
		log := strings.Join(n.o.log, "\n")
		why, took := strings.Count(log, "not in sync: the connection table is full"), strings.Count(log, "this member took the role without being in sync (the connection table is full: 50 of 50): connections of the last holder may be missing")
		if want := map[bool]int{true: 1}[full]; why != want || took != want {
			t.Errorf("full %v: the reason is there %d times, the role %d times, want %d of each:\n%s", full, why, took, want, log)
		}
	}
}
