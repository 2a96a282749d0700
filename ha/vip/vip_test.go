package vip

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// TestEnsure: made, made again without a change, changed, moved to another shared MAC, removed.
func TestEnsure(t *testing.T) {
	ns, far := netnslab.New(t), netnslab.New(t)
	netnslab.Veth(ns, "lan", far, "eth0")
	addr := netip.MustParseAddr
	for _, step := range []struct {
		name  string
		nn    uint8
		addrs []netip.Addr
	}{
		{"new", 0x0c, []netip.Addr{addr("10.1.0.1"), addr("2001:db8::1")}},
		{"the same", 0x0c, []netip.Addr{addr("10.1.0.1"), addr("2001:db8::1")}},
		{"other addresses", 0x0c, []netip.Addr{addr("10.1.0.5")}},
		{"other shared MAC", 0x10, []netip.Addr{addr("10.1.0.5")}},
	} {
		t.Run(step.name, func(t *testing.T) {
			mac := wire.SharedMAC(step.nn, 7)
			ns.Try(func() error { return Ensure(Config{Parent: "lan", MAC: mac, Addrs: step.addrs}) })
			link := ns.IP("-d link show lan-vip")
			if !strings.Contains(link, "mode private") || !strings.Contains(link, "10:00:00:00:"+map[uint8]string{0x0c: "0c", 0x10: "10"}[step.nn]+":07") {
				t.Errorf("link:\n%s", link)
			}
			list := ns.IP("-o addr show lan-vip")
			if got := strings.Count(list, "inet"); got != len(step.addrs) {
				t.Errorf("%d addresses, want %d:\n%s", got, len(step.addrs), list)
			}
			for _, a := range step.addrs {
				if !strings.Contains(list, " "+a.String()+"/") {
					t.Errorf("%s is missing:\n%s", a, list)
				}
			}
			if strings.Contains(list, "tentative") {
				t.Errorf("an address waits for duplicate detection, which a peer with the same MAC would fail:\n%s", list)
			}
		})
	}
	ns.Try(func() error { return Remove("lan") })
	ns.Try(func() error { return Remove("lan") })
	if out := ns.IP("-o link show"); strings.Contains(out, "lan-vip") {
		t.Errorf("still there:\n%s", out)
	}
}

func TestEnsureWithoutParent(t *testing.T) {
	ns := netnslab.New(t)
	ns.Do(func() {
		if err := Ensure(Config{Parent: "nowhere", MAC: wire.SharedMAC(1, 1)}); err == nil || !strings.Contains(err.Error(), "nowhere") {
			t.Errorf("error %v does not name the device", err)
		}
	})
}
