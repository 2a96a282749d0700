package gate

import (
	"os/exec"
	"testing"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// TestCounters: what came in for the shared MAC is counted by what became of it.
func TestCounters(t *testing.T) {
	b := newBench(t)
	read := func() (c Counts) {
		b.gw.Do(func() {
			all, err := Counters([]string{"va", "no-gate"})
			if _, made := all["no-gate"]; err != nil || made || len(all) != 1 {
				t.Errorf("counters %v, %v", all, err)
			}
			c = all["va"]
		})
		return c
	}
	if c := read(); c != (Counts{}) {
		t.Errorf("a new gate has counted %+v", c)
	}
	if b.answers() {
		t.Fatal("a freshly installed gate is open")
	}
	shut := read()
	if shut.In.Packets != 0 || shut.Refused.Packets != 1 || shut.Refused.Bytes != 84 { // an echo request of ping, with its IPv4 header
		t.Errorf("one ping to a shut gate: %+v", shut)
	}
	b.beat(wire.Open)
	exec.Command("ip", "netns", "exec", b.neighbour.Name, "ping", "-c1", "-W0.05", "10.9.0.1").Run()
	if c := read(); c.In.Packets == 0 || c.Refused != shut.Refused {
		t.Errorf("one ping through an open gate: %+v", c)
	}
	b.beat(wire.Drain)
	before := read()
	if b.answers(); read().In.Packets == before.In.Packets {
		t.Errorf("one ping through a draining gate: %+v before, %+v after", before, read())
	}
}
