package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// widened is the document of three members.
func widened(rules string) string {
	return strings.NewReplacer(
		"{id: 2, name: gw-b, priority: 100}", "{id: 2, name: gw-b, priority: 100}, {id: 3, name: gw-c, priority: 90}",
		"  timing:", "  mode: active-up\n  timing:", pair.Timing, pair.QuorumTiming, "/30", "/29",
		"2: 10.1.0.3/24", "2: 10.1.0.3/24, 3: 10.1.0.4/24", "2: 192.0.2.3/24", "2: 192.0.2.3/24, 3: 192.0.2.4/24", "2: 169.254.77.2/29", "2: 169.254.77.2/29, 3: 169.254.77.3/29",
		"2: 169.254.77.2/30", "2: 169.254.77.2/29, 3: 169.254.77.3/29",
	).Replace(document(rules))
}

// TestPolicyThreeMembers: what is installed at one of three is on all of them; one that rejects it is left out and keeps the
// old one, until it believes it; one that was away gets it when it is back.
func TestPolicyThreeMembers(t *testing.T) {
	p := newPolicyPair(t)
	p.AddThird()
	p.trust(p.C, "office")
	all := []*pair.Member{p.A, p.B, p.C}
	for _, m := range all {
		m.Start()
	}
	p.Wait("all members to hear each other", func() bool {
		for _, m := range all {
			s := p.status(m)
			if len(s.Peers) != 2 || s.Peers[0].State == "LOST" || s.Peers[1].State == "LOST" {
				return false
			}
		}
		return true
	})
	out := operate(t, p.C, true, "policy", "install", p.sign(1, widened("")))
	for id := 1; id <= 3; id++ {
		if !strings.Contains(out, fmt.Sprintf("member %d: installed", id)) {
			t.Errorf("install at c:\n%s", out)
		}
	}
	p.waitRuns(1, all...)
	p.Wait("traffic", p.Reachable)
	roles := func() (active, standby string) {
		for _, m := range all {
			switch m.Status().State {
			case "ACTIVE":
				active += m.Name
			case "STANDBY":
				standby += m.Name
			}
		}
		return active, standby
	}
	p.Wait("one active member and two on standby, in sync", func() bool {
		active, standby := roles()
		return len(active) == 1 && len(standby) == 2 && p.A.Status().InSync && p.B.Status().InSync && p.C.Status().InSync
	})
	if p.A.Status().State != "ACTIVE" {
		operate(t, p.A, true, "ha", "-activate")
		p.Wait("a to be active", func() bool { active, standby := roles(); return active == "a" && len(standby) == 2 })
	}

	// c does not believe the second key: with all or nothing, nothing changes anywhere.
	p.tool("keygen", "--out", p.at("second"))
	for _, m := range all[:2] {
		p.trust(m, "second")
		operate(t, m, true, "node", "reload")
	}
	second := p.sign(2, widened(noPing), "second")
	if out := operate(t, p.A, false, "policy", "install", second); !strings.Contains(out, "member 3: rejected") || !strings.Contains(out, "member 1: kept the old policy") || !strings.Contains(out, "member 2: kept the old policy") {
		t.Errorf("install of what c rejects:\n%s", out)
	}
	p.waitRuns(1, all...)
	operate(t, p.B, true, "policy", "install", second, "--partial")
	p.waitRuns(2, p.A, p.B)
	p.Wait("c to be left out", func() bool { return p.C.Status().State == "DOWN" })
	p.waitProblem(p.C, "Policy: this member runs policy revision 1")
	p.Wait("the new rules", func() bool { return !p.Reachable() })
	// The role goes to b and to nobody else.
	stop := p.Watch()
	time.Sleep(100 * time.Millisecond)
	p.A.Kill()
	p.WaitStates("", "ACTIVE")
	p.B.Kill()
	time.Sleep(3 * time.Second)
	if s := p.C.Status(); s.State != "DOWN" || s.Gate.Open {
		t.Errorf("with the old policy c serves: %s", s.State)
	}
	onlyOwners(t, stop(), "a", "b")
	p.B.Start()
	p.WaitStates("", "ACTIVE")
	p.trust(p.C, "second")
	operate(t, p.C, true, "node", "reload")
	p.waitRuns(2, p.B, p.C)
	p.Wait("c to be on standby", func() bool { return p.C.Status().State == "STANDBY" })

	// a was away while another one came; by then it has both keys.
	operate(t, p.C, true, "policy", "install", p.sign(3, widened("")), "--partial")
	p.waitRuns(3, p.B, p.C)
	mark := len(p.A.Log())
	p.A.Start()
	p.says(p.A, mark, "took revision 3")
	p.waitRuns(3, all...)
	p.Wait("a to be on standby", func() bool { return p.A.Status().State == "STANDBY" })
	p.Wait("traffic by the newest", p.Reachable)
}

// TestPolicyWitness: a witness has no policy and votes on: an install neither asks it nor costs its vote, and what the policy
// says of it is in force.
func TestPolicyWitness(t *testing.T) {
	p := newPolicyPair(t)
	p.AddRoutedWitness()
	doc := func(rules string) string {
		return strings.NewReplacer("  timing:", "  witness: {address: "+pair.WitnessAddress+"}\n  timing:", pair.Timing, pair.QuorumTiming).Replace(
			document(rules, "routes: [{to: 203.0.113.0/24, via: "+pair.Server+"}]"))
	}
	p.W.Start()
	p.A.Start()
	p.B.Start()
	p.waitHeard()
	out := operate(t, p.B, true, "policy", "install", p.sign(1, doc("")))
	if strings.Contains(out, "member 9") || strings.Count(out, ": installed") != 2 {
		t.Errorf("install:\n%s", out)
	}
	p.waitRuns(1, p.A, p.B)
	p.makeActiveBesideWitness()
	votes(t, p.Pair, p.A, 3)
	pid, term := p.W.Process("witness"), p.W.Status().Term
	operate(t, p.B, true, "policy", "install", p.sign(2, doc(noPing)))
	p.waitRuns(2, p.A, p.B)
	p.Wait("the new rules", func() bool { return !p.Reachable() })
	votes(t, p.Pair, p.A, 3)
	if s := p.W.Status(); s.State != "WITNESS" || p.W.Process("witness") != pid || s.Term != term {
		t.Errorf("the install was not without a trace at the witness: %s, term %d, before %d", s.State, s.Term, term)
	}
	// With its vote the standby takes over, by the policy.
	stop := p.Watch()
	time.Sleep(100 * time.Millisecond)
	p.A.Kill()
	p.WaitStates("", "ACTIVE")
	onlyOwners(t, stop(), "a", "b")
	votes(t, p.Pair, p.B, 2)
	p.waitRuns(2, p.B)
	p.A.Start()
	p.WaitStates("STANDBY", "ACTIVE")
	p.waitRuns(2, p.A)
}

// makeActiveBesideWitness is makeActive where the status has a witness among the peers.
func (p *policyPair) makeActiveBesideWitness() {
	p.t.Helper()
	p.Wait("a pair in sync", func() bool {
		a, b := p.A.Status(), p.B.Status()
		return (a.State == "ACTIVE" && b.State == "STANDBY" || a.State == "STANDBY" && b.State == "ACTIVE") && a.InSync && b.InSync
	})
	if p.A.Status().State != "ACTIVE" {
		operate(p.t, p.A, true, "ha", "-activate")
	}
	p.WaitStates("ACTIVE", "STANDBY")
	p.Wait("b in sync", func() bool { return p.B.Status().InSync })
}
