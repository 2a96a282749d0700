package policy

import (
	"net/netip"

	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// group finds a named list; nil when there is none.
func find[T any](g Groups[T], name string) *Group[T] {
	for i := range g {
		if g[i].Name == name {
			return &g[i]
		}
	}
	return nil
}

// ranges resolves groups, and gives each range once, in order. Unknown names and cycles, which the checks refuse, add
// nothing.
func (p *Policy) ranges(list []Address) []rules.Range {
	var out []rules.Range
	seen := make(map[rules.Range]bool)
	open := make(map[string]bool)
	var walk func([]Address)
	walk = func(list []Address) {
		for _, a := range list {
			switch {
			case a.Range.First.IsValid():
				if !seen[a.Range] {
					seen[a.Range] = true
					out = append(out, a.Range)
				}
			case a.Name != "" && !open[a.Name]:
				if g := find(p.Objects.Addresses, a.Name); g != nil {
					open[a.Name] = true
					walk(g.Items)
				}
			}
		}
	}
	walk(list)
	return out
}

// services resolves groups like ranges.
func (p *Policy) services(list []Service) []rules.Service {
	var out []rules.Service
	seen := make(map[rules.Service]bool)
	open := make(map[string]bool)
	var walk func([]Service)
	walk = func(list []Service) {
		for _, s := range list {
			switch {
			case s.Proto != 0:
				if !seen[s.Service] {
					seen[s.Service] = true
					out = append(out, s.Service)
				}
			case s.Name != "" && !open[s.Name]:
				if g := find(p.Objects.Services, s.Name); g != nil {
					open[s.Name] = true
					walk(g.Items)
				}
			}
		}
	}
	walk(list)
	return out
}

// Names in management that stand for the gateway's own ports, and for echo requests of both families.
const (
	serviceSSH  = "ssh"
	serviceAPI  = "api"
	servicePing = "ping"
)

// ownServices resolves the services of a management entry.
func (p *Policy) ownServices(list []Service) []rules.Service {
	var out []rules.Service
	for _, s := range list {
		switch s.Name {
		case serviceSSH:
			out = append(out, tcpPort(p.Services.SSH.Port))
		case serviceAPI:
			out = append(out, tcpPort(p.Services.API.Port))
		case servicePing:
			out = append(out, rules.Service{Proto: rules.ICMP, Last: 65535, Type: icmpTypes["echo-request"]},
				rules.Service{Proto: rules.ICMPv6, Last: 65535, Type: icmpv6Types["echo-request"]})
		default:
			out = append(out, p.services([]Service{s})...)
		}
	}
	return out
}

func tcpPort(port uint16) rules.Service {
	return rules.Service{Proto: rules.TCP, First: port, Last: port, Type: rules.AnyType}
}

// nic finds an interface by name; nil when there is none.
func (p *Policy) nic(name string) *NIC {
	for i := range p.Interfaces {
		if p.Interfaces[i].Name == name {
			return &p.Interfaces[i]
		}
	}
	return nil
}

// subnets are the connected networks of an interface, the same on every member.
func (n *NIC) subnets() []netip.Prefix {
	var out []netip.Prefix
	for _, addresses := range []map[uint8]netip.Prefix{n.Addresses, n.Addresses6} {
		for id := uint8(1); id <= 8; id++ {
			if a, ok := addresses[id]; ok && a.IsValid() {
				out = append(out, a.Masked())
				break
			}
		}
	}
	return out
}

// reaches reports whether a is in one of the interface's subnets.
func (n *NIC) reaches(a netip.Addr) bool {
	for _, p := range n.subnets() {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// vip is the first VIP of a family, not valid when there is none.
func (n *NIC) vip(v4 bool) netip.Addr {
	for _, v := range n.VIPs {
		if v.Is4() == v4 {
			return v
		}
	}
	return netip.Addr{}
}

// routes are the connected subnets and the static routes.
func (p *Policy) routes() []rules.Route {
	var out []rules.Route
	for i := range p.Interfaces {
		for _, s := range p.Interfaces[i].subnets() {
			out = append(out, rules.Route{Prefix: s, Interface: p.Interfaces[i].Name})
		}
	}
	for _, t := range p.Routes {
		for i := range p.Interfaces {
			if p.Interfaces[i].reaches(t.Via) {
				out = append(out, rules.Route{Prefix: t.To, Interface: p.Interfaces[i].Name})
				break
			}
		}
	}
	return out
}

// ownAddresses are all VIPs and the private addresses of all members.
func (p *Policy) ownAddresses() []netip.Addr {
	var out []netip.Addr
	for i := range p.Interfaces {
		n := &p.Interfaces[i]
		out = append(out, n.VIPs...)
		for _, m := range []map[uint8]netip.Prefix{n.Addresses, n.Addresses6} {
			for id := uint8(1); id <= 8; id++ {
				if a, ok := m[id]; ok && a.IsValid() {
					out = append(out, a.Addr())
				}
			}
		}
	}
	return out
}
