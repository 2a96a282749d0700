package ruleset

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

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
func ReadCounters() (Counters, error) { return readCounters() }

func readCounters() (Counters, error) {
	out := Counters{map[string]Count{}, map[elementKey]Count{}}
	there, err := installed()
	if err != nil || !there {
		return out, err
	}
	c, err := nftables.New()
	if err != nil {
		return out, fmt.Errorf("read counters: %w", err)
	}
	table := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
	objects, err := c.GetNamedObjects(table)
	if err != nil {
		return out, fmt.Errorf("read counters: %w", err)
	}
	for _, o := range objects {
		if named, ok := o.(*nftables.NamedObj); ok {
			if n, ok := named.Obj.(*expr.Counter); ok {
				out.named[named.Name] = Count{n.Packets, n.Bytes}
			}
		}
	}
	sets, err := c.GetSets(table)
	if err != nil {
		return out, fmt.Errorf("read counters: %w", err)
	}
	for _, s := range sets {
		if !countedName(s.Name) {
			continue
		}
		elements, err := c.GetSetElements(s)
		if err != nil {
			return out, fmt.Errorf("read counters of set %s: %w", s.Name, err)
		}
		for _, e := range elements {
			if e.Counter != nil && e.Comment != "" {
				key := elementKey{e.Comment, string(e.Key), string(e.KeyEnd)}
				sum := out.elements[key] // a rule can be in the sets of several pairs of zones
				out.elements[key] = Count{sum.Packets + e.Counter.Packets, sum.Bytes + e.Counter.Bytes}
			}
		}
	}
	return out, nil
}

// carrying is the same ruleset with the counts of rules that were there before.
func (r *Ruleset) carrying(before Counters) *Ruleset {
	out := *r
	out.before = before
	if len(before.elements) == 0 {
		return &out
	}
	out.sets = nil
	given := make(map[elementKey]bool) // the sum goes on in the first element of the rule
	for _, s := range r.sets {
		if s.counted {
			copied := *s
			copied.elements = append([]element(nil), s.elements...)
			for i := range copied.elements {
				e := &copied.elements[i]
				key := elementKey{id: e.id, key: string(e.first)}
				if s.interval && len(s.key) > 1 {
					key.end = string(e.last)
				}
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

// countedName tells the sets whose elements have counters.
func countedName(name string) bool {
	for _, kind := range []string{"rules", "dnat", "snat"} {
		if len(name) > len(kind) && name[:len(kind)] == kind {
			return true
		}
	}
	return false
}
