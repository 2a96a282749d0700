package hold

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

// Mark is the bit of a packet's mark between the two rules: a connection is new where its state is known, and held where
// frames are.
const Mark = 1 << 31

// tableName is that of both tables: one of the family inet, one of netdev.
const tableName = "twinkeep_hold"

// confirmed is IPS_CONFIRMED: the kernel has the connection in its table, so this is not its first packet.
const confirmed = 1 << 3

func tables() (mark, hold *nftables.Table) {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}, &nftables.Table{Name: tableName, Family: nftables.TableFamilyNetdev}
}

func lease(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, Name: "lease", KeyType: nftables.TypeMark, KeyByteOrder: binaryutil.NativeEndian, HasTimeout: true, Timeout: Lease}
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// install puts the rules in, in place of those of a process that was killed.
func install(nics []string) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netlink for the hold: %w", err)
	}
	mark, hold := tables()
	for _, t := range []*nftables.Table{mark, hold} {
		c.AddTable(t)
		c.DelTable(t)
		c.AddTable(t)
	}
	// Behind the translation of the source (priority 100), before the connection is entered into the table.
	chain := c.AddChain(&nftables.Chain{Table: mark, Name: "first", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityRef(300)})
	c.AddRule(&nftables.Rule{Table: mark, Chain: chain, Exprs: []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(confirmed), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: native(0)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(^uint32(Mark)), Xor: native(Mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}})
	set := lease(hold)
	if err := c.AddSet(set, nil); err != nil {
		return fmt.Errorf("add the lease of the hold: %w", err)
	}
	for i, nic := range nics {
		into, _ := names(i)
		ifi, err := net.InterfaceByName(into)
		if err != nil {
			return fmt.Errorf("find %s: %w", into, err)
		}
		// Behind the gate: what that drops is not held.
		chain := c.AddChain(&nftables.Chain{Table: hold, Name: "out-" + nic, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookEgress, Priority: nftables.ChainPriorityRef(100), Device: nic})
		c.AddRule(&nftables.Rule{Table: hold, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(Mark), Xor: native(0)},
			&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
			&expr.Immediate{Register: 1, Data: native(uint32(ifi.Index))},
			&expr.Dup{RegDev: 1, IsRegDevSet: true},
			&expr.Counter{},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("install the hold (does the kernel have netdev egress and nft_dup_netdev?): %w", err)
	}
	return nil
}

// Renew makes the hold last for another Lease.
func (h *Hold) Renew() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netlink for the hold: %w", err)
	}
	_, t := tables()
	set := lease(t)
	element := []nftables.SetElement{{Key: native(Mark), Timeout: Lease}}
	// An element that is there keeps its old timeout, so it is put in anew. Both go in one transaction.
	c.SetAddElements(set, element)
	c.SetDeleteElements(set, element)
	c.SetAddElements(set, element)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("renew the hold: %w", err)
	}
	return nil
}

// remove takes the rules out.
func remove() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netlink for the hold: %w", err)
	}
	mark, hold := tables()
	for _, t := range []*nftables.Table{mark, hold} {
		c.AddTable(t)
		c.DelTable(t)
	}
	if err := c.Flush(); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove the hold: %w", err)
	}
	return nil
}
