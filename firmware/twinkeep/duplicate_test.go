package main

import (
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// TestDuplicateAddress: another host has a shared address, and a member's private one. Both are named, no role changes.
func TestDuplicateAddress(t *testing.T) {
	p := started(t)
	time.Sleep(4 * time.Second) // the first question is over: a healthy pair names nobody
	for _, m := range []*pair.Member{p.A, p.B} {
		if strings.Contains(m.Log(), "duplicate_address") {
			t.Fatalf("%s sees a duplicate where there is none:\n%s", m.Name, m.Log())
		}
	}
	mac := p.ServerNS.MAC("eth0").String()
	p.ServerNS.IP("addr add " + pair.WANVIP + "/24 dev eth0")
	p.ServerNS.IP("addr add 192.0.2.3/24 dev eth0") // B's
	// Whoever has them now asks for somebody, so that all hear it.
	for _, src := range []string{pair.WANVIP, "192.0.2.3"} {
		p.ServerNS.Run("sh", "-c", "ping -c1 -W1 -I "+src+" 192.0.2.77 || true")
	}
	p.Wait("the shared address to be named", func() bool {
		return strings.Contains(p.A.Log(), "the shared address 192.0.2.1 on wan is used by "+mac+" too") &&
			strings.Contains(p.B.Log(), "the shared address 192.0.2.1 on wan is used by "+mac+" too")
	})
	p.Wait("the private address to be named", func() bool {
		return strings.Contains(p.B.Log(), "this member's own address 192.0.2.3 on wan is used by "+mac+" too")
	})
	if strings.Contains(p.A.Log(), "own address") {
		t.Error("a takes b's address for its own")
	}
	if out := operate(t, p.A, true, "cluster", "interfaces"); !strings.Contains(out, "192.0.2.1 is used by "+mac+" too") {
		t.Errorf("%s", out)
	}
	if n := strings.Count(p.A.Log(), "duplicate_address"); n != 1 {
		t.Errorf("%d events", n)
	}
	p.WaitStates("ACTIVE", "STANDBY")
}
