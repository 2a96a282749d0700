package main

import (
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// deafTo drops the heartbeats on their way to a member, on all its NICs; everything else passes.
func deafTo(p *pair.Pair, member string) (heal func()) {
	var chains []string
	for _, nic := range []string{"lan", "wan", "sync"} {
		chains = append(chains, "type filter hook egress device "+pair.Port(member, nic)+" priority 0; @ll,0,32 0x11000000 drop;")
	}
	return cut(p, chains...)
}

// TestOneWayStandbyDeaf: the standby does not hear the active member, which hears it. The role moves, and at no instant do
// both serve: the active one, told by the other's heartbeats, is silent first. One capture of all ports has the order.
func TestOneWayStandbyDeaf(t *testing.T) {
	p := started(t)
	stop := p.Watch()
	time.Sleep(100 * time.Millisecond)
	heal := deafTo(p, "b")
	p.WaitStates("STANDBY", "ACTIVE")
	p.Wait("traffic", p.Reachable)
	heal()
	p.Wait("b to hear a again", func() bool { s := p.B.Status(); return len(s.Peers) == 1 && s.Peers[0].Alive })
	time.Sleep(time.Second)
	p.WaitStates("STANDBY", "ACTIVE")
	onlyOwners(t, stop(), "a", "b")
}

// TestOneWayActiveDeaf: the active member does not hear the standby; nothing moves.
func TestOneWayActiveDeaf(t *testing.T) {
	p := started(t)
	stop := p.Watch()
	heal := deafTo(p, "a")
	p.Wait("a to miss b", func() bool { s := p.A.Status(); return len(s.Peers) == 1 && !s.Peers[0].Alive })
	time.Sleep(time.Second)
	heal()
	p.Wait("a to hear b again", func() bool { s := p.A.Status(); return len(s.Peers) == 1 && s.Peers[0].Alive })
	p.WaitStates("ACTIVE", "STANDBY")
	onlyOwners(t, stop(), "a")
}
