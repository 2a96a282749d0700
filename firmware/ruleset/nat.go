package ruleset

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// prerouting makes the chains of DNAT, one for each zone; nil for a box without interfaces. The base chains of NAT are there
// even when they are empty: without any the kernel stops to translate the connections that it translates already, and
// the box itself would answer their segments, with a reset.
func (c *compiler) prerouting() *chain {
	if len(c.Interfaces) == 0 {
		return nil
	}
	zones := map[string]string{}
	for _, z := range c.Zones {
		var list []*rules.DNAT
		for i := range c.DNAT {
			if d := &c.DNAT[i]; len(d.From) == 0 || slices.Contains(d.From, z.Name) {
				list = append(list, d)
			}
		}
		if len(list) == 0 {
			continue
		}
		ch := c.chain("dnat/" + z.Name)
		for len(list) > 0 {
			n := c.foldDNAT(ch, list)
			if n == 0 {
				c.dnat(ch, list[0])
				n = 1
			}
			list = list[n:]
		}
		for _, d := range c.zoneDevices([]string{z.Name}) {
			zones[d] = ch.name
		}
	}
	ch := natBase("prerouting", "dstnat", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	if len(zones) > 0 {
		ch.add("zones", fromMap(c.jumps("from-dnat", zones)))
	}
	return ch
}

func (c *compiler) dnat(ch *chain, d *rules.DNAT) {
	for _, alt := range c.alternatives(&d.Match) {
		if d.Exempt {
			ch.add(d.ID, slices.Concat(alt.terms, []term{c.count(d.ID), accept()})...)
			continue
		}
		ch.add(d.ID, slices.Concat(alt.terms, []term{c.count(d.ID), natTo(expr.NATTypeDestNAT, rules.Single(d.To), d.Port, natFlags{})})...)
	}
}

// dnatShape is what entries must have in common to be one map.
type dnatShape struct {
	shape
	withPort bool // the map gives a port too
}

func dnatShapeOf(d *rules.DNAT) (s dnatShape, ok bool) {
	if d.Exempt {
		return s, false
	}
	if d.Shift {
		f := familyOf(d.Dst[0].First)
		return dnatShape{shape: shape{family: f, dst: true, exact: true}}, true
	}
	s.shape, ok = shapeOf(&d.Match)
	s.withPort = d.Port != 0
	return s, ok && s.dst && (!s.withPort || s.ports)
}

// foldDNAT folds the entries at the head of list, and gives how many; 0 when they cannot be.
func (c *compiler) foldDNAT(ch *chain, list []*rules.DNAT) int {
	first, ok := dnatShapeOf(list[0])
	if !ok {
		return 0
	}
	n := 1
	for n < len(list) {
		if s, ok := dnatShapeOf(list[n]); !ok || s != first {
			break
		}
		n++
	}
	if n < minFold && !list[0].Shift {
		return 0
	}
	p := &packer{key: first.types(), exact: first.exact, data: []nftables.SetDatatype{addressType(first.family)}}
	if first.withPort {
		p.data = append(p.data, nftables.TypeInetService)
	}
	var elements []element
	for _, d := range list[:n] {
		if d.Shift {
			elements = append(elements, shifted(d.ID, d.Dst[0], d.To)...)
			continue
		}
		for _, e := range first.elements(&d.Match) {
			e.id = d.ID
			elements = append(elements, mapped(e, d.To, d.Port))
		}
	}
	p.fill(elements)
	for _, s := range p.sets {
		s.counted = true
		ch.add(list[0].ID+" and like it", natMap(expr.NATTypeDestNAT, first.family, first.parts(), c.addSet("dnat", s), first.withPort, natFlags{}))
	}
	return n
}

// shifted maps the addresses of a range to those from another on, one to one.
func shifted(id string, of rules.Range, to netip.Addr) []element {
	var out []element
	for a := of.First; a.IsValid() && !of.Last.Less(a); a, to = a.Next(), to.Next() {
		e := rangeElement(rules.Single(a))
		e.id = id
		out = append(out, mapped(e, to, 0))
	}
	return out
}

// postrouting makes the chains of source NAT, one for each interface; nil for a box without interfaces.
func (c *compiler) postrouting() *chain {
	if len(c.Interfaces) == 0 {
		return nil
	}
	devices := map[string]string{}
	for _, f := range c.Interfaces {
		if f.Zone == "" {
			continue
		}
		var list []*rules.SNAT
		for i := range c.SNAT {
			if s := &c.SNAT[i]; len(s.Out) == 0 || slices.Contains(s.Out, f.Name) {
				list = append(list, s)
			}
		}
		out := &chain{name: "snat/" + f.Name}
		c.returns(out, f.Name)
		for len(list) > 0 {
			n := c.foldSNAT(out, list)
			if n == 0 {
				c.snat(out, list[0])
				n = 1
			}
			list = list[n:]
		}
		if len(out.rules) == 0 {
			continue
		}
		c.out.chains = append(c.out.chains, out)
		for _, d := range f.Devices {
			devices[d] = out.name
		}
	}
	ch := natBase("postrouting", "srcnat", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	if len(devices) > 0 {
		ch.add("interfaces", toMap(c.jumps("to-snat", devices)))
	}
	return ch
}

// forwarded matches what came in by the zones. It also leaves out what the box sends itself: that has its own address,
// and with a shared one the answer would go to the active member.
func (c *compiler) forwarded(zones []string) term { return fromSet(c.deviceSet(c.zoneDevices(zones))) }

func (c *compiler) snat(ch *chain, s *rules.SNAT) {
	for _, alt := range c.alternatives(&s.Match) {
		f := s.Family
		if !s.Masquerade && !s.Exempt {
			f = familyOf(s.To.First)
		}
		if f != 0 && alt.family != 0 && f != alt.family {
			continue
		}
		terms := []term{c.forwarded(s.From)}
		if s.Translated {
			terms = append(terms, translated())
		}
		if f != 0 && alt.family == 0 {
			terms = append(terms, family(f))
		}
		flags := natFlags{s.Random, s.Persistent}
		terms = append(slices.Concat(terms, alt.terms), c.count(s.ID))
		switch {
		case s.Exempt:
			terms = append(terms, accept())
		case s.Masquerade:
			terms = append(terms, masquerade(s.Random))
		default:
			terms = append(terms, natTo(expr.NATTypeSourceNAT, s.To, 0, flags))
		}
		ch.add(s.ID, terms...)
	}
}

// snatShape is what entries must have in common to be one map.
type snatShape struct {
	shape
	flags natFlags
	from  string // name of the set of devices
}

func (c *compiler) snatShapeOf(s *rules.SNAT) (out snatShape, ok bool) {
	if s.Exempt || s.Masquerade || s.Translated || len(s.Src) == 0 || !s.Shift && !s.To.IsSingle() {
		return out, false
	}
	if s.Shift {
		out.shape, ok = shape{family: familyOf(s.Src[0].First), src: true, exact: true}, true
	} else if out.shape, ok = shapeOf(&s.Match); !ok {
		return out, false
	}
	if out.family != familyOf(s.To.First) {
		return out, false
	}
	out.flags, out.from = natFlags{s.Random, s.Persistent}, c.deviceSet(c.zoneDevices(s.From))
	return out, true
}

// foldSNAT folds the entries at the head of list, and gives how many; 0 when they cannot be.
func (c *compiler) foldSNAT(ch *chain, list []*rules.SNAT) int {
	first, ok := c.snatShapeOf(list[0])
	if !ok {
		return 0
	}
	n := 1
	for n < len(list) {
		if s, ok := c.snatShapeOf(list[n]); !ok || s != first {
			break
		}
		n++
	}
	if n < minFold && !list[0].Shift {
		return 0
	}
	p := &packer{key: first.types(), exact: first.exact, data: []nftables.SetDatatype{addressType(first.family)}}
	var elements []element
	for _, s := range list[:n] {
		if s.Shift {
			elements = append(elements, shifted(s.ID, s.Src[0], s.To.First)...)
			continue
		}
		for _, e := range first.elements(&s.Match) {
			e.id = s.ID
			elements = append(elements, mapped(e, s.To.First, 0))
		}
	}
	p.fill(elements)
	for _, s := range p.sets {
		s.counted = true
		ch.add(list[0].ID+" and like it", fromSet(first.from),
			natMap(expr.NATTypeSourceNAT, first.family, first.parts(), c.addSet("snat", s), false, first.flags))
	}
	return n
}

// returns lets a connection go on whose first segment that this member sees comes from a server behind DNAT, as after a
// takeover that was quicker than the state sync. Without it the segment would be taken for a connection of the server's
// own and leave from another address or port than the client knows; and that entry would then stand in the way of the
// client's own segments (docs/decisions/0021).
func (c *compiler) returns(ch *chain, outside string) {
	for _, f := range []int{4, 6} {
		p := &packer{
			key: []nftables.SetDatatype{addressType(f), nftables.TypeInetService}, exact: true,
			data: []nftables.SetDatatype{addressType(f), nftables.TypeInetService},
		}
		var elements []element
		for i := range c.DNAT {
			d := &c.DNAT[i]
			if d.Outside != outside || d.Exempt || d.Shift || familyOf(d.To) != f || len(d.Dst) != 1 || !d.Dst[0].IsSingle() {
				continue
			}
			for _, s := range d.Services {
				if s.Proto != rules.TCP || s.First != s.Last {
					continue
				}
				inner := s.First
				if d.Port != 0 {
					inner = d.Port
				}
				e := rangeElement(rules.Single(d.To))
				e.text += " . " + portText(inner, inner)
				e.first = padded(padded(nil, e.first), port(inner))
				elements = append(elements, mapped(e, d.Dst[0].First, s.First))
			}
		}
		if len(elements) == 0 {
			continue
		}
		p.fill(elements)
		name := c.addSet("returns", p.sets[0])
		ch.add("returns", c.forwarded(nil), opening(false),
			natMap(expr.NATTypeSourceNAT, f, []part{addressPart(source, f), sourcePortPart()}, name, true, natFlags{}))
	}
}
