package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// The stories of the founding documents (ha/sim/testdata/transcripts) that no other test here plays on the real kernel.

// five gives a pair two interfaces more.
func five(t *testing.T) *pair.Pair {
	t.Helper()
	p := pair.NewPair(t, binary)
	for i, m := range []*pair.Member{p.A, p.B} {
		text := pair.NodeFile(i + 1)
		for k, nic := range []string{"dmz", "lab"} {
			p.Plug(m, nic)
			text = strings.Replace(text, "nat:\n", fmt.Sprintf("  - {name: %s, zone: lan, address: 10.%d.0.%d/24, vips: [10.%d.0.1], place: 0/%d/0}\nnat:\n", nic, k+2, i+2, k+2, k+6), 1)
		}
		m.WriteNode(text)
	}
	p.StartBoth()
	return p
}

// changes is how often B has seen the role move.
func changes(p *pair.Pair) uint64 { return p.B.Status().Failover.Count }

// TestFiveInterfacesTwoUnlinked: two LANs die under both members, who notice one after the other; the role moves once for
// each at most, in an orderly way, and the others are served all the time.
func TestFiveInterfacesTwoUnlinked(t *testing.T) {
	p := five(t)
	stop := p.Watch()
	before := changes(p)
	for _, nic := range []string{"dmz", "lab"} {
		for _, m := range []*pair.Member{p.A, p.B} {
			p.Switch.Run("ip", "link", "set", pair.Port(m.Name, nic), "down")
		}
	}
	settled := func() bool {
		a, b := p.A.Status(), p.B.Status()
		states := []string{a.State, b.State}
		slices.Sort(states)
		return slices.Equal(states, []string{"ACTIVE!", "DOWN"}) && len(a.Problems) == 2 && len(b.Problems) == 2
	}
	p.Wait("one ACTIVE! and the other DOWN, with two problems each", settled)
	time.Sleep(2 * time.Second)
	if !settled() {
		t.Errorf("then a is %s and b is %s", p.A.Status().State, p.B.Status().State)
	}
	if n := changes(p) - before; n > 2 {
		t.Errorf("%d role changes", n)
	}
	p.Wait("traffic", p.Reachable)
	if owners := pair.Owners(stop()); len(owners) > 3 {
		t.Errorf("the shared MAC was served by %v", owners)
	}
}

// TestAllButSyncDown: the active member loses everything but the sync interface, one after the other.
func TestAllButSyncDown(t *testing.T) {
	p := five(t)
	stop := p.Watch()
	for i, nic := range []string{"wan", "dmz", "lab", "lan"} {
		p.Switch.Run("ip", "link", "set", pair.Port("a", nic), "down")
		p.WaitStates("DOWN", "ACTIVE")
		p.Wait("a problem more", func() bool { return len(p.A.Status().Problems) == i+1 })
	}
	p.Wait("traffic", p.Reachable)
	for _, nic := range []string{"wan", "dmz", "lab", "lan"} {
		p.Switch.Run("ip", "link", "set", pair.Port("a", nic), "up")
	}
	p.WaitStates("STANDBY", "ACTIVE") // active-up: the role stays
	onlyOwners(t, stop(), "a", "b")
}

// TestSyncOnly: the network drops the heartbeats of every LAN but the sync one; nobody takes over.
func TestSyncOnly(t *testing.T) {
	p := started(t)
	stop := p.Watch()
	before := changes(p)
	var chains []string
	for _, m := range []string{"a", "b"} {
		for _, nic := range []string{"lan", "wan"} {
			chains = append(chains, "type filter hook egress device "+pair.Port(m, nic)+" priority 0; @ll,0,32 0x11000000 drop;")
		}
	}
	heal := cut(p, chains...)
	time.Sleep(3 * time.Second)
	p.WaitStates("ACTIVE", "STANDBY")
	p.Wait("traffic", p.Reachable)
	heal()
	time.Sleep(500 * time.Millisecond)
	p.WaitStates("ACTIVE", "STANDBY")
	if n := changes(p) - before; n != 0 {
		t.Errorf("%d role changes", n)
	}
	onlyOwners(t, stop(), "a")
}

// TestSyncCableOfThePair: without the sync network both are less fit, and the role stays.
func TestSyncCableOfThePair(t *testing.T) {
	p := started(t)
	stop := p.Watch()
	for _, m := range []string{"a", "b"} {
		p.Switch.Run("ip", "link", "set", pair.Port(m, "sync"), "down")
	}
	p.WaitStates("ACTIVE!", "DOWN")
	p.Wait("traffic", p.Reachable)
	for _, m := range []string{"a", "b"} {
		p.Switch.Run("ip", "link", "set", pair.Port(m, "sync"), "up")
	}
	p.WaitStates("ACTIVE", "STANDBY")
	onlyOwners(t, stop(), "a")
}
