package agent

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// TableParams names an nftables table of family inet.
type TableParams struct {
	Table string `json:"table"`
}

// TableResult is what the kernel has in the table. Table is empty when there is none of that name.
type TableResult struct {
	Table      string            `json:"table"`
	Chains     []string          `json:"chains"`
	Flowtables []Flowtable       `json:"flowtables"`
	Counters   map[string]uint64 `json:"counters"` // packets by the counter's name
}

// Flowtable is a fast path with the devices that it covers.
type Flowtable struct {
	Name    string   `json:"name"`
	Devices []string `json:"devices"`
}

// readTable asks the kernel: the image has no nft.
func readTable(p TableParams) (out TableResult, err error) {
	c, err := nftables.New()
	if err != nil {
		return out, fmt.Errorf("open netlink: %w", err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return out, fmt.Errorf("list tables: %w", err)
	}
	i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == p.Table })
	if i < 0 {
		return out, nil
	}
	t := tables[i]
	out = TableResult{Table: t.Name, Counters: map[string]uint64{}}
	chains, err := c.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return out, fmt.Errorf("list chains: %w", err)
	}
	for _, ch := range chains {
		if ch.Table.Name == t.Name {
			out.Chains = append(out.Chains, ch.Name)
		}
	}
	fast, err := c.ListFlowtables(t)
	if err != nil {
		return out, fmt.Errorf("list flowtables: %w", err)
	}
	for _, f := range fast {
		out.Flowtables = append(out.Flowtables, Flowtable{f.Name, f.Devices})
	}
	objects, err := c.GetNamedObjects(t)
	if err != nil {
		return out, fmt.Errorf("list counters: %w", err)
	}
	for _, o := range objects {
		if n, ok := o.(*nftables.NamedObj); ok {
			if count, ok := n.Obj.(*expr.Counter); ok {
				out.Counters[n.Name] = count.Packets
			}
		}
	}
	return out, nil
}
