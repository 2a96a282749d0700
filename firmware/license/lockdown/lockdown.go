// Package lockdown is the ruleset of a gateway in lockdown: a table of its own, in front of all others, that lets only
// management traffic pass. It accepts nothing by itself: what passes it goes on to the rules of the node file.
//
// Passes: loopback, heartbeats, neighbour discovery (ARP is below the table), the management ports on the private
// addresses with their answers, and connections of this box whose sockets carry Mark. Nothing is forwarded.
package lockdown

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// TableName is the table's name, family inet.
const TableName = "twinkeep_lockdown"

// Mark is set on the sockets (SO_MARK) of what must work in lockdown too: asking the licence server. It is "TK" in ASCII.
const Mark = 0x544b

// beats are the ports of the cluster: heartbeats and CCP. With wrong checksums they never get as far as this.
var beats = []uint16{999, 8116}

// priority is in front of every other filter of the same hook but behind connection tracking (NF_IP_PRI_MANGLE).
const priority = -150

// Table is the table of one box.
type Table struct {
	// Management gives the addresses that management comes in on, at the time the table is made.
	Management func() []netip.Addr
	// Ports gives the TCP ports of management: those of the console and the API over the network that are on.
	Ports func() []uint16
}

// Lockdown puts the table in, or takes it out, in the network namespace of the calling thread. Either is one transaction,
// and either may be repeated: on makes the table anew.
func (t Table) Lockdown(_ context.Context, on bool) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("lockdown: open netlink: %w", err)
	}
	table := &nftables.Table{Name: TableName, Family: nftables.TableFamilyINet}
	c.AddTable(table) // so that there is one to delete
	c.DelTable(table)
	if on {
		if err := t.queue(c, c.AddTable(table)); err != nil {
			return fmt.Errorf("lockdown: %w", err)
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("lockdown: the kernel refused the table: %w", err)
	}
	return nil
}

// Present reports whether the table is in.
func Present() (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("lockdown: open netlink: %w", err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("lockdown: list tables: %w", err)
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == TableName }), nil
}

func (t Table) queue(c *nftables.Conn, table *nftables.Table) error {
	var four, six []nftables.SetElement
	if t.Management != nil {
		for _, a := range t.Management() {
			if e := (nftables.SetElement{Key: a.AsSlice()}); a.Is4() {
				four = append(four, e)
			} else {
				six = append(six, e)
			}
		}
	}
	var ports []uint16
	if t.Ports != nil {
		ports = t.Ports()
	}
	sets := []struct {
		set      nftables.Set
		elements []nftables.SetElement
	}{
		{nftables.Set{Name: "management4", KeyType: nftables.TypeIPAddr}, four},
		{nftables.Set{Name: "management6", KeyType: nftables.TypeIP6Addr}, six},
		{nftables.Set{Name: "ports", KeyType: nftables.TypeInetService}, services(ports)},
		{nftables.Set{Name: "beats", KeyType: nftables.TypeInetService}, services(beats)},
	}
	for _, s := range sets {
		s.set.Table = table
		if err := c.AddSet(&s.set, s.elements); err != nil {
			return fmt.Errorf("set %s: %w", s.set.Name, err)
		}
	}
	chains := []struct {
		name  string
		hook  *nftables.ChainHook
		rules [][]expr.Any
	}{
		{"input", nftables.ChainHookInput, incoming()},
		{"forward", nftables.ChainHookForward, nil},
		{"output", nftables.ChainHookOutput, outgoing()},
	}
	drop := nftables.ChainPolicyDrop
	for _, ch := range chains {
		chain := c.AddChain(&nftables.Chain{
			Name: ch.name, Table: table, Type: nftables.ChainTypeFilter, Hooknum: ch.hook,
			Priority: nftables.ChainPriorityRef(priority), Policy: &drop,
		})
		for _, rule := range append(ch.rules, []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}) {
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
		}
	}
	return nil
}

// Offsets of addresses in the IPv4 (RFC 791, section 3.1) and IPv6 header (RFC 8200, section 3), and of the ports. Ours
// is the destination on the way in, the source on the way out.
const (
	saddr4, daddr4 = 12, 16
	saddr6, daddr6 = 8, 24
	sport, dport   = 0, 2
)

func incoming() [][]expr.Any {
	return [][]expr.Any{
		accept(device(expr.MetaKeyIIFNAME)),
		accept(discovery()),
		accept(protocol(unix.IPPROTO_UDP), in(transport(dport), "beats")),
		accept(equal(&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, number(Mark))),
		accept(protocol(unix.IPPROTO_ICMP), related()),
		accept(protocol(unix.IPPROTO_ICMPV6), related()),
		accept(family(unix.NFPROTO_IPV4), in(network(daddr4, 4), "management4"), protocol(unix.IPPROTO_TCP), in(transport(dport), "ports")),
		accept(family(unix.NFPROTO_IPV6), in(network(daddr6, 16), "management6"), protocol(unix.IPPROTO_TCP), in(transport(dport), "ports")),
	}
}

func outgoing() [][]expr.Any {
	return [][]expr.Any{
		accept(device(expr.MetaKeyOIFNAME)),
		accept(discovery()),
		accept(protocol(unix.IPPROTO_UDP), in(transport(dport), "beats")),
		accept(equal(&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, number(Mark)), // the connection too, so that its answers pass
			[]expr.Any{&expr.Immediate{Register: 1, Data: number(Mark)}, &expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true}}),
		accept(family(unix.NFPROTO_IPV4), in(network(saddr4, 4), "management4"), protocol(unix.IPPROTO_TCP), in(transport(sport), "ports")),
		accept(family(unix.NFPROTO_IPV6), in(network(saddr6, 16), "management6"), protocol(unix.IPPROTO_TCP), in(transport(sport), "ports")),
	}
}

func services(ports []uint16) (out []nftables.SetElement) {
	for _, p := range ports {
		out = append(out, nftables.SetElement{Key: binary.BigEndian.AppendUint16(nil, p)})
	}
	return out
}

func number(n uint32) []byte { return binaryutil.NativeEndian.PutUint32(n) }

func accept(matches ...[]expr.Any) []expr.Any {
	return append(slices.Concat(matches...), &expr.Verdict{Kind: expr.VerdictAccept})
}

// equal loads a value into register 1 and compares it.
func equal(load expr.Any, want []byte) []expr.Any {
	return []expr.Any{load, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: want}}
}

// in loads a value into register 1 and looks it up in a set.
func in(load expr.Any, set string) []expr.Any {
	return []expr.Any{load, &expr.Lookup{SourceRegister: 1, SetName: set}}
}

func device(key expr.MetaKey) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, "lo")
	return equal(&expr.Meta{Key: key, Register: 1}, name)
}

func protocol(number byte) []expr.Any {
	return equal(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, []byte{number})
}

func family(number byte) []expr.Any {
	return equal(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, []byte{number})
}

func network(offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}
}

func transport(offset uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2}
}

// discovery matches the four messages of neighbour discovery that hosts and routers need (RFC 4861): 133 to 136.
func discovery() []expr.Any {
	return append(protocol(unix.IPPROTO_ICMPV6),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: []byte{133}, ToData: []byte{136}})
}

// related matches errors about connections that conntrack knows: without them long segments get lost (path MTU).
func related() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: number(expr.CtStateBitRELATED), Xor: number(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: number(0)},
	}
}
