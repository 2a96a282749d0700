package ruleset

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// present is the table as it is in the kernel. What the new one has too stays in place: chains, because a base chain that is
// deleted drops packets, by its policy and without its rules, until the transaction is through; sets, because a packet
// that is under way just then would find the old set empty; counters, because they count on; a flowtable with the same
// devices, because its connections would leave it.
type present struct {
	chains   []*nftables.Chain
	sets     []*nftables.Set
	limits   []string
	helpers  []string
	counters map[string]bool
	fast     []string // devices of the flowtable
	counts   Counters
}

// readTable reads the table in the network namespace of the calling thread; nil when there is none. The counts of elements in
// sets named in keep are not read.
func readTable(keep map[string]bool) (*present, error) {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("read the ruleset: %w", err)
	}
	defer c.CloseLasting()
	table := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
	tables, err := c.ListTablesOfFamily(table.Family)
	if err != nil {
		return nil, fmt.Errorf("read the ruleset: %w", err)
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == Table }) {
		return nil, nil
	}
	out := &present{counters: map[string]bool{}, counts: Counters{map[string]Count{}, map[elementKey]Count{}}}
	chains, err := c.ListChainsOfTableFamily(table.Family)
	if err != nil {
		return nil, fmt.Errorf("read the chains: %w", err)
	}
	for _, ch := range chains {
		if ch.Table.Name == Table {
			out.chains = append(out.chains, ch)
		}
	}
	if err := out.readObjects(c, table); err != nil {
		return nil, err
	}
	if flowtables, err := c.ListFlowtables(table); err == nil { // a kernel without them cannot say
		for _, f := range flowtables {
			out.fast = f.Devices
		}
	}
	return out, out.readSets(c, table, keep)
}

func (p *present) readObjects(c *nftables.Conn, table *nftables.Table) error {
	objects, err := c.GetNamedObjects(table)
	if err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	for _, o := range objects {
		named, ok := o.(*nftables.NamedObj)
		if !ok {
			continue
		}
		switch n := named.Obj.(type) {
		case *expr.Counter:
			p.counters[named.Name] = true
			p.counts.named[named.Name] = Count{n.Packets, n.Bytes}
		case *expr.Limit:
			p.limits = append(p.limits, named.Name)
		case *expr.CtHelper:
			p.helpers = append(p.helpers, named.Name)
		}
	}
	return nil
}

func (p *present) readSets(c *nftables.Conn, table *nftables.Table, keep map[string]bool) (err error) {
	if p.sets, err = c.GetSets(table); err != nil {
		return fmt.Errorf("read the sets: %w", err)
	}
	for _, s := range p.sets {
		if !countedName(s.Name) || keep[s.Name] {
			continue
		}
		elements, err := c.GetSetElements(s)
		if err != nil {
			return fmt.Errorf("read counters of set %s: %w", s.Name, err)
		}
		for _, e := range elements {
			if e.Counter != nil && e.Comment != "" {
				key := elementKey{e.Comment, string(e.Key), string(e.KeyEnd)}
				sum := p.counts.elements[key] // a rule can be in the sets of several pairs of zones
				p.counts.elements[key] = Count{sum.Packets + e.Counter.Packets, sum.Bytes + e.Counter.Bytes}
			}
		}
	}
	return nil
}

// keepsChain reports whether a chain is there as it is wanted, its rules aside.
func (p *present) keepsChain(want *chain) bool {
	return slices.ContainsFunc(p.chains, func(ch *nftables.Chain) bool { return sameChain(ch, want) })
}

func sameChain(ch *nftables.Chain, want *chain) bool {
	b := want.base
	switch {
	case ch.Name != want.name || (b == nil) != (ch.Hooknum == nil):
		return false
	case b == nil:
		return true
	}
	return *ch.Hooknum == *b.hook && ch.Priority != nil && *ch.Priority == *b.priority && ch.Type == b.kind && ch.Policy != nil && *ch.Policy == b.policy
}

// keepsSet reports whether a set is there as it is wanted: its name is a digest of its content.
func (p *present) keepsSet(name string) bool {
	return slices.ContainsFunc(p.sets, func(s *nftables.Set) bool { return s.Name == name })
}

func (r *Ruleset) setNames() map[string]bool {
	out := make(map[string]bool, len(r.sets))
	for _, s := range r.sets {
		out[s.name] = true
	}
	return out
}

// leftover begins the labels of what is taken out.
const leftover = "old "

// clear takes out what does not stay: rules, then the sets they looked in, then the chains that maps jumped to.
func (r *Ruleset) clear(rec *recorder, table *nftables.Table, old *present) {
	c := rec.conn
	if len(old.chains) > 0 {
		rec.say(leftover + "rules")
		c.FlushTable(table)
	}
	wanted := r.setNames()
	for _, s := range old.sets {
		if wanted[s.Name] {
			continue
		}
		rec.say(leftover+"set %s", s.Name)
		s.Table = table
		c.DelSet(s)
	}
	for _, ch := range old.chains {
		if slices.ContainsFunc(r.chains, func(want *chain) bool { return sameChain(ch, want) }) {
			continue
		}
		rec.say(leftover+"chain %s", ch.Name)
		c.DelChain(&nftables.Chain{Name: ch.Name, Table: table})
	}
	for _, name := range old.limits {
		rec.say(leftover+"limit %s", name)
		c.DeleteObject(&nftables.NamedObj{Table: table, Name: name, Type: nftables.ObjTypeLimit, Obj: &expr.Limit{}})
	}
	for _, name := range old.helpers {
		if p := rules.HelperProtocol(name); !slices.Contains(r.helpers, p) {
			rec.say(leftover+"helper %s", name)
			c.DeleteObject(helperObject(table, p))
		}
	}
	for name := range old.counters {
		if !slices.Contains(r.counters, name) {
			rec.say(leftover+"counter %s", name)
			c.DeleteObject(&nftables.NamedObj{Table: table, Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}})
		}
	}
	if len(old.fast) > 0 && !slices.Equal(r.fast, old.fast) {
		rec.say(leftover + flowtable)
		c.DelFlowtable(&nftables.Flowtable{Table: table, Name: flowtable})
	}
}
