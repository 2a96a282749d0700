package routes

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
)

const file = `version: 1
hostname: gw-a
cluster:
  id: 7
  name: office
  member: 1
  key: dGVzdCBrZXkgb2YgdGhlIG5hbWVzcGFjZSBsYWIgMTI=
  members: [{id: 2, name: gw-b}, {id: 1, name: gw-a}]
interfaces:
  - {name: lan, zone: lan, address: 10.1.0.2/24, vips: [10.1.0.1]}
  - {name: wan, zone: wan, address: 192.0.2.2/24, vips: [192.0.2.1]}
  - {name: sync, sync: true, address: 169.254.77.1/30}
routes:
  - {to: 10.9.0.0/16, via: 10.1.0.254}
  - {to: 0.0.0.0/0, via: 192.0.2.254}
`

func p(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func a(s string) netip.Addr   { return netip.MustParseAddr(s) }

// input is gw-a as it should be.
func input(t *testing.T) Input {
	t.Helper()
	n, _, err := node.Parse(node.FileName, []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return Input{
		Node: n, Role: Role{Serves: true, Holder: "gw-a"},
		Kernel: []Kernel{
			{To: p("0.0.0.0/0"), Via: a("192.0.2.254"), Device: "wan"}, {To: p("10.9.0.0/16"), Via: a("10.1.0.254"), Device: "lan"},
			{To: p("10.1.0.0/24"), Device: "lan", Connected: true}, {To: p("192.0.2.0/24"), Device: "wan", Connected: true},
			{To: p("169.254.77.0/30"), Device: "sync", Connected: true},
			{To: p("fe80::/64"), Device: "lan", Connected: true}, {To: p("ff00::/8"), Device: "lan"}, {To: p("2001:db8::1/128"), Device: "lan-vip", Connected: true},
		},
		Links: map[string]Link{
			"lan": {true, true, []netip.Addr{a("10.1.0.2")}}, "lan-vip": {true, true, []netip.Addr{a("10.1.0.1")}},
			"wan": {true, true, []netip.Addr{a("192.0.2.2")}}, "wan-vip": {true, true, []netip.Addr{a("192.0.2.1")}},
			"sync": {true, true, []netip.Addr{a("169.254.77.1")}},
		},
		Peers: []Address{{"gw-b", "lan", a("10.1.0.3")}},
	}
}

// lines is a table as text, one line a route.
func lines(t api.RouteTable) (out []string) {
	for _, r := range t.Routes {
		s := fmt.Sprintf("%s %s %s %s %v", r.Kind, r.Destination, r.Interface, r.Owner, r.Available)
		if r.Why != "" {
			s += ": " + r.Why
		}
		if r.Fault {
			s += " (fault)"
		}
		out = append(out, s)
	}
	return out
}

func TestTableOfTheHolder(t *testing.T) {
	want := []string{
		"vip 10.1.0.1/32 lan office-master true",
		"vip 192.0.2.1/32 wan office-master true",
		"default 0.0.0.0/0 wan office-master true",
		"static 10.9.0.0/16 lan office-master true",
		"connected 10.1.0.0/24 lan office-master true",
		"connected 192.0.2.0/24 wan office-master true",
		"connected 169.254.77.0/30 sync gw-a true",
		"management 10.1.0.2/32 lan gw-a true",
		"management 192.0.2.2/32 wan gw-a true",
		"management 10.1.0.3/32 lan gw-b false: gw-b has that address",
	}
	if got := lines(Table(input(t))); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestRole: the routes of the cluster, and no others, follow the role.
func TestRole(t *testing.T) {
	for _, c := range []struct {
		role Role
		why  string
	}{
		{Role{Holder: "gw-b"}, "gw-b holds the role"},
		{Role{}, "nobody holds the role"},
		{Role{Holder: "gw-a"}, "the gate of this member is shut"},
		{Role{Problem: "had does not answer"}, "had does not answer"},
	} {
		in := input(t)
		in.Role = c.role
		for _, r := range Table(in).Routes {
			clusters := r.Owner == "office-master"
			if clusters && (r.Available || r.Why != c.why || r.Fault) {
				t.Errorf("%+v: %+v", c.role, r)
			}
			if !clusters && r.Available != (r.Owner == "gw-a") {
				t.Errorf("%+v: a route of one member follows the role: %+v", c.role, r)
			}
		}
	}
	in := input(t)
	in.Node.Cluster, in.Role = nil, Role{}
	if got := Table(in); got.Master != "" || slices.ContainsFunc(got.Routes, func(r api.Route) bool { return r.Owner != "gw-b" && !r.Available }) {
		t.Errorf("standalone: %+v", got)
	}
}

// TestFaults: what is missing is said on the member that holds the role and on one that does not.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Input)
		want  string // a line of the table
	}{
		"a static route is gone":       {func(in *Input) { in.Kernel = in.Kernel[1:] }, "default 0.0.0.0/0 wan office-master false: it is not in the kernel (fault)"},
		"by another gateway":           {func(in *Input) { in.Kernel[0].Via = a("192.0.2.99") }, "default 0.0.0.0/0 wan office-master false: it is not in the kernel (fault)"},
		"and the other one is seen":    {func(in *Input) { in.Kernel[0].Via = a("192.0.2.99") }, "other 0.0.0.0/0 wan gw-a true"},
		"a dead route":                 {func(in *Input) { in.Kernel[1].Dead = true }, "static 10.9.0.0/16 lan office-master false: the kernel does not use it (fault)"},
		"no carrier":                   {func(in *Input) { in.Links["wan"] = Link{Up: true} }, "vip 192.0.2.1/32 wan office-master false: wan has no carrier (fault)"},
		"an interface that is down":    {func(in *Input) { in.Links["lan"] = Link{} }, "management 10.1.0.2/32 lan gw-a false: lan is down (fault)"},
		"no device":                    {func(in *Input) { delete(in.Links, "sync") }, "connected 169.254.77.0/30 sync gw-a false: there is no device sync (fault)"},
		"a VIP is gone":                {func(in *Input) { delete(in.Links, "lan-vip") }, "vip 10.1.0.1/32 lan office-master false: the address is not on lan-vip (fault)"},
		"a VIP's device is down":       {func(in *Input) { in.Links["lan-vip"] = Link{Addresses: []netip.Addr{a("10.1.0.1")}} }, "vip 10.1.0.1/32 lan office-master false: lan-vip is down (fault)"},
		"an own address is gone":       {func(in *Input) { in.Links["lan"] = Link{true, true, nil} }, "management 10.1.0.2/32 lan gw-a false: the address is not on lan (fault)"},
		"a blackhole somebody made":    {func(in *Input) { in.Kernel = append(in.Kernel, Kernel{To: p("10.66.0.0/16"), Type: "blackhole"}) }, "other 10.66.0.0/16  gw-a false: blackhole (fault)"},
		"a gateway that is not linked": {func(in *Input) { in.Node.Routes[0].Via = a("172.16.0.1") }, "static 10.9.0.0/16  office-master false: its gateway is in no subnet of this member (fault)"},
	} {
		for _, serves := range []bool{true, false} {
			in := input(t)
			in.Role.Serves = serves
			c.spoil(&in)
			if got := lines(Table(in)); !slices.Contains(got, c.want) {
				t.Errorf("%s, serving %v: no line %q in\n%s", name, serves, c.want, strings.Join(got, "\n"))
			}
		}
	}
}

// TestBound: a table too long for an answer keeps what is wrong.
func TestBound(t *testing.T) {
	in := input(t)
	for i := range api.MaxRoutes {
		in.Kernel = append(in.Kernel, Kernel{To: netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 32), Device: "lan", Dead: i == api.MaxRoutes-1})
	}
	got := Table(in)
	if len(got.Routes) != api.MaxRoutes || got.Left != 10 || !got.Routes[0].Fault || got.Routes[1].Kind != api.RouteVIP {
		t.Errorf("%d routes, %d left off, first %+v", len(got.Routes), got.Left, got.Routes[0])
	}
}
