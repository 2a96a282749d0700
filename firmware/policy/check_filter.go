package policy

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

func (c *checker) checkFilter() {
	names := seen[string]{}
	shadows := newShadows()
	for i := range c.Filter.Rules {
		r := &c.Filter.Rules[i]
		path := fmt.Sprintf("filter.rules[%d]", i)
		if r.Name != "" {
			names.once(c.decoder, r.Name, path+".name", "rule %q", r.Name)
		}
		c.zoneRefs(path+".from", r.From)
		c.zoneRefs(path+".to", r.To)
		c.addressRefs(path+".source", r.Source)
		c.addressRefs(path+".destination", r.Destination)
		c.serviceRefs(path+".service", r.Service)
		m := rules.Match{From: r.From, To: r.To, Src: c.ranges(r.Source), Dst: c.ranges(r.Destination), Services: c.services(r.Service)}
		if c.families(path, m.Src, m.Dst, m.Services) == 0 {
			continue
		}
		if r.Limit != nil && r.Action != "" && r.Action != rules.Accept {
			c.fail(path+".limit", "leave it out, or write action: accept", "what is not accepted has no limit")
		}
		c.untranslated(path, m.Dst)
		if j := shadows.add(m, i); j >= 0 {
			o := &c.Filter.Rules[j]
			c.warn(path, "move it up, or take it out", "rule %q never matches: %q on line %d matches all of it before", r.Name, o.Name, c.at.Where(fmt.Sprintf("filter.rules[%d]", j)).Line)
		}
	}
}

// untranslated warns of the classic mistake: a rule that names the address clients use, which DNAT has changed by then.
func (c *checker) untranslated(path string, dst []rules.Range) {
	if len(dst) == 0 || !slices.ContainsFunc(dst, func(r rules.Range) bool { return r.IsSingle() && c.own[r.First] }) {
		return
	}
	for _, r := range dst {
		if !r.IsSingle() || !c.own[r.First] {
			return
		}
	}
	c.warn(path+".destination", "name the server that dnat sends it to; for the gateway itself use management",
		"the filter never sees %s: it is the gateway's own address", dst[0])
}

// shadows finds, for each new rule, an earlier one that matches all of it. Rules are kept by their source and destination
// where those are one address; the rest is searched, up to a bound that keeps huge documents quick.
type shadows struct {
	rules  map[pair][]entry
	effort int
}

// pair is a source and a destination; not valid stands for more than one address.
type pair struct{ src, dst netip.Addr }

type entry struct {
	match rules.Match
	index int
}

// maxEffort is the most comparisons that are made for one document.
const maxEffort = 5_000_000

func newShadows() *shadows { return &shadows{rules: make(map[pair][]entry)} }

// add gives the index of the first earlier rule that covers m, or -1, and remembers m.
func (s *shadows) add(m rules.Match, index int) int {
	found := -1
	look := func(key pair) {
		list := s.rules[key]
		for i := range list {
			if s.effort++; s.effort > maxEffort {
				return
			}
			if (found < 0 || list[i].index < found) && covers(&list[i].match, &m) {
				found = list[i].index
				return
			}
		}
	}
	first := func(list []rules.Range) (a netip.Addr) {
		if len(list) > 0 {
			a = list[0].First
		}
		return a
	}
	src, dst := first(m.Src), first(m.Dst)
	look(pair{})
	if src.IsValid() {
		look(pair{src: src})
	}
	if dst.IsValid() {
		look(pair{dst: dst})
		if src.IsValid() {
			look(pair{src, dst})
		}
	}
	var key pair
	if len(m.Src) == 1 && m.Src[0].IsSingle() {
		key.src = src
	}
	if len(m.Dst) == 1 && m.Dst[0].IsSingle() {
		key.dst = dst
	}
	s.rules[key] = append(s.rules[key], entry{m, index})
	return found
}

// covers reports whether whatever b matches is matched by a. It may miss a cover that only several conditions of a
// make together.
func covers(a, b *rules.Match) bool {
	return zonesCover(a.From, b.From) && zonesCover(a.To, b.To) && rangesCover(a.Dst, b.Dst) && rangesCover(a.Src, b.Src) && servicesCover(a.Services, b.Services)
}

func zonesCover(a, b []string) bool {
	if len(a) == 0 {
		return true
	}
	for _, z := range b {
		if !slices.Contains(a, z) {
			return false
		}
	}
	return len(b) > 0
}

func rangesCover(a, b []rules.Range) bool {
	if len(a) == 0 {
		return true
	}
	for _, r := range b {
		if !slices.ContainsFunc(a, func(o rules.Range) bool { return o.Covers(r) }) {
			return false
		}
	}
	return len(b) > 0
}

func servicesCover(a, b []rules.Service) bool {
	if len(a) == 0 {
		return true
	}
	for _, s := range b {
		if !slices.ContainsFunc(a, func(o rules.Service) bool {
			return o.Proto == s.Proto && o.First <= s.First && s.Last <= o.Last && (o.Type == rules.AnyType || o.Type == s.Type)
		}) {
			return false
		}
	}
	return len(b) > 0
}
