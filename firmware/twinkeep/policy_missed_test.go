package main

import (
	"strings"
	"testing"
	"time"
)

// TestPolicyMissed: a member that an install could not reach knows by the heartbeats that the cluster runs something newer,
// and still knows it after a restart with nobody there: it serves nothing until it has that policy.
func TestPolicyMissed(t *testing.T) {
	p := installed(t)
	const drop = "add table inet cut; add chain inet cut out { type filter hook output priority -400; }; add rule inet cut out tcp dport 8119 drop; add rule inet cut out tcp sport 8119 drop"
	p.B.NS.Run("nft", drop) // heartbeats pass
	if out := operate(t, p.A, true, "policy", "install", p.sign(2, document("")), "--partial"); !strings.Contains(out, "member 2: unreachable") {
		t.Errorf("install:\n%s", out)
	}
	p.Wait("member b to be taken out", func() bool { return p.B.Status().State == "DOWN" })
	const missed = "revision 2 ("
	known := func() bool {
		s := p.status(p.B)
		return s.Missed != nil && s.Missed.Revision == 2 && strings.Contains(s.Standing.Why, "gw-a runs revision 2")
	}
	p.Wait("member b to know", known)

	p.A.Kill()
	p.B.Stop()
	p.B.NS.Run("nft", "delete table inet cut")
	p.B.Start()
	p.Wait("member b to know after its restart", known)
	p.waitProblem(p.B, "Policy: this member runs policy revision 1")
	time.Sleep(2 * time.Second)
	if s := p.B.Status(); s.State != "DOWN" || s.Gate.Open {
		t.Errorf("a member with an older policy serves: %s", s.State)
	}
	for _, command := range []string{"history", "status"} {
		if out := operate(t, p.B, true, "policy", command); !strings.Contains(out, missed) || !strings.Contains(out, "which gw-a ran") {
			t.Errorf("%s:\n%s", command, out)
		}
	}

	p.A.Start()
	p.waitRuns(2, p.A, p.B)
	p.WaitStates("ACTIVE", "STANDBY")
	if s := p.status(p.B); s.Missed != nil {
		t.Errorf("still missed: %s", s.Missed)
	}
}
