package gate

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Count is what came in for a shared MAC, without the Ethernet header.
type Count struct{ Packets, Bytes uint64 }

// Counts is what came in for the shared MAC behind one NIC since the gate was installed.
type Counts struct {
	In      Count // let in, by an open or a draining gate
	Refused Count // dropped by a shut one
}

// Counters reads the counts behind the NICs with these kernel names. A NIC without a gate is missing in the result. Any
// goroutine may call it.
func Counters(devices []string) (map[string]Counts, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open netlink for the gate: %w", err)
	}
	t := leaseSet().Table
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return nil, fmt.Errorf("list the chains of the gate: %w", err)
	}
	installed := map[string]bool{}
	for _, ch := range chains {
		if ch.Table.Name == Table {
			installed[ch.Name] = true
		}
	}
	out := make(map[string]Counts, len(devices))
	for _, d := range devices {
		if !installed["in-"+d] {
			continue
		}
		rules, err := c.GetRules(t, &nftables.Chain{Name: "in-" + d, Table: t})
		if err != nil {
			return nil, fmt.Errorf("read the gate of %s: %w", d, err)
		}
		out[d] = countsOf(rules)
	}
	return out, nil
}

// countsOf adds up the counters of ingress: what is counted before a verdict, but for the limit of heartbeats.
func countsOf(rules []*nftables.Rule) (out Counts) {
	for _, r := range rules {
		var n *expr.Counter
		limited := false
		for _, e := range r.Exprs {
			switch e := e.(type) {
			case *expr.Limit:
				limited = true
			case *expr.Counter:
				n = e
			case *expr.Verdict:
				switch {
				case n == nil || limited:
				case e.Kind == expr.VerdictAccept:
					out.In = Count{out.In.Packets + n.Packets, out.In.Bytes + n.Bytes}
				case e.Kind == expr.VerdictDrop:
					out.Refused = Count{out.Refused.Packets + n.Packets, out.Refused.Bytes + n.Bytes}
				}
			}
		}
	}
	return out
}
