package ruleset

import "strings"

// Count is what a rule has matched. NAT and the filter see the first packet of a connection only, so it counts
// connections there.
type Count struct{ Packets, Bytes uint64 }

// Counters are the counts in the kernel.
type Counters struct {
	named    map[string]Count
	elements map[elementKey]Count
}

// elementKey finds the element of a rule again, in whatever set it is next time.
type elementKey struct{ id, key, end string }

// ByRule sums the counts by rule of the policy: "filter/NAME", "nat/NAME", "management/NAME", and those of what was
// dropped.
func (c Counters) ByRule() map[string]Count {
	out := make(map[string]Count, len(c.named))
	add := func(id string, n Count) {
		sum := out[id]
		out[id] = Count{sum.Packets + n.Packets, sum.Bytes + n.Bytes}
	}
	for id, n := range c.named {
		add(id, n)
	}
	for key, n := range c.elements {
		add(key.id, n)
	}
	return out
}

// ReadCounters reads the counters of the table in the network namespace of the calling thread.
func ReadCounters() (Counters, error) {
	old, err := readTable(nil)
	if err != nil || old == nil {
		return Counters{}, err
	}
	return old.counts, nil
}

// carrying is the same ruleset with the counts of rules that were there before.
func (r *Ruleset) carrying(old *present) *Ruleset {
	out := *r
	if old == nil {
		return &out
	}
	before := old.counts
	out.before = before
	if len(before.elements) == 0 {
		return &out
	}
	out.sets = nil
	given := make(map[elementKey]bool) // the sum goes on in the first element of the rule
	for _, s := range r.sets {
		if s.counted && old.keepsSet(s.name) {
			for i := range s.elements {
				given[s.keyOf(&s.elements[i])] = true
			}
		}
	}
	for _, s := range r.sets {
		if s.counted && !old.keepsSet(s.name) {
			copied := *s
			copied.elements = append([]element(nil), s.elements...)
			for i := range copied.elements {
				e := &copied.elements[i]
				key := s.keyOf(e)
				if n := before.elements[key]; !given[key] {
					given[key] = true
					e.packets, e.bytes = n.Packets, n.Bytes
				}
			}
			s = &copied
		}
		out.sets = append(out.sets, s)
	}
	return &out
}

func (s *set) keyOf(e *element) elementKey {
	key := elementKey{id: e.id, key: string(e.first)}
	if s.interval && len(s.key) > 1 {
		key.end = string(e.last)
	}
	return key
}

// countedName tells the sets whose elements have counters.
func countedName(name string) bool {
	for _, kind := range []string{"rules-", "dnat-", "snat-"} {
		if strings.HasPrefix(name, kind) {
			return true
		}
	}
	return false
}
