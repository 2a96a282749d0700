package netconf

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

func TestNew(t *testing.T) {
	data, err := os.ReadFile("../node/testdata/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	n, _, err := node.Parse("node.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Links: []Link{
			{"G1", "G1", prefixes("10.1.0.2/24")},
			{"G2", "G2", prefixes("192.0.2.2/24")},
			{"G3", "G3", prefixes("169.254.77.1/30")},
		},
		Routes: []Route{route("0.0.0.0/0 192.0.2.254 G2")},
	}
	if diff := cmp.Diff(want, New(n), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func prefixes(s string) (out []netip.Prefix) {
	for _, p := range strings.Fields(s) {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func route(s string) Route {
	f := strings.Fields(s)
	return Route{netip.MustParsePrefix(f[0]), netip.MustParseAddr(f[1]), f[2]}
}

// TestApply walks one namespace through a life: start, again, a change, a NIC that comes late. After every step the
// changes but those of parameters are compared, and a second Apply must find nothing to do.
func TestApply(t *testing.T) {
	ns, far := netnslab.New(t), netnslab.New(t)
	netnslab.Veth(ns, "G1", far, "a")
	netnslab.Veth(ns, "G2", far, "b")
	ns.IP("link set G1 down")
	// What others made: a VIP of had's, an address and a route by hand.
	ns.IP("link add link G1 name G1-vip type macvlan mode private")
	ns.IP("addr add 10.1.0.1/32 dev G1-vip")
	ns.IP("addr add 10.8.0.1/24 dev G2")
	ns.IP("route add 10.99.0.0/24 via 10.8.0.9")
	foreign := func() string {
		return ns.IP("-o -4 addr show dev G1-vip") + ns.IP("-4 addr show to 10.8.0.1/32") + ns.IP("route show 10.99.0.0/24")
	}
	before := foreign()

	g1, g2, g3 := Link{"G1", "G1", nil}, Link{"G2", "G2", nil}, Link{"G3", "G3", nil}
	with := func(l Link, addresses string) Link { l.Addresses = prefixes(addresses); return l }
	steps := []struct {
		name    string
		prepare func()
		config  Config
		missing string
		changes []string
	}{
		{
			name: "start",
			config: Config{
				Links:  []Link{with(g1, "10.1.0.2/24 2001:db8::2/64"), with(g3, "10.3.0.2/30"), with(g2, "10.2.0.2/24")},
				Routes: []Route{route("0.0.0.0/0 10.1.0.254 G1"), route("10.77.0.0/16 10.3.0.1 G3"), route("::/0 2001:db8::9 G1")},
			},
			missing: "G3",
			changes: []string{
				"link G1 up",
				"address 10.1.0.2/24 added to G1", "address 2001:db8::2/64 added to G1", "address 10.2.0.2/24 added to G2",
				"route 0.0.0.0/0 via 10.1.0.254 dev G1 added", "route ::/0 via 2001:db8::9 dev G1 added",
			},
		},
		{
			name: "another address in the same subnet, another router",
			config: Config{
				Links:  []Link{with(g1, "10.1.0.3/24"), with(g2, "10.2.0.2/24 10.2.0.3/24")},
				Routes: []Route{route("0.0.0.0/0 10.2.0.254 G2")},
			},
			changes: []string{
				"address 10.1.0.2/24 removed from G1", "address 2001:db8::2/64 removed from G1",
				"address 10.1.0.3/24 added to G1", "address 10.2.0.3/24 added to G2",
				"route ::/0 via 2001:db8::9 dev G1 removed",
				"route 0.0.0.0/0 via 10.2.0.254 dev G2 added",
			},
		},
		{
			name:    "a primary goes, its secondary stays wanted; a NIC appears",
			prepare: func() { netnslab.Veth(ns, "G3", far, "c"); ns.IP("link set G3 down") },
			config: Config{
				Links:  []Link{with(g1, "10.1.0.3/24"), with(g2, "10.2.0.3/24"), with(g3, "10.3.0.2/30")},
				Routes: []Route{route("0.0.0.0/0 10.2.0.254 G2"), route("10.77.0.0/16 10.3.0.1 G3")},
			},
			changes: []string{
				"link G3 up",
				"address 10.2.0.2/24 removed from G2", "address 10.2.0.3/24 added to G2", "address 10.3.0.2/30 added to G3",
				"route 10.77.0.0/16 via 10.3.0.1 dev G3 added",
			},
		},
		{
			name:    "a link went down and up",
			prepare: func() { ns.IP("link set G2 down"); ns.IP("link set G2 up") },
			config: Config{
				Links:  []Link{with(g1, "10.1.0.3/24"), with(g2, "10.2.0.3/24"), with(g3, "10.3.0.2/30")},
				Routes: []Route{route("0.0.0.0/0 10.2.0.254 G2"), route("10.77.0.0/16 10.3.0.1 G3")},
			},
			changes: []string{"route 0.0.0.0/0 via 10.2.0.254 dev G2 added"},
		},
		{
			name: "an operator takes an interface out",
			config: Config{
				Links:    []Link{with(g1, "10.1.0.3/24"), with(g2, "10.2.0.3/24"), with(g3, "10.3.0.2/30")},
				Routes:   []Route{route("0.0.0.0/0 10.2.0.254 G2"), route("10.77.0.0/16 10.3.0.1 G3")},
				Disabled: []string{"G3"},
			},
			changes: []string{"link G3 down: disabled by an operator", "address 10.3.0.2/30 removed from G3"},
		},
		{
			name: "and puts it back",
			config: Config{
				Links:  []Link{with(g1, "10.1.0.3/24"), with(g2, "10.2.0.3/24"), with(g3, "10.3.0.2/30")},
				Routes: []Route{route("0.0.0.0/0 10.2.0.254 G2"), route("10.77.0.0/16 10.3.0.1 G3")},
			},
			changes: []string{"link G3 up", "address 10.3.0.2/30 added to G3", "route 10.77.0.0/16 via 10.3.0.1 dev G3 added"},
		},
		{
			name: "nothing wanted",
			changes: []string{
				"address 10.1.0.3/24 removed from G1", "address 10.2.0.3/24 removed from G2", "address 10.3.0.2/30 removed from G3",
				"route 0.0.0.0/0 via 10.2.0.254 dev G2 removed",
			},
		},
	}
	for _, s := range steps {
		if s.prepare != nil {
			s.prepare()
			if s.name == "a link went down and up" {
				ns.IP("route replace 10.99.0.0/24 via 10.8.0.9")
			}
		}
		ns.Try(func() error {
			r, err := s.config.Apply()
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			var missing []string
			for _, l := range r.Missing {
				missing = append(missing, l.Name)
			}
			if got := strings.Join(missing, " "); got != s.missing {
				t.Errorf("%s: missing %q, want %q", s.name, got, s.missing)
			}
			if diff := cmp.Diff(s.changes, withoutParameters(r.Changes), cmpopts.SortSlices(func(a, b string) bool { return a < b })); diff != "" {
				t.Errorf("%s (-want +got):\n%s", s.name, diff)
			}
			if r, err = s.config.Apply(); err != nil || len(r.Changes) > 0 {
				t.Errorf("%s again: %v, %v; want no change", s.name, r.Changes, err)
			}
			return nil
		})
		if diff := cmp.Diff(before, foreign()); diff != "" {
			t.Errorf("%s: what others made (-before +after):\n%s", s.name, diff)
		}
	}
}

func withoutParameters(changes []string) (out []string) {
	for _, c := range changes {
		if !strings.Contains(c, " = ") {
			out = append(out, c)
		}
	}
	return out
}

func TestParameters(t *testing.T) {
	ns := netnslab.New(t)
	ns.IP("link add G1 type veth peer name other")
	ns.Run("sysctl", "-qw", "net.ipv4.conf.G1.rp_filter=2", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.ip_forward=0")
	ns.Try(func() error {
		_, err := Config{}.Apply()
		return err
	})
	ns.IP("link add G2 type veth peer name another") // takes "default"
	ns.IP("link add link G1 name G1-vip type macvlan mode private")
	for _, dir := range []string{"all", "default", "G1", "G2", "G1-vip"} {
		base := "net.ipv4.conf." + dir + "."
		got := ns.Run("sysctl", "-n", base+"arp_ignore", base+"arp_announce", base+"rp_filter", base+"send_redirects", base+"accept_redirects")
		if got := strings.Join(strings.Fields(got), " "); got != "1 2 0 0 0" {
			t.Errorf("%s: arp_ignore arp_announce rp_filter send_redirects accept_redirects = %s", dir, got)
		}
	}
	forward := func() string { return strings.TrimSpace(ns.Run("sysctl", "-n", "net.ipv4.ip_forward")) }
	if forward() != "0" {
		t.Error("Apply let packets through")
	}
	ns.Try(func() error {
		for _, want := range []bool{true, false} {
			if changed, err := Forward(); err != nil || changed != want {
				return fmt.Errorf("Forward = %v, %v; want %v", changed, err, want)
			}
		}
		return nil
	})
	if forward() != "1" {
		t.Error("Forward did not")
	}
	got := ns.Run("sysctl", "-n", "net.netfilter.nf_conntrack_tcp_be_liberal", "net.netfilter.nf_conntrack_tcp_loose", "net.netfilter.nf_conntrack_acct")
	if strings.Join(strings.Fields(got), " ") != "1 1 1" {
		t.Errorf("conntrack: %s", got)
	}
}

// TestVLAN makes VLANs, changes one, and takes one away; a VLAN by hand stays.
func TestVLAN(t *testing.T) {
	ns, far := netnslab.New(t), netnslab.New(t)
	netnslab.Veth(ns, "G1", far, "a")
	byHand := exec.Command("ip", "-n", ns.Name, "link", "add", "link", "G1", "name", "byhand", "type", "vlan", "id", "99")
	if out, err := byHand.CombinedOutput(); err != nil && strings.Contains(string(out), "Unknown device type") {
		t.Skip("this kernel has no VLANs (module 8021q)")
	} else if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	apply := func(want string, c Config) {
		t.Helper()
		for i, want := range []string{want, ""} {
			var got []string
			ns.Try(func() error {
				r, err := c.Apply()
				for _, line := range r.Changes {
					if !strings.HasPrefix(line, "net.") {
						got = append(got, line)
					}
				}
				return err
			})
			if strings.Join(got, "; ") != want {
				t.Errorf("application %d: %q, want %q", i, strings.Join(got, "; "), want)
			}
		}
	}
	v20, v30 := Link{"V20", "V20", prefixes("10.20.0.2/24")}, Link{"V30", "V30", nil}
	apply("VLAN V20 added: 20 on G1; VLAN V30 added: 30 on G1; link V20 up; link V30 up; address 10.20.0.2/24 added to V20",
		Config{VLANs: []VLAN{{"V20", "G1", 20}, {"V30", "G1", 30}}, Links: []Link{v20, v30}})
	apply("VLAN V20 removed; VLAN V30 removed; VLAN V20 added: 21 on G1; link V20 up; address 10.20.0.2/24 added to V20",
		Config{VLANs: []VLAN{{"V20", "G1", 21}}, Links: []Link{v20}})
	if got := ns.IP("-d link show byhand"); !strings.Contains(got, "id 99") {
		t.Errorf("the VLAN by hand is gone: %s", got)
	}
}
