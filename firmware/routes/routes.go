// Package routes makes the virtual route table of a member: the kernel's routes with who serves each, and whether this member does
// now. All members have all routes installed all the time, as all else: what follows the role is whose gate lets their traffic in
// (docs/decisions/0090-routes-follow-the-gate.md). The package is pure.
package routes

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
)

// Kernel is one route of the kernel's main table.
type Kernel struct {
	To        netip.Prefix
	Via       netip.Addr // not valid for a connected one
	Device    string
	Metric    int
	Connected bool   // made by the kernel for an address
	Type      string // blackhole, unreachable, …; empty: unicast
	Dead      bool   // the kernel does not use it: its link is down
}

// Link is one device.
type Link struct {
	Up, Carrier bool
	Addresses   []netip.Addr
}

// Role is what this member knows of the role.
type Role struct {
	Serves  bool   // this member's gate is open
	Holder  string // who holds the role; empty: nobody
	Problem string // why it is not known
}

// Address is a private address of another member.
type Address struct {
	Member, Interface string
	Address           netip.Addr
}

// Input is what the table is made of.
type Input struct {
	Node   *node.Node // in force
	Role   Role       // not used on a standalone gateway
	Kernel []Kernel
	Links  map[string]Link // by device
	Peers  []Address
}

// Master is the owner of the routes that follow the role of a cluster.
func Master(cluster string) string { return cluster + "-master" }

// NameOf is the name of a member that has none.
func NameOf(id uint8) string { return fmt.Sprintf("member %d", id) }

// Self is the name of the member that a node is of.
func Self(n *node.Node) string {
	if c := n.Cluster; c != nil {
		for _, m := range c.Members {
			if m.ID == c.Member && m.Name != "" {
				return m.Name
			}
		}
	}
	return n.Hostname
}

// Table makes it.
func Table(in Input) api.RouteTable {
	b := builder{Input: in, seen: make([]bool, len(in.Kernel))}
	b.out = api.RouteTable{Member: Self(in.Node), Routes: []api.Route{}}
	if c := in.Node.Cluster; c != nil {
		b.out.Master = Master(c.Name)
		if c.Name == "" {
			b.out.Master = Master(fmt.Sprintf("cluster-%d", c.ID))
		}
		b.out.Holder, b.out.Problem = in.Role.Holder, in.Role.Problem
	}
	b.vips()
	b.static()
	b.connected()
	b.management()
	b.others()
	if n := len(b.out.Routes); n > api.MaxRoutes {
		slices.SortStableFunc(b.out.Routes, func(x, y api.Route) int {
			switch {
			case x.Fault == y.Fault:
				return 0
			case x.Fault:
				return -1
			}
			return 1
		})
		b.out.Routes, b.out.Left = b.out.Routes[:api.MaxRoutes], n-api.MaxRoutes
	}
	return b.out
}

type builder struct {
	Input
	out  api.RouteTable
	seen []bool // routes of the kernel that have a line
}

// add completes a route: with a fault it is not available to anybody here; one of the cluster is, where the role is.
func (b *builder) add(r api.Route, clusters bool, fault string) {
	r.Fault, r.Why = fault != "", fault
	if r.Owner == "" {
		r.Owner = b.out.Member
	}
	if clusters && b.Node.Cluster != nil {
		r.Owner = b.out.Master
		if fault == "" && !b.Role.Serves {
			switch {
			case b.Role.Problem != "":
				r.Why = b.Role.Problem
			case b.Role.Holder == "":
				r.Why = "nobody holds the role"
			case b.Role.Holder == b.out.Member:
				r.Why = "the gate of this member is shut"
			default:
				r.Why = b.Role.Holder + " holds the role"
			}
		}
	}
	r.Available = r.Why == ""
	b.out.Routes = append(b.out.Routes, r)
}

// linkFault is why nothing goes through a device.
func (b *builder) linkFault(device string) string {
	switch l, ok := b.Links[device]; {
	case !ok:
		return "there is no device " + device
	case !l.Up:
		return device + " is down"
	case !l.Carrier:
		return device + " has no carrier"
	}
	return ""
}

// host is the prefix of one address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func (b *builder) vips() {
	for i := range b.Node.Interfaces {
		f := &b.Node.Interfaces[i]
		for _, v := range f.VIPs {
			fault := b.linkFault(f.Device)
			switch l := b.Links[f.VIPDevice()]; {
			case fault != "":
			case !slices.Contains(l.Addresses, v):
				fault = "the address is not on " + f.VIPDevice()
			case !l.Up:
				fault = f.VIPDevice() + " is down"
			}
			b.add(api.Route{Kind: api.RouteVIP, Destination: host(v), Interface: f.Name}, true, fault)
		}
	}
}

// find gives the kernel's route, and marks it as listed.
func (b *builder) find(match func(Kernel) bool) (Kernel, bool) {
	for i, k := range b.Kernel {
		if !b.seen[i] && match(k) {
			b.seen[i] = true
			return k, true
		}
	}
	return Kernel{}, false
}

// state is what keeps a route that should be in the kernel from being used.
func (b *builder) state(k Kernel, found bool, device string) string {
	if fault := b.linkFault(device); fault != "" {
		return fault
	}
	switch {
	case !found:
		return "it is not in the kernel"
	case k.Dead:
		return "the kernel does not use it"
	}
	return ""
}

func (b *builder) static() {
	for _, first := range []bool{true, false} { // the default routes first
		for _, r := range b.Node.Routes {
			if (r.To.Bits() == 0) != first {
				continue
			}
			out := api.Route{Kind: api.RouteStatic, Destination: r.To, Gateway: r.Via}
			if first {
				out.Kind = api.RouteDefault
			}
			i := slices.IndexFunc(b.Node.Interfaces, func(f node.Interface) bool { return f.Reaches(r.Via) })
			if i < 0 {
				b.add(out, true, "its gateway is in no subnet of this member")
				continue
			}
			f := &b.Node.Interfaces[i]
			k, found := b.find(func(k Kernel) bool { return k.To == r.To && k.Via == r.Via && k.Device == f.Device })
			out.Interface, out.Metric = f.Name, k.Metric
			b.add(out, true, b.state(k, found, f.Device))
		}
	}
}

// connected are the subnets. Those of interfaces with a VIP are reached through the cluster.
func (b *builder) connected() {
	for i := range b.Node.Interfaces {
		f := &b.Node.Interfaces[i]
		for _, p := range f.Prefixes() {
			if p.IsSingleIP() {
				continue
			}
			k, found := b.find(func(k Kernel) bool { return k.Connected && k.To == p.Masked() && k.Device == f.Device })
			b.add(api.Route{Kind: api.RouteConnected, Destination: p.Masked(), Interface: f.Name, Metric: k.Metric}, len(f.VIPs) > 0, b.state(k, found, f.Device))
		}
	}
}

// management are the members' own addresses: each member serves its own, whoever has the role, and never those of the others.
func (b *builder) management() {
	for i := range b.Node.Interfaces {
		f := &b.Node.Interfaces[i]
		if f.Sync {
			continue
		}
		for _, p := range f.Prefixes() {
			fault := b.linkFault(f.Device)
			if fault == "" && !slices.Contains(b.Links[f.Device].Addresses, p.Addr()) {
				fault = "the address is not on " + f.Device
			}
			b.add(api.Route{Kind: api.RouteManagement, Destination: host(p.Addr()), Interface: f.Name}, false, fault)
		}
	}
	for _, p := range b.Peers {
		b.out.Routes = append(b.out.Routes, api.Route{Kind: api.RouteManagement, Destination: host(p.Address), Interface: p.Interface, Owner: p.Member, Why: p.Member + " has that address"})
	}
}

// others is what is in the kernel and in no configuration.
func (b *builder) others() {
	for i, k := range b.Kernel {
		own := k.Connected && k.To.IsSingleIP() // of an IPv6 address
		if b.seen[i] || own || k.To.Addr().IsMulticast() || k.To.Addr().Is6() && k.To.Addr().IsLinkLocalUnicast() || k.Device == "lo" {
			continue
		}
		name, fault := k.Device, ""
		for _, f := range b.Node.Interfaces {
			if f.Device == k.Device {
				name = f.Name
			}
		}
		switch {
		case k.Type != "":
			fault = k.Type
		case k.Dead:
			fault = "the kernel does not use it"
		default:
			fault = b.linkFault(k.Device)
		}
		b.add(api.Route{Kind: api.RouteOther, Destination: k.To, Gateway: k.Via, Interface: name, Metric: k.Metric}, false, fault)
	}
}
