package gatewayd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/routes"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/hal/rtnl"
)

// routeTable is the virtual route table of this member as it is now: configuration, kernel and role.
func (d *daemon) routeTable(ctx context.Context) (api.RouteTable, error) {
	in := routes.Input{Node: d.inForce()}
	var err error
	if in.Kernel, in.Links, err = kernelRoutes(); err != nil {
		return api.RouteTable{}, err
	}
	if in.Node.Cluster != nil {
		status, err := d.monitors.client.HA(ctx)
		if err != nil {
			in.Role.Problem = err.Error()
		} else {
			in.Role = roleOf(status)
		}
		in.Peers = d.peerAddresses(in.Node, status)
	}
	return routes.Table(in), nil
}

// roleOf is what a member's had says of the role.
func roleOf(s member.Status) routes.Role {
	r := routes.Role{Serves: s.Gate.Open}
	if s.Gate.Error != "" {
		r.Serves, r.Problem = false, "the gate cannot be read: "+s.Gate.Error
	}
	if s.Holder != 0 {
		r.Holder = memberName(s, s.Holder)
	}
	return r
}

// memberName is what a member calls another one, or itself.
func memberName(s member.Status, id uint8) string {
	if id == s.Member && s.MemberName != "" {
		return s.MemberName
	}
	for _, p := range s.Peers {
		if p.Member == id && p.Name != "" {
			return p.Name
		}
	}
	return fmt.Sprintf("member %d", id)
}

// peerAddresses are the private addresses of the other members: as the policy has them, else as they are heard.
func (d *daemon) peerAddresses(n *node.Node, status member.Status) (out []routes.Address) {
	add := func(name, iface string, a netip.Addr) {
		if f := n.Interface(iface); f != nil && !f.Sync && a.IsValid() {
			out = append(out, routes.Address{Member: name, Interface: iface, Address: a})
		}
	}
	if p := d.policies.Load(); p != nil {
		p.mu.Lock()
		policy := p.policy
		p.mu.Unlock()
		if policy != nil {
			for _, m := range policy.Cluster.Members {
				for i := range policy.Interfaces {
					if f := &policy.Interfaces[i]; m.ID != n.Cluster.Member {
						add(m.Name, f.Name, f.Addresses[m.ID].Addr())
						add(m.Name, f.Name, f.Addresses6[m.ID].Addr())
					}
				}
			}
			return out
		}
	}
	for _, p := range status.Peers {
		for _, a := range p.Addresses {
			add(memberName(status, p.Member), a.Interface, a.Address)
		}
	}
	return out
}

// kernelRoutes reads the main table and the devices.
func kernelRoutes() ([]routes.Kernel, map[string]routes.Link, error) {
	list, err := rtnl.Links()
	if err != nil {
		return nil, nil, fmt.Errorf("list interfaces: %w", err)
	}
	links, names := make(map[string]routes.Link, len(list)), make(map[int]string, len(list))
	for _, l := range list {
		a := l.Attrs()
		names[a.Index] = a.Name
		links[a.Name] = routes.Link{Up: a.RawFlags&unix.IFF_UP != 0, Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0}
	}
	addresses, err := rtnl.Addrs(nil)
	if err != nil {
		return nil, nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addresses {
		if name, ok := names[a.LinkIndex]; ok {
			l := links[name]
			l.Addresses = append(l.Addresses, addrOf(a.IP))
			links[name] = l
		}
	}
	table, err := rtnl.Routes(&netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, nil, fmt.Errorf("list routes: %w", err)
	}
	var out []routes.Kernel
	for _, r := range table {
		out = slices.Concat(out, kernelRoute(r, names))
	}
	return out, links, nil
}

// kernelRoute gives one for each way that a route has.
func kernelRoute(r netlink.Route, names map[int]string) []routes.Kernel {
	const unused = unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN
	k := routes.Kernel{
		To: destination(r), Via: addrOf(r.Gw), Device: names[r.LinkIndex], Metric: r.Priority,
		Connected: r.Protocol == unix.RTPROT_KERNEL && r.Gw == nil, Dead: r.Flags&unused != 0, Type: routeTypes[r.Type],
	}
	if len(r.MultiPath) == 0 {
		return []routes.Kernel{k}
	}
	var out []routes.Kernel
	for _, hop := range r.MultiPath {
		k.Via, k.Device, k.Dead = addrOf(hop.Gw), names[hop.LinkIndex], hop.Flags&unused != 0
		out = append(out, k)
	}
	return out
}

// routeTypes are those that are no way to anywhere.
var routeTypes = map[int]string{
	unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit", unix.RTN_THROW: "throw",
}

func destination(r netlink.Route) netip.Prefix {
	if r.Dst != nil {
		bits, _ := r.Dst.Mask.Size()
		return netip.PrefixFrom(addrOf(r.Dst.IP), bits)
	}
	if r.Family == unix.AF_INET6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
