package ruleset

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// Loaded says how far the kernel has the NAT of a ruleset.
type Loaded struct {
	Entries int      // of NAT, in the configuration
	Missing []string // parts that the kernel does not have, or has otherwise
}

// NAT compares the NAT of the ruleset with the table in the network namespace of the calling thread. A set is there when one of
// its name is: that is a digest of its content.
func (r *Ruleset) NAT() (Loaded, error) {
	out := Loaded{Entries: r.entries()}
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return out, fmt.Errorf("read the ruleset: %w", err)
	}
	defer c.CloseLasting()
	table := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
	chains, err := c.ListChainsOfTableFamily(table.Family)
	if err != nil {
		return out, fmt.Errorf("read the chains: %w", err)
	}
	there := map[string]bool{}
	for _, ch := range chains {
		if ch.Table.Name == Table {
			there[ch.Name] = true
		}
	}
	if len(there) == 0 {
		out.Missing = []string{"table " + Table}
		return out, nil
	}
	for _, ch := range r.chains {
		if !natChain(ch) {
			continue
		}
		if !there[ch.name] {
			out.Missing = append(out.Missing, "chain "+ch.name)
			continue
		}
		rules, err := c.GetRules(table, &nftables.Chain{Name: ch.name, Table: table})
		if err != nil {
			return out, fmt.Errorf("read chain %s: %w", ch.name, err)
		}
		if len(rules) != len(ch.rules) {
			out.Missing = append(out.Missing, fmt.Sprintf("chain %s as it should be: it has %d rules instead of %d", ch.name, len(rules), len(ch.rules)))
		}
	}
	sets, err := c.GetSets(table)
	if err != nil {
		return out, fmt.Errorf("read the sets: %w", err)
	}
	for _, s := range r.sets {
		if natName(s.name) && !slices.ContainsFunc(sets, func(k *nftables.Set) bool { return k.Name == s.name }) {
			out.Missing = append(out.Missing, "set "+s.name)
		}
	}
	return out, nil
}

// entries counts those of NAT: the rules of the policy that have a part in its chains or maps.
func (r *Ruleset) entries() int {
	ids := map[string]bool{}
	for _, s := range r.sets {
		if natName(s.name) {
			for _, e := range s.elements {
				ids[e.id] = true
			}
		}
	}
	for _, id := range r.counters {
		ids[id] = true
	}
	maps.DeleteFunc(ids, func(id string, _ bool) bool {
		return !strings.HasPrefix(id, "nat/") && !strings.HasPrefix(id, "node/nat-")
	})
	return len(ids)
}

// natName tells the names of chains and sets of NAT.
func natName(name string) bool {
	return strings.HasPrefix(name, "dnat") || strings.HasPrefix(name, "snat")
}

func natChain(ch *chain) bool {
	return natName(ch.name) || ch.base != nil && ch.base.kind == nftables.ChainTypeNAT
}
