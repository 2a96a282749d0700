package policy

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// Member is the policy as one member runs it.
type Member struct {
	Node  *node.Node   // for netconf, had and the monitors
	Rules *rules.Rules // for firmware/ruleset
}

// ForMember renders the policy for one member. local is the member's node file, which adds what the policy does not say:
// the cluster key, the board, and the device, PCI place or NN of interfaces. It may be nil, as on a workstation; the key
// is missing then.
func (p *Policy) ForMember(id uint8, local *node.Node) (*Member, error) {
	i := slices.IndexFunc(p.Cluster.Members, func(m ClusterMember) bool { return m.ID == id })
	if i < 0 {
		return nil, fmt.Errorf("policy %s has no member %d: it has %s", p.Name, id, p.memberList())
	}
	if local != nil && local.Cluster != nil {
		if local.Cluster.ID != p.Cluster.ID {
			return nil, fmt.Errorf("policy %s is for cluster %d, the node file says cluster %d", p.Name, p.Cluster.ID, local.Cluster.ID)
		}
		if local.Cluster.Member != id {
			return nil, fmt.Errorf("policy %s is asked for member %d, the node file says member %d", p.Name, id, local.Cluster.Member)
		}
	}
	n := p.node(id, p.Cluster.Members[i].Name)
	if local != nil {
		overlay(n, local)
	}
	return &Member{Node: n, Rules: p.rules(id, n)}, nil
}

func (p *Policy) memberList() string {
	s := ""
	for i, m := range p.Cluster.Members {
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprintf("%d (%s)", m.ID, m.Name)
	}
	return s
}

func (p *Policy) node(id uint8, hostname string) *node.Node {
	k := p.Cluster
	n := &node.Node{
		Version: node.Version, Hostname: hostname,
		Cluster: &node.Cluster{
			ID: k.ID, Name: k.Name, Member: id, Mode: k.Mode, Checksums: k.Checksums, Timing: node.Timing(k.Timing),
		},
	}
	for _, m := range k.Members {
		n.Cluster.Members = append(n.Cluster.Members, node.Member{ID: m.ID, Name: m.Name, Priority: m.Priority})
	}
	n.Cluster.Safety, n.Cluster.Lock, n.Cluster.Defer = k.Prefer == PreferSafety, k.Lock.After == LockFailover, k.Defer
	if k.Witness != nil {
		n.Cluster.Witnesses = []node.Witness{{ID: node.MaxMembers + 1, Name: "witness", Address: k.Witness.Address}}
	}
	n.SSH = node.SSH{Off: !p.Services.SSH.Enabled, Port: p.Services.SSH.Port}
	if p.Services.API.Enabled {
		n.API.Port = p.Services.API.Port
	}
	for i, f := range p.Interfaces {
		n.Interfaces = append(n.Interfaces, node.Interface{
			Number: uint8(i + 1), Name: f.Name, Device: f.Device, Zone: node.Zone(f.Zone), Sync: f.Sync, Place: f.Place, NN: f.NN,
			VIPs: slices.Clone(f.VIPs), Beats: f.Heartbeat, VIPsOutside: f.Outside,
			Address: f.Addresses[id], Address6: f.Addresses6[id], VLAN: f.vlan(),
		})
	}
	for _, r := range p.Routes {
		n.Routes = append(n.Routes, node.Route{To: r.To, Via: r.Via})
	}
	for _, m := range p.Monitors {
		n.Monitors = append(n.Monitors, node.Monitor{
			Name: m.Name, Hosts: slices.Clone(m.Hosts), Probe: m.Probe.Kind, Port: m.Probe.Port,
			Interval: m.Interval, Loss: m.Loss, Grace: m.Grace,
		})
	}
	return n
}

func (n *NIC) vlan() *node.VLAN {
	if n.VLAN == nil {
		return nil
	}
	return &node.VLAN{Parent: n.VLAN.Parent, ID: n.VLAN.ID}
}

// overlay takes from the node file what only the box knows.
func overlay(n, local *node.Node) {
	n.Board, n.Registration = local.Board, local.Registration
	if local.Cluster != nil {
		n.Cluster.Key, n.Cluster.KeyFile = local.Cluster.Key, local.Cluster.KeyFile
	}
	for i := range n.Interfaces {
		f := &n.Interfaces[i]
		l := local.Interface(f.Name)
		if l == nil {
			continue
		}
		if f.Device == f.Name {
			f.Device = l.Device
		}
		if f.Place == "" {
			f.Place = l.Place
		}
		if f.NN == nil {
			f.NN = l.NN
		}
	}
}

func (p *Policy) rules(id uint8, n *node.Node) *rules.Rules {
	r := &rules.Rules{LogDropped: p.Filter.LogDropped, Fast: p.Filter.Flowtable, Routes: p.routes()}
	for i := range n.Interfaces {
		f := &n.Interfaces[i]
		r.Interfaces = append(r.Interfaces, rules.Interface{
			Name: f.Name, Zone: string(f.Zone), Devices: []string{f.Device, f.VIPDevice()}, Sync: f.Sync,
		})
		r.Shared = append(r.Shared, f.VIPs...)
		r.Local = append(r.Local, f.VIPs...)
		for _, a := range f.Prefixes() {
			r.Local = append(r.Local, a.Addr())
		}
	}
	for i := range p.Interfaces {
		for _, list := range []map[uint8]netip.Prefix{p.Interfaces[i].Addresses, p.Interfaces[i].Addresses6} {
			for other := uint8(1); other <= 8; other++ {
				if a, ok := list[other]; ok && other != id {
					r.Peers = append(r.Peers, a.Addr())
				}
			}
		}
	}
	for _, z := range p.Zones {
		zone := rules.Zone{Name: z.Name, Ping: z.Ping}
		if z.Spoofing == SpoofingDrop {
			zone.Sources = r.SourcesOf(z.Name)
			for _, s := range z.Sources {
				zone.Sources = append(zone.Sources, rules.RangeOf(s))
			}
			zone.Sources = rules.Merge(zone.Sources)
		}
		r.Zones = append(r.Zones, zone)
	}
	for _, a := range p.Management {
		r.Input = append(r.Input, rules.Filter{
			ID: "management/" + a.Name, Match: rules.Match{From: a.From, Src: p.ranges(a.Source), Services: p.ownServices(a.Service)},
			Action: rules.Accept, Log: a.Log, Shared: a.VIPs,
		})
	}
	for _, f := range p.Filter.Rules {
		r.Forward = append(r.Forward, rules.Filter{
			ID: "filter/" + f.Name, Action: f.Action, Log: f.Log, Limit: f.Limit.rules(),
			Match: rules.Match{From: f.From, To: f.To, Src: p.ranges(f.Source), Dst: p.ranges(f.Destination), Services: p.services(f.Service)},
		})
	}
	for i := range p.Helpers {
		h := &p.Helpers[i]
		r.Helpers = append(r.Helpers, rules.Helper{
			ID: "helper/" + h.Name, Match: rules.Match{From: h.From, Src: p.ranges(h.Source), Dst: p.ranges(h.Destination)}, Protocol: h.Protocol, Port: h.at(),
		})
	}
	p.nat(r)
	return r
}

func (l *Limit) rules() *rules.Limit {
	if l == nil {
		return nil
	}
	return &rules.Limit{Rate: l.Rate.Count, Unit: l.Rate.Unit, Burst: l.Burst, PerSource: l.Per == PerSource}
}

// nat adds the entries of NAT. Hairpin comes before all else: what dnat sent back into the subnet of its client must
// come back through the gateway, whatever other entry its source matches.
func (p *Policy) nat(r *rules.Rules) {
	var hairpins, sources []rules.SNAT
	for i := range p.NAT {
		t := &p.NAT[i]
		id := "nat/" + t.Name
		m := rules.Match{From: t.From, Src: p.ranges(t.Source), Dst: p.ranges(t.Destination), Services: p.services(t.Service)}
		switch t.Type {
		case Exempt:
			r.DNAT = append(r.DNAT, rules.DNAT{ID: id, Match: m, Exempt: true})
			sources = append(sources, rules.SNAT{ID: id, Match: m, Out: t.Out, Exempt: true})
		case Masquerade:
			s := rules.SNAT{ID: id, Match: m, Out: t.Out, Masquerade: true, Random: t.Ports == node.PortsRandom}
			families := masqueradeFamilies(m.Src, m.Dst)
			if s.Family = 4; families&family4 != 0 {
				sources = append(sources, s)
			}
			if s.Family = 6; families&family6 != 0 {
				sources = append(sources, s)
			}
		case SourceNAT:
			sources = append(sources, p.snat(t, id, m)...)
		case DestNAT:
			if t.Hairpin {
				hairpins = append(hairpins, p.hairpin(r, id, t.To.Range)...)
				m.From = nil
			}
			r.DNAT = append(r.DNAT, rules.DNAT{ID: id, Match: m, To: t.To.Range.First, Port: t.To.Port, Outside: p.outside(m.Dst)})
		case OneToOne:
			m.Dst = []rules.Range{t.Outside.Range}
			for _, name := range t.Out {
				if n := p.nic(name); len(t.From) == 0 && !slices.Contains(m.From, n.Zone) {
					m.From = append(m.From, n.Zone)
				}
			}
			if t.Hairpin {
				hairpins = append(hairpins, p.hairpin(r, id, t.Inside.Range)...)
				m.From = nil
			}
			r.DNAT = append(r.DNAT, rules.DNAT{ID: id, Match: m, To: t.Inside.Range.First, Shift: true})
			sources = append(sources, rules.SNAT{
				ID: id, Match: rules.Match{Src: []rules.Range{t.Inside.Range}}, Out: t.Out, To: t.Outside.Range, Shift: true,
			})
		}
	}
	r.SNAT = append(hairpins, sources...)
}

// outside is the interface that has an address of dnat; "" when none has.
func (p *Policy) outside(dst []rules.Range) string {
	for i := range p.Interfaces {
		n := &p.Interfaces[i]
		if slices.Contains(n.VIPs, dst[0].First) || slices.ContainsFunc(n.Routed, func(r netip.Prefix) bool { return r.Contains(dst[0].First) }) {
			return n.Name
		}
	}
	return ""
}

func (p *Policy) snat(t *NAT, id string, m rules.Match) []rules.SNAT {
	s := rules.SNAT{ID: id, Match: m, To: t.To.Range, Random: t.Ports == node.PortsRandom, Persistent: t.Persistent}
	if !t.To.VIP {
		s.Out = t.Out
		return []rules.SNAT{s}
	}
	var out []rules.SNAT
	for _, name := range t.Out { // every interface has a VIP of its own
		v4 := familiesOf(m.Src)&familiesOf(m.Dst)&familiesOfServices(m.Services)&family4 != 0
		s.Out, s.To = []string{name}, rules.Single(p.nic(name).vip(v4))
		out = append(out, s)
	}
	return out
}

// hairpin makes clients in the subnet of the server seem to come from the gateway, or the server would answer them
// directly, from an address they did not ask.
func (p *Policy) hairpin(r *rules.Rules, id string, server rules.Range) []rules.SNAT {
	n := p.nic(r.Route(server.First))
	if n == nil {
		return nil
	}
	v4 := server.First.Is4()
	var clients []rules.Range
	for _, s := range n.subnets() {
		if s.Addr().Is4() == v4 {
			clients = append(clients, rules.RangeOf(s))
		}
	}
	if len(clients) == 0 {
		return nil
	}
	s := rules.SNAT{ID: id, Match: rules.Match{Src: clients, Dst: []rules.Range{server}}, Out: []string{n.Name}, Translated: true}
	if vip := n.vip(v4); vip.IsValid() {
		s.To = rules.Single(vip)
	} else {
		s.Masquerade, s.Family = true, 4
		if !v4 {
			s.Family = 6
		}
	}
	return []rules.SNAT{s}
}
