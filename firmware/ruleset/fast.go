package ruleset

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// EndFast takes the flowtable out of the table in the network namespace of the calling thread, in one transaction: what was in it meets the filters of the
// forward hook again from the next packet on. No connection ends by that. Apply puts it back. It reports whether there was one.
func EndFast() (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("end the fast path: open netlink: %w", err)
	}
	table := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
	list, err := c.ListFlowtables(table)
	if len(list) == 0 || err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
			err = nil // no table, or a kernel that knows no flowtables
		}
		return false, err
	}
	chains, err := c.ListChainsOfTableFamily(table.Family)
	if err != nil {
		return true, fmt.Errorf("end the fast path: list chains: %w", err)
	}
	for _, ch := range chains {
		if ch.Table.Name != Table || ch.Hooknum == nil || *ch.Hooknum != *nftables.ChainHookForward {
			continue
		}
		rules, err := c.GetRules(table, ch)
		if err != nil {
			return true, fmt.Errorf("end the fast path: list rules: %w", err)
		}
		for _, r := range rules {
			if !slices.ContainsFunc(r.Exprs, func(e expr.Any) bool { _, ok := e.(*expr.FlowOffload); return ok }) {
				continue
			}
			if err := c.DelRule(r); err != nil { // a flowtable that a rule names cannot be deleted
				return true, fmt.Errorf("end the fast path: %w", err)
			}
		}
	}
	for _, f := range list {
		c.DelFlowtable(f)
	}
	if err := c.Flush(); err != nil {
		return true, fmt.Errorf("end the fast path: the kernel refused it: %w", err)
	}
	return true, nil
}
