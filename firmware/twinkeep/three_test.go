package main

import (
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

func three(t *testing.T, lines ...string) *pair.Pair {
	t.Helper()
	p := pair.NewPair(t, binary)
	p.AddThird(lines...)
	p.C.Start()
	p.StartBoth()
	p.Wait("the third", func() bool {
		return p.C.Status().State == "STANDBY" && len(p.C.Status().Peers) == 2 && p.A.Status().Peers[1].Alive
	})
	p.WaitSync(p.C)
	return p
}

// TestThreeMembers: the role goes from one to the next, and back by a hand-over to a member that is named.
func TestThreeMembers(t *testing.T) {
	p := three(t)
	stop := p.Watch()
	time.Sleep(100 * time.Millisecond)
	p.A.Kill()
	p.WaitStates("", "ACTIVE")
	time.Sleep(200 * time.Millisecond)
	if s := p.C.Status().State; s != "STANDBY" {
		t.Errorf("c is %s beside b", s)
	}
	p.B.Kill()
	p.Wait("c to take over", func() bool { return p.C.Status().State == "ACTIVE" })
	p.A.Start()
	p.B.Start()
	p.WaitStates("STANDBY", "STANDBY")
	p.WaitSync(p.A)
	p.WaitSync(p.B)
	operate(t, p.C, true, "cluster", "failover", "--to", "gw-b")
	p.WaitStates("STANDBY", "ACTIVE")
	onlyOwners(t, stop(), "a", "b", "c", "b")
}

// TestThreeMembersInSafetyMode: two of three are a majority, one is none, without any witness.
func TestThreeMembersInSafetyMode(t *testing.T) {
	p := three(t, "safety: true")
	votes(t, p, p.A, 3)
	stop := p.Watch()
	time.Sleep(100 * time.Millisecond)
	p.Cut([]string{"a"}, []string{"b", "c"})
	p.WaitStates("STANDBY", "ACTIVE")
	time.Sleep(time.Second)
	p.Heal()
	p.Wait("b to have all votes", func() bool { return p.B.Status().Quorum.Support == 3 })
	p.WaitStates("STANDBY", "ACTIVE")
	p.A.Kill()
	time.Sleep(2 * time.Second)
	p.WaitStates("", "ACTIVE")
	p.C.Kill()
	p.Wait("b to give up", func() bool { return p.B.Status().State == "STANDBY" && !p.B.Status().Gate.Open })
	onlyOwners(t, stop(), "a", "b")
}
