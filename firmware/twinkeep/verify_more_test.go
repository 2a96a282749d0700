package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// TestVerifyThreeMembers: each of three gives the same verdict, also on a role that goes to one that never had it, and comes from there.
func TestVerifyThreeMembers(t *testing.T) {
	p := three(t)
	stream(t, p)
	counted(p, p.A)
	all := []*pair.Member{p.A, p.B, p.C}
	before := ""
	for _, c := range []struct {
		from, to *pair.Member
		asked    []*pair.Member
	}{{p.A, p.C, all}, {p.C, p.B, []*pair.Member{p.A}}} {
		p.WaitSync(c.to)
		operate(t, c.from, true, "cluster", "failover", "--to", "gw-"+c.to.Name)
		p.Wait("the role at "+c.to.Name, func() bool { return c.to.Status().State == "ACTIVE" && c.from.Status().State == "STANDBY" })
		counted(p, c.to)
		before = "gw-" + c.to.Name + " now, against gw-" + c.from.Name + ", before it lost the role, as it says now"
		for _, m := range c.asked {
			steps := verified(t, m, api.VerifyOK)
			for _, s := range all {
				state := "STANDBY"
				if s == c.to {
					state = "ACTIVE"
				}
				wantStep(t, steps["one master"], api.VerifyOK, "gw-"+s.Name+": "+state)
				wantStep(t, steps["NAT entries"], api.VerifyOK, "gw-"+s.Name+": 1 entry of NAT, loaded")
				wantStep(t, steps["traffic"], api.VerifyOK, "gw-"+s.Name+" wan, host 192.0.2.1")
			}
			wantStep(t, steps["virtual route table"], api.VerifyOK, "gw-a: management of others false, as it must be: 10.1.0.3 (gw-b)")
			wantStep(t, steps["virtual route table"], api.VerifyOK, "10.1.0.4 (gw-c)")
			wantStep(t, steps["volume"], api.VerifyOK, before)
		}
	}
	// One that carried nothing is gone: what it alone could say is unknown, what the two others say is not.
	p.A.Kill()
	p.Wait("gw-a to be missed", func() bool { return !p.B.Status().Peers[0].Alive })
	steps := verified(t, p.C, api.VerifyUnknown)
	wantStep(t, steps["one master"], api.VerifyUnknown, "gw-a cannot be asked")
	wantStep(t, steps["virtual addresses"], api.VerifyUnknown, "10.1.0.1 on lan")
	wantStep(t, steps["volume"], api.VerifyOK, before)
}

// TestVerifyWithWitness: the votes are evidence, the witness is no member that could serve, and cannot verify.
func TestVerifyWithWitness(t *testing.T) {
	p := witnessed(t)
	stream(t, p)
	counted(p, p.A)
	operate(t, p.A, true, "cluster", "failover")
	p.WaitStates("STANDBY", "ACTIVE")
	votes(t, p, p.B, 3)
	counted(p, p.B)
	for _, m := range []*pair.Member{p.A, p.B} {
		steps := verified(t, m, api.VerifyOK)
		wantStep(t, steps["one master"], api.VerifyOK, "3 of 3 votes for gw-b, 2 are a majority")
		if text := strings.Join(steps["one master"].Evidence, "\n"); strings.Contains(text, "gw-w") {
			t.Errorf("the witness is taken for a member:\n%s", text)
		}
	}
	var e *api.Error
	if _, err := api.NewClient(p.W.Run()).Verify(t.Context(), api.DefaultWatch); !errors.As(err, &e) || e.Status != 409 || e.Hint != "ask a member" {
		t.Errorf("verified by the witness: %v", err)
	}
	p.W.Kill()
	votes(t, p, p.B, 2)
	wantStep(t, verified(t, p.B, api.VerifyOK)["one master"], api.VerifyOK, "2 of 3 votes for gw-b, 2 are a majority; missing: gw-w")
}
