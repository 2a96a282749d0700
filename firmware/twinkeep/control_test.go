package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// verdict is what a member says of its LAN interface, "kind: text".
func verdict(m *pair.Member) string {
	for _, f := range m.Status().Interfaces {
		if f.Name == "lan" && f.Verdict != nil {
			return f.Verdict.Kind + ": " + f.Verdict.Text
		}
	}
	return "ok"
}

func opinion(list []member.Opinion, by uint8) string {
	for _, o := range list {
		if o.Member == by {
			return o.State
		}
	}
	return ""
}

// cut drops what rules in the switch match, until it is healed. Carriers stay.
func cut(p *pair.Pair, chains ...string) (heal func()) {
	rules := "add table netdev cut;"
	for i, c := range chains {
		rules += fmt.Sprintf("add chain netdev cut c%d { %s };", i, c)
	}
	p.Switch.Run("nft", rules)
	return func() { p.Switch.Run("nft", "delete table netdev cut") }
}

// drop is a chain that drops everything from (ingress) or to (egress) the host at a port of the switch.
func drop(hook, port string) string {
	return fmt.Sprintf("type filter hook %s device %s priority 0; policy drop;", hook, port)
}

func TestOpinions(t *testing.T) {
	p := started(t)
	p.Wait("each knows what the other thinks", func() bool {
		a, b := p.A.Status(), p.B.Status()
		return opinion(a.Opinions, 2) == "ACTIVE" && opinion(b.Opinions, 1) == "STANDBY" &&
			opinion(a.Peers[0].Opinions, 2) == "STANDBY" && opinion(b.Peers[0].Opinions, 1) == "ACTIVE"
	})
	if err := p.A.Request("POST", "had.sock", "/v1/deactivate", nil); err != nil {
		t.Fatal(err)
	}
	p.Wait("the opinions follow the role", func() bool {
		return opinion(p.A.Status().Opinions, 2) == "STANDBY" && opinion(p.B.Status().Opinions, 1) == "ACTIVE"
	})
	p.A.Kill()
	p.Wait("the opinion of a dead member is no opinion", func() bool { return len(p.B.Status().Opinions) == 0 })
	for _, f := range p.B.Status().Interfaces {
		if f.Verdict != nil && f.Verdict.Kind != "probing" && f.Verdict.Kind != "alone" {
			t.Errorf("%s: %+v with nobody else alive", f.Name, f.Verdict)
		}
	}
}

// TestWhoseSideFailed cuts the LAN of a running pair in every way and reads from both members what they make of it.
func TestWhoseSideFailed(t *testing.T) {
	p := started(t)
	mac := func(m *pair.Member) string { return m.Status().Interfaces[0].MAC }
	for _, c := range []struct {
		name   string
		chains []string
		a, b   string // verdicts
	}{
		{"the switch is dead", []string{drop("ingress", "a-lan"), drop("ingress", "b-lan"), drop("egress", "a-lan"), drop("egress", "b-lan")}, // what the bridge itself says, too
			"lan: the LAN: nothing is received here nor at gw-b", "lan: the LAN: nothing is received here nor at gw-a"},
		{"b does not reach a", []string{"type filter hook egress device a-lan priority 0;"},
			"one-way: path one way only: gw-b hears us, we do not hear gw-b; neighbours answer both", "one-way: path one way only: we hear gw-a, gw-a does not hear us; neighbours answer both"},
		{"the LAN is split", []string{"type filter hook egress device a-lan priority 0;", "type filter hook egress device b-lan priority 0;"},
			"split: between: neighbours answer here and at gw-b", "split: between: neighbours answer here and at gw-a"},
		{"heartbeats are filtered", []string{"type filter hook egress device a-lan priority 0;", "type filter hook egress device b-lan priority 0;"},
			"filtered: CCP of gw-b arrives, its heartbeats do not", "filtered: CCP of gw-a arrives, its heartbeats do not"},
		{"b's port is dead", []string{drop("ingress", "b-lan"), drop("egress", "b-lan")},
			"theirs: gw-b's side: neighbours answer here, gw-b alone is silent", "ours: our side: nothing at all is received; neighbours answer gw-a, not us"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.WaitStates("ACTIVE", "")
			term := p.A.Status().Term
			heal := cut(p, c.chains...)
			switch c.name {
			case "b does not reach a":
				p.Switch.Run("nft", "add rule netdev cut c0 ether saddr "+mac(p.B)+" drop")
			case "the LAN is split":
				p.Switch.Run("nft", "add rule netdev cut c0 ether saddr "+mac(p.B)+" drop; add rule netdev cut c1 ether saddr "+mac(p.A)+" drop")
			case "heartbeats are filtered":
				p.Switch.Run("nft", "add rule netdev cut c0 udp dport 999 drop; add rule netdev cut c1 udp dport 999 drop")
			}
			p.Wait(c.name+": the verdicts", func() bool { return strings.HasPrefix(verdict(p.A), c.a) && strings.HasPrefix(verdict(p.B), c.b) })
			time.Sleep(3 * time.Second) // they settle, and nothing follows from them for the role
			t.Logf("a says %s\nb says %s", verdict(p.A), verdict(p.B))
			if a, b := verdict(p.A), verdict(p.B); !strings.HasPrefix(a, c.a) || !strings.HasPrefix(b, c.b) {
				t.Errorf("later a says %s\nb says %s", a, b)
			}
			if s := p.A.Status(); s.State != "ACTIVE" || s.Term != term {
				t.Errorf("a is %s with term %d, was ACTIVE with %d", s.State, s.Term, term)
			}
			heal()
			p.Wait(c.name+": healed", func() bool { return verdict(p.A) == "ok" && verdict(p.B) == "ok" })
		})
	}
}

// TestDeadPortOfTheActive: its carrier stays, and the sync interface keeps the members in touch; without interface probing
// it would go on as the active member, dumb and deaf. One change of the role follows, and none when the port is repaired.
func TestDeadPortOfTheActive(t *testing.T) {
	p := started(t)
	count := p.B.Status().Failover.Count
	heal := cut(p, drop("ingress", "a-lan"), drop("egress", "a-lan"))
	p.WaitStates("DOWN", "ACTIVE")
	p.Wait("traffic after the takeover", p.Reachable)
	if v := verdict(p.A); !strings.HasPrefix(v, "ours: our side: nothing at all is received; neighbours answer gw-b, not us") {
		t.Errorf("a says %s", v)
	}
	s := p.A.Status()
	if len(s.Problems) != 1 || !strings.HasPrefix(s.Problems[0], "Interface Active Check: lan: our side") {
		t.Errorf("problems %v", s.Problems)
	}
	p.Wait("the event of the verdict", func() bool { return strings.Contains(p.A.Log(), "msg=interface_probe text=\"lan: our side") })
	heal()
	p.WaitStates("STANDBY", "ACTIVE")
	p.Wait("no verdicts", func() bool { return verdict(p.A) == "ok" && verdict(p.B) == "ok" })
	time.Sleep(time.Second)
	if n := p.B.Status().Failover.Count - count; n != 1 {
		t.Errorf("%d role changes, want 1", n)
	}
}

func TestCarrierLostWithVerdict(t *testing.T) {
	p := started(t)
	p.Switch.Run("ip", "link", "set", "a-lan", "down")
	p.Wait("the verdicts", func() bool {
		return strings.HasPrefix(verdict(p.A), "no-carrier: our side: no carrier here, gw-b has it") && verdict(p.B) == "theirs: gw-a's side: no carrier there"
	})
	if s := p.A.Status(); len(s.Problems) != 1 {
		t.Errorf("a carrier counts once, problems are %v", s.Problems)
	}
}
