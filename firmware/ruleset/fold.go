package ruleset

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// Folding: consecutive rules of one shape become one kernel rule with a set or a map, each rule an element of it. The
// meaning stays exactly the same, counters included: what two rules of a run both match belongs to the first, so an
// element that an earlier one covers is left out, and one that overlaps in part begins a new set, which the kernel asks
// later.

const (
	minFold  = 3  // fewer rules are quicker to check one after the other
	maxTuple = 64 // elements that one rule may have
)

// shape is what rules must have in common to be folded.
type shape struct {
	family   int
	src, dst bool
	ports    bool
	exact    bool // single addresses and ports only: a hash table
	action   rules.Action
}

// shapeOf gives the shape of a match; not ok when it takes more than one kernel rule.
func shapeOf(m *rules.Match) (s shape, ok bool) {
	families := familiesOf(m)
	if len(families) != 1 {
		return s, false
	}
	s = shape{family: families[0], src: len(m.Src) > 0, dst: len(m.Dst) > 0, ports: len(m.Services) > 0, exact: true}
	n := max(len(m.Src), 1) * max(len(m.Dst), 1) * max(len(m.Services), 1)
	if n > maxTuple || !s.src && !s.dst && !s.ports {
		return s, false
	}
	for _, list := range [][]rules.Range{m.Src, m.Dst} {
		if len(rules.OfFamily(list, s.family)) != len(list) {
			return s, false
		}
		for _, r := range list {
			s.exact = s.exact && r.IsSingle()
		}
	}
	for _, v := range m.Services {
		if !rules.HasPorts(v.Proto) || v.First == 0 && v.Last == 65535 {
			return s, false
		}
		s.exact = s.exact && v.First == v.Last
	}
	return s, true
}

// foldFilters folds the rules at the head of list, and gives how many; 0 when they cannot be.
func (c *compiler) foldFilters(ch *chain, list []*rules.Filter) int {
	like := func(f *rules.Filter) (shape, bool) {
		if f.Log || f.Limit != nil || f.Action == rules.Reject {
			return shape{}, false
		}
		s, ok := shapeOf(&f.Match)
		s.action = f.Action
		return s, ok
	}
	first, ok := like(list[0])
	if !ok {
		return 0
	}
	n := 1
	for n < len(list) {
		if s, ok := like(list[n]); !ok || s != first {
			break
		}
		n++
	}
	if n < minFold {
		return 0
	}
	p := &packer{key: first.types(), exact: first.exact}
	var elements []element
	for _, f := range list[:n] {
		for _, e := range first.elements(&f.Match) {
			e.id = f.ID
			elements = append(elements, e)
		}
	}
	p.fill(elements)
	for _, s := range p.sets {
		s.counted = true
		end := accept()
		if first.action == rules.Drop {
			end = drop()
		}
		ch.add(list[0].ID+" and like it", partsIn(first.family, first.parts(), c.addSet("rules", s)), end)
	}
	return n
}

func (s shape) types() []nftables.SetDatatype {
	var out []nftables.SetDatatype
	if s.src {
		out = append(out, addressType(s.family))
	}
	if s.dst {
		out = append(out, addressType(s.family))
	}
	if s.ports {
		out = append(out, nftables.TypeInetProto, nftables.TypeInetService)
	}
	return out
}

func (s shape) parts() []part {
	var out []part
	if s.src {
		out = append(out, addressPart(source, s.family))
	}
	if s.dst {
		out = append(out, addressPart(destination, s.family))
	}
	if s.ports {
		out = append(out, protoPart(), portPart())
	}
	return out
}

// elements are the keys of one rule: every combination of its conditions.
func (s shape) elements(m *rules.Match) []element {
	out := []element{{}}
	join := func(conditions []element) {
		if len(conditions) == 0 {
			return
		}
		var next []element
		for _, e := range out {
			for _, x := range conditions {
				text := x.text
				if e.text != "" {
					text = e.text + " . " + x.text
				}
				next = append(next, element{text: text, first: padded(slices.Clone(e.first), x.first), last: padded(slices.Clone(e.last), x.last)})
			}
		}
		out = next
	}
	addresses := func(list []rules.Range) (out []element) {
		for _, r := range list {
			out = append(out, rangeElement(r))
		}
		return out
	}
	join(addresses(m.Src))
	join(addresses(m.Dst))
	var services []element
	for _, v := range m.Services {
		services = append(services, element{
			text:  protoName(v.Proto) + " . " + portText(v.First, v.Last),
			first: padded(padded(nil, []byte{v.Proto}), port(v.First)),
			last:  padded(padded(nil, []byte{v.Proto}), port(v.Last)),
		})
	}
	join(services)
	return out
}

// packer spreads elements over as few sets as keep their order of precedence.
type packer struct {
	key, data []nftables.SetDatatype
	exact     bool
	sets      []*set
	seen      map[string]bool // exact keys
	// Of the last set, to find what overlaps; exactParts are where parts begin that have one value in every element.
	buckets    map[string][]*element
	exactParts []int
}

// maxBucket bounds the comparisons for one element.
const maxBucket = 2048

func (p *packer) add(e element) {
	if p.exact {
		if p.seen == nil {
			p.seen = make(map[string]bool)
			p.sets = []*set{{key: p.key, data: p.data}}
		}
		if key := string(e.first); !p.seen[key] {
			p.seen[key] = true
			e.last = nil
			p.sets[0].elements = append(p.sets[0].elements, e)
		}
		return
	}
	cell, wide := p.cell(&e)
	near := slices.Concat(p.buckets[cell], p.buckets[wide+"wide"])
	if cell == wide+"wide" {
		near = p.buckets[wide+"all"]
	}
	overlap := len(near) >= maxBucket
	for _, o := range near {
		if p.covers(o, &e) {
			return
		}
		overlap = overlap || p.overlaps(o, &e)
	}
	if overlap || p.sets == nil {
		p.sets = append(p.sets, &set{key: p.key, data: p.data, interval: true})
		p.buckets = make(map[string][]*element)
	}
	s := p.sets[len(p.sets)-1]
	s.elements = append(s.elements, e)
	known := &element{first: e.first, last: e.last}
	p.buckets[cell] = append(p.buckets[cell], known)
	p.buckets[wide+"all"] = append(p.buckets[wide+"all"], known)
}

// cell tells which elements can overlap e without a comparison with all: those with the same values in the parts that are
// exact in every element, and the same leading bytes in the first other part. An element that spans more has the cell
// wide+"wide"; wide+"all" has all elements with the same exact parts.
func (p *packer) cell(e *element) (cell, wide string) {
	lead := ""
	p.each(func(at, size int) bool {
		switch {
		case p.isExact(at):
			wide += string(e.first[at : at+size])
		case lead == "":
			n := 2
			if size > 4 {
				n = 6
			}
			if lead = "in " + string(e.first[at:at+n]); lead != "in "+string(e.last[at:at+n]) {
				lead = "wide"
			}
		}
		return true
	})
	return wide + lead, wide
}

func (p *packer) isExact(at int) bool { return slices.Contains(p.exactParts, at) }

// fill adds all elements, in order of precedence.
func (p *packer) fill(elements []element) {
	if !p.exact {
		p.each(func(at, size int) bool {
			if !slices.ContainsFunc(elements, func(e element) bool { return string(e.first[at:at+size]) != string(e.last[at:at+size]) }) {
				p.exactParts = append(p.exactParts, at)
			}
			return true
		})
	}
	for _, e := range elements {
		p.add(e)
	}
}

// each calls f for every part of the key.
func (p *packer) each(f func(at, size int) bool) bool {
	at := 0
	for _, t := range p.key {
		size := (int(t.Bytes) + 3) / 4 * 4
		if !f(at, size) {
			return false
		}
		at += size
	}
	return true
}

func (p *packer) covers(a, b *element) bool {
	return p.each(func(at, size int) bool {
		return slices.Compare(a.first[at:at+size], b.first[at:at+size]) <= 0 && slices.Compare(b.last[at:at+size], a.last[at:at+size]) <= 0
	})
}

func (p *packer) overlaps(a, b *element) bool {
	return p.each(func(at, size int) bool {
		return slices.Compare(a.first[at:at+size], b.last[at:at+size]) <= 0 && slices.Compare(b.first[at:at+size], a.last[at:at+size]) <= 0
	})
}

// mapped makes the value of a map of NAT.
func mapped(e element, to netip.Addr, toPort uint16) element {
	e.data, e.dataText = to.AsSlice(), to.String()
	if toPort != 0 {
		e.data, e.dataText = padded(padded(nil, e.data), port(toPort)), fmt.Sprintf("%s . %d", e.dataText, toPort)
	}
	return e
}
