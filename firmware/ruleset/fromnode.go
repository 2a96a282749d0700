package ruleset

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// FromNode gives the rules of a node file, for a box without a policy: from lan to wan, answers back, and the box's own
// addresses open to lan.
func FromNode(n *node.Node) *rules.Rules {
	lan, wan := []string{string(node.ZoneLAN)}, []string{string(node.ZoneWAN)}
	r := &rules.Rules{Fast: true}
	for i := range n.Interfaces {
		f := &n.Interfaces[i]
		r.Interfaces = append(r.Interfaces, rules.Interface{
			Name: f.Name, Zone: string(f.Zone), Devices: []string{f.Device, f.VIPDevice()}, Sync: f.Sync,
		})
		if f.Zone != node.ZoneNone && r.Zone(string(f.Zone)) == nil {
			r.Zones = append(r.Zones, rules.Zone{Name: string(f.Zone), Ping: true})
		}
		r.Shared = append(r.Shared, f.VIPs...)
		r.Local = append(r.Local, f.VIPs...)
		for _, p := range f.Prefixes() {
			r.Local = append(r.Local, p.Addr())
			r.Routes = append(r.Routes, rules.Route{Prefix: p.Masked(), Interface: f.Name})
		}
	}
	for _, t := range n.Routes {
		for i := range n.Interfaces {
			if n.Interfaces[i].Reaches(t.Via) {
				r.Routes = append(r.Routes, rules.Route{Prefix: t.To, Interface: n.Interfaces[i].Name})
				break
			}
		}
	}
	if r.Zone(lan[0]) != nil {
		r.Input = []rules.Filter{{ID: "node/lan", Match: rules.Match{From: lan}, Action: rules.Accept}}
		if r.Zone(wan[0]) != nil {
			r.Forward = []rules.Filter{{ID: "node/lan-wan", Match: rules.Match{From: lan, To: wan}, Action: rules.Accept}}
		}
	}
	for _, h := range n.Helpers {
		r.Helpers = append(r.Helpers, rules.Helper{
			ID: fmt.Sprintf("node/helper-%s-%d", h.Protocol, h.Port), Match: rules.Match{From: lan}, Protocol: rules.HelperProtocol(h.Protocol), Port: h.Port,
		})
	}
	for _, t := range n.NAT {
		out := n.Interface(t.Out)
		if out == nil {
			continue // a checked file has no such entry
		}
		s := rules.SNAT{ID: "node/nat-" + t.Out, Out: []string{t.Out}, Random: t.Ports == node.PortsRandom, Family: 4}
		for _, p := range t.From {
			s.Src = append(s.Src, rules.RangeOf(p))
		}
		if slices.ContainsFunc(s.Src, func(r rules.Range) bool { return r.First == netip.IPv4Unspecified() && r == rules.Everything()[0] }) {
			s.Src = nil
		}
		switch t.To {
		case node.TargetVIP:
			s.To = rules.Single(out.VIP4())
		case node.TargetIP:
			s.To = rules.Single(t.Addr)
		default:
			s.Masquerade = true
		}
		r.SNAT = append(r.SNAT, s)
	}
	return r
}
