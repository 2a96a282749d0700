package ruleset

import (
	"fmt"
	"slices"

	"github.com/google/nftables"

	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// alternative is one way to meet the conditions of a rule: the kernel has one rule for each.
type alternative struct {
	family int // 0: both
	terms  []term
}

// filters adds rules to a chain, in order; runs of the same shape become one rule with a set.
func (c *compiler) filters(ch *chain, list []*rules.Filter) {
	for len(list) > 0 {
		if n := c.foldFilters(ch, list); n > 0 {
			list = list[n:]
			continue
		}
		c.filter(ch, list[0])
		list = list[1:]
	}
}

func (c *compiler) filter(ch *chain, f *rules.Filter) {
	for _, alt := range c.alternatives(&f.Match) {
		add := func(more ...term) { ch.add(f.ID, slices.Concat(alt.terms, more)...) }
		if f.Log {
			add(atMost(logRate, logBurst), logged(fmt.Sprintf("%s %s ", f.ID, f.Action)))
		}
		switch f.Action {
		case rules.Accept:
			c.limit(ch, f, alt)
			if f.Limit == nil || f.Limit.PerSource {
				add(c.count(f.ID), accept())
			}
		case rules.Drop:
			add(c.count(f.ID), drop())
		case rules.Reject:
			// Never a reset for a segment from the middle: it can be of a connection that this member does not know yet.
			add(opening(true), c.count(f.ID), rejectTCP())
			add(protocol(rules.TCP), c.count(f.ID), drop())
			add(c.count(f.ID), rejectOthers())
		}
	}
}

// limit drops what exceeds the limit of an accepting rule. The limit of the whole rule also accepts the rest: a named
// limit, which all kernel rules of the rule share, matches what it lets through.
func (c *compiler) limit(ch *chain, f *rules.Filter, alt alternative) {
	if f.Limit == nil {
		return
	}
	if !f.Limit.PerSource {
		if !slices.ContainsFunc(c.out.limits, func(l limit) bool { return l.name == f.ID }) {
			c.out.limits = append(c.out.limits, limit{f.ID, f.Limit.Unit, f.Limit.Rate, uint64(f.Limit.Burst)})
		}
		ch.add(f.ID, slices.Concat(alt.terms, []term{namedLimit(f.ID), c.count(f.ID), accept()})...)
		ch.add(f.ID, slices.Concat(alt.terms, []term{drop()})...)
		return
	}
	families := []int{alt.family}
	if alt.family == 0 {
		families = []int{4, 6}
	}
	for _, fam := range families {
		ch.add(f.ID, slices.Concat(alt.terms, []term{overPerSource(fam, c.perSource(f.ID, fam, f.Limit), f.Limit), drop()})...)
	}
}

// familiesOf are the families a match leaves: both as one when it names no address.
func familiesOf(m *rules.Match) []int {
	if len(m.Src)+len(m.Dst) == 0 {
		return []int{0}
	}
	var out []int
	for _, f := range []int{4, 6} {
		if (len(m.Src) == 0 || len(rules.OfFamily(m.Src, f)) > 0) && (len(m.Dst) == 0 || len(rules.OfFamily(m.Dst, f)) > 0) {
			out = append(out, f)
		}
	}
	return out
}

// alternatives are the kernel's ways to say a match, zones aside: for every family and every kind of service.
func (c *compiler) alternatives(m *rules.Match) []alternative {
	var out []alternative
	for _, f := range familiesOf(m) {
		var addresses []term
		if f != 0 {
			addresses = append(addresses, c.addresses(source, f, m.Src)...)
			addresses = append(addresses, c.addresses(destination, f, m.Dst)...)
		}
		for _, service := range c.serviceTerms(m.Services, f) {
			terms := slices.Concat(addresses, service)
			if len(terms) == 0 && f != 0 {
				terms = []term{family(f)}
			}
			out = append(out, alternative{f, terms})
		}
	}
	return out
}

// addresses matches one side; nothing when everything of the family may be there and the other side names the family.
func (c *compiler) addresses(s side, f int, list []rules.Range) []term {
	list = rules.Merge(rules.OfFamily(list, f))
	switch {
	case len(list) == 0:
		return nil
	case slices.Contains(rules.Everything(), list[0]):
		return []term{family(f)}
	case len(list) == 1:
		if p, ok := list[0].Prefix(); ok {
			return []term{addressIs(s, p)}
		}
	}
	return []term{addressIn(s, f, c.rangeSet(list, f), false)}
}

// serviceTerms gives one list of terms for each kind of service: ports, ICMP types, other protocols.
func (c *compiler) serviceTerms(list []rules.Service, f int) [][]term {
	if len(list) == 0 {
		return [][]term{nil}
	}
	var withPorts []rules.Service
	var out [][]term
	for _, s := range list {
		switch {
		case s.Proto == rules.ICMP && f == 6 || s.Proto == rules.ICMPv6 && f == 4:
		case rules.HasPorts(s.Proto) && (s.First > 0 || s.Last < 65535):
			withPorts = append(withPorts, s)
		case (s.Proto == rules.ICMP || s.Proto == rules.ICMPv6) && s.Type != rules.AnyType:
			out = append(out, []term{icmpType(s.Proto, s.Type)})
		default:
			out = append(out, []term{protocol(s.Proto)})
		}
	}
	switch len(withPorts) {
	case 0:
	case 1:
		out = append(out, []term{ports(withPorts[0].Proto, withPorts[0].First, withPorts[0].Last)})
	default:
		out = append(out, []term{partsIn(0, []part{protoPart(), portPart()}, c.serviceSet(withPorts))})
	}
	return out
}

// serviceSet gives the name of a set of protocols and ports.
func (c *compiler) serviceSet(list []rules.Service) string {
	s := &set{key: []nftables.SetDatatype{nftables.TypeInetProto, nftables.TypeInetService}}
	for _, v := range mergePorts(list) {
		e := element{text: protoName(v.Proto) + " . " + portText(v.First, v.Last)}
		e.first = padded(padded(nil, []byte{v.Proto}), port(v.First))
		e.last = padded(padded(nil, []byte{v.Proto}), port(v.Last))
		s.interval = s.interval || v.First != v.Last
		s.elements = append(s.elements, e)
	}
	return c.addSet("services", s)
}

// mergePorts joins ranges of ports that overlap, because the kernel refuses those.
func mergePorts(list []rules.Service) []rules.Service {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b rules.Service) int {
		if a.Proto != b.Proto {
			return int(a.Proto) - int(b.Proto)
		}
		return int(a.First) - int(b.First)
	})
	var out []rules.Service
	for _, s := range list {
		if n := len(out); n > 0 && out[n-1].Proto == s.Proto && int(s.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, s.Last)
			continue
		}
		out = append(out, s)
	}
	return out
}
