package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/bench/crowd"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// activeFTP opens sessions of FTP in active mode through the pair.
func activeFTP(t *testing.T, p *pair.Pair) *crowd.Crowd {
	t.Helper()
	c, err := crowd.Open(place{p.ClientNS}, place{p.ServerNS}, crowd.Plan{Direct: netip.MustParseAddr(pair.Server), FTP: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestPolicyHelpers: no helper is at work unless the policy says so, and for whom. With one, FTP in active mode goes through
// SNAT, over a hand-over and a sudden death; when it is taken out again, the connections that have it keep it.
func TestPolicyHelpers(t *testing.T) {
	p := installed(t)
	c := activeFTP(t, p.Pair)
	wantNone := func(why string) {
		t.Helper()
		if err := c.Prepare(); err == nil || !strings.Contains(err.Error(), "no helper is at work") {
			t.Errorf("%s: %v", why, err)
		}
	}
	revision := 1
	installAt := func(m *pair.Member, doc string) {
		t.Helper()
		revision++
		operate(t, m, true, "policy", "install", p.sign(revision, doc))
		p.waitRuns(uint64(revision), p.A, p.B)
	}
	install := func(doc string) {
		t.Helper()
		installAt(p.A, doc)
		p.inSync(p.A, p.B)
	}
	wantNone("without helpers")
	install(document("", `helpers: [{name: ftp, protocol: ftp, from: [wan]}, {name: other, protocol: ftp, from: [lan], source: [10.1.0.200]}]`))
	wantNone("with helpers for others")
	helper := `helpers: [{name: ftp, protocol: ftp, from: [lan], destination: [` + pair.Server + `]}]`
	install(document("", helper))
	if out := p.tool("explain", p.at("policy.yaml"), "--from", pair.Client, "--to", pair.Server+":21"); !strings.Contains(out, "helper/ftp") {
		t.Errorf("policy explain does not tell of the helper:\n%s", out)
	}
	if out := p.A.NS.Run("nft", "list", "counter", "inet", "twinkeep", "helper/ftp"); !strings.Contains(out, "packets 0 ") {
		t.Errorf("the counter of the new helper: %s", out)
	}
	event := func(name string, do func()) {
		t.Helper()
		if err := c.Prepare(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		time.Sleep(500 * time.Millisecond) // the expectation reaches the standby
		do()
		if f := c.FTP(); f.Running != "complete" || f.Waiting != "complete" {
			t.Errorf("%s: FTP: %+v\n%s", name, *f, p.A.Log())
		}
	}
	event("another policy", func() {
		install(document(noPing, helper))
	})
	if out := p.A.NS.Run("nft", "list", "counter", "inet", "twinkeep", "helper/ftp"); !strings.Contains(out, "packets 2 ") {
		t.Errorf("two sessions, and the counter over the install: %s", out)
	}
	event("hand-over", func() {
		operate(t, p.A, true, "cluster", "failover")
		p.WaitStates("STANDBY", "ACTIVE")
	})
	p.inSync(p.B, p.A)
	event("helpers taken out", func() {
		installAt(p.B, document(""))
	})
	wantNone("after the helper was taken out")
	installAt(p.B, document("", helper))
	p.inSync(p.B, p.A)
	event("sudden death", func() {
		p.B.Kill()
		p.WaitStates("ACTIVE", "")
	})
}

// TestPolicyDefer: the policy turns the hold of first packets on, in a running pair.
func TestPolicyDefer(t *testing.T) {
	p := installed(t)
	firstPackets(t, p.Pair, 20)
	if s := syncOf(p.A); s.Held != 0 {
		t.Errorf("%d first packets held without defer", s.Held)
	}
	operate(t, p.A, true, "policy", "install", p.sign(2, strings.Replace(document(""), "  timing:", "  defer: true\n  timing:", 1)))
	p.waitRuns(2, p.A, p.B)
	held := func(m *pair.Member) bool {
		return strings.Contains(m.NS.Run("nft", "list", "tables"), "hold")
	}
	p.Wait("both members to hold first packets", func() bool { return held(p.A) && held(p.B) })
	p.makeActive()
	firstPackets(t, p.Pair, 50)
	if s := syncOf(p.A); s.Held == 0 {
		t.Error("no first packet was held with defer")
	}
}
