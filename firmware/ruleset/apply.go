package ruleset

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

// Apply replaces the table in the network namespace of the calling thread. It is one transaction: on an error the
// kernel keeps what it had. Connections that are established stay.
func (r *Ruleset) Apply() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("apply ruleset: open netlink: %w", err)
	}
	if err := r.queue(c); err != nil {
		return fmt.Errorf("apply ruleset: %w", err)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("apply ruleset: the kernel refused it, the old rules are in force: %w", err)
	}
	return nil
}

func (r *Ruleset) queue(c *nftables.Conn) error {
	table := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
	c.AddTable(table) // so that there is one to delete
	c.DelTable(table)
	c.AddTable(table)
	for i := range r.sets {
		if err := addSet(c, table, &r.sets[i]); err != nil {
			return err
		}
	}
	for _, ch := range r.chains {
		chain := c.AddChain(&nftables.Chain{
			Name: ch.name, Table: table, Type: ch.kind, Hooknum: ch.hook, Priority: ch.priority, Policy: &ch.policy,
		})
		for _, rule := range ch.rules {
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule.kernel()})
		}
	}
	return nil
}

func addSet(c *nftables.Conn, table *nftables.Table, s *set) error {
	err := c.AddSet(&nftables.Set{
		Table: table, Name: s.name, KeyType: s.kind, KeyByteOrder: s.byteOrder(), Interval: s.interval,
	}, s.kernel())
	if err != nil {
		return fmt.Errorf("set %s: %w", s.name, err)
	}
	return nil
}

// byteOrder is a note for nft(8), which otherwise lists device names as empty strings. The kernel does not use it.
func (s *set) byteOrder() binaryutil.ByteOrder {
	if s.kind == nftables.TypeIFName {
		return binaryutil.NativeEndian
	}
	return nil
}

// kernel gives the elements as the kernel wants them. A range is two: its first address, and the one behind its
// last, marked as an end. A range up to the very last address has no end.
func (s *set) kernel() []nftables.SetElement {
	var out []nftables.SetElement
	for _, e := range s.elements {
		out = append(out, nftables.SetElement{Key: e.key})
		if end := e.last.Next(); s.interval && end.IsValid() {
			out = append(out, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	return out
}

// kernel gives the expressions of a rule.
func (r rule) kernel() (out []expr.Any) {
	for _, t := range r {
		out = append(out, t.exprs...)
	}
	return out
}

// Remove takes the table out: everything is accepted again. It is no error when there is none.
func Remove() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("remove ruleset: open netlink: %w", err)
	}
	table := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
	c.AddTable(table)
	c.DelTable(table)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove ruleset: %w", err)
	}
	return nil
}
