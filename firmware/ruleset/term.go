package ruleset

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// term is one part of a rule: a match, a statement or a verdict, as text and as kernel expressions.
type term struct {
	text  string
	exprs []expr.Any
}

// The one register every term begins at: no value lives longer than its term.
const register = 1

// registerAt is the register of a part of a concatenation that begins after words of 4 bytes.
func registerAt(words int) uint32 {
	if words == 0 {
		return register
	}
	return uint32(unix.NFT_REG32_00 + words)
}

func accept() term { return verdict("accept", expr.VerdictAccept, "") }
func drop() term   { return verdict("drop", expr.VerdictDrop, "") }

func verdict(text string, kind expr.VerdictKind, chain string) term {
	return term{text, []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}}
}

// ctState matches connections by what conntrack thinks of them.
func ctState(text string, bits uint32) term {
	return term{"ct state " + text, maskedCt(expr.CtKeySTATE, bits)}
}

func maskedCt(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: register},
		&expr.Bitwise{
			SourceRegister: register, DestRegister: register, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: binaryutil.NativeEndian.PutUint32(0),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: binaryutil.NativeEndian.PutUint32(0)},
	}
}

// established matches packets of connections that conntrack knows, and errors about them.
func established() term {
	return ctState("established,related", expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// translated matches connections whose destination NAT has changed (IPS_DST_NAT).
func translated() term {
	const dstNAT = 1 << 5
	return term{"ct status dnat", maskedCt(expr.CtKeySTATUS, dstNAT)}
}

// protocol matches the protocol above IP, behind all extension headers of IPv6.
func protocol(number uint8) term {
	return term{"meta l4proto " + protoName(number), protocolIs(number)}
}

func protocolIs(number uint8) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{number}},
	}
}

// ports matches the destination ports of one protocol.
func ports(number uint8, first, last uint16) term {
	exprs := append(protocolIs(number), &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2})
	if first == last {
		exprs = append(exprs, &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: port(first)})
	} else {
		exprs = append(exprs, &expr.Range{Op: expr.CmpOpEq, Register: register, FromData: port(first), ToData: port(last)})
	}
	return term{fmt.Sprintf("%s dport %s", protoName(number), portText(first, last)), exprs}
}

// icmpType matches the type of an ICMP message.
func icmpType(number uint8, kind int) term {
	word := "icmp"
	if number == rules.ICMPv6 {
		word = "icmpv6"
	}
	return term{fmt.Sprintf("%s type %d", word, kind), append(protocolIs(number),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{byte(kind)}})}
}

func icmpv6In(name string) term {
	return term{"icmpv6 type @" + name, append(protocolIs(rules.ICMPv6),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}, lookup(name))}
}

// Flags of a TCP segment (RFC 9293, section 3.1).
const (
	tcpSYN  = 0x02
	tcpOpen = 0x17 // FIN, SYN, RST, ACK
)

// opening matches the first segment of a TCP connection, or any other segment.
func opening(is bool) term {
	exprs := append(protocolIs(rules.TCP),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{tcpOpen}, Xor: []byte{0}})
	op, word := expr.CmpOpEq, "=="
	if !is {
		op, word = expr.CmpOpNeq, "!="
	}
	return term{"tcp flags & (fin | syn | rst | ack) " + word + " syn", append(exprs, &expr.Cmp{Op: op, Register: register, Data: []byte{tcpSYN}})}
}

func from(device string) term {
	return term{fmt.Sprintf("iifname %q", device), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: deviceKey(device)},
	}}
}

func fromSet(name string) term { return deviceIn("iifname @", expr.MetaKeyIIFNAME, lookup(name), name) }

// fromMap and toMap go on in the chain that a verdict map gives for the device.
func fromMap(name string) term {
	return deviceIn("iifname vmap @", expr.MetaKeyIIFNAME, vmap(name), name)
}
func toMap(name string) term {
	return deviceIn("oifname vmap @", expr.MetaKeyOIFNAME, vmap(name), name)
}

func deviceIn(words string, key expr.MetaKey, look expr.Any, name string) term {
	return term{words + name, []expr.Any{&expr.Meta{Key: key, Register: register}, look}}
}

func lookup(name string) expr.Any { return &expr.Lookup{SourceRegister: register, SetName: name} }

func vmap(name string) expr.Any {
	return &expr.Lookup{SourceRegister: register, SetName: name, IsDestRegSet: true}
}

// family matches IPv4 or IPv6, for rules that would otherwise take the other along.
func family(f int) term { return term{fmt.Sprintf("meta nfproto ipv%d", f), familyIs(f)} }

func familyIs(f int) []expr.Any {
	number := byte(unix.NFPROTO_IPV4)
	if f == 6 {
		number = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{number}},
	}
}

// side is the source or the destination address.
type side string

const (
	source      side = "saddr"
	destination side = "daddr"
)

func (s side) text(f int) string {
	if f == 4 {
		return "ip " + string(s)
	}
	return "ip6 " + string(s)
}

// load puts the address into a register. Offsets are those of the IPv4 (RFC 791, section 3.1) and IPv6 header (RFC 8200,
// section 3).
func (s side) load(f int, into uint32) expr.Any {
	p := &expr.Payload{DestRegister: into, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}
	if f == 6 {
		p.Offset, p.Len = 8, 16
	}
	if s == destination {
		p.Offset += p.Len
	}
	return p
}

// addressIs matches one address or one prefix.
func addressIs(s side, p netip.Prefix) term {
	f := familyOf(p.Addr())
	exprs := append(familyIs(f), s.load(f, register))
	text := p.Addr().String()
	if !p.IsSingleIP() {
		text = p.String()
		mask := make([]byte, p.Addr().BitLen()/8)
		for bit := range p.Bits() {
			mask[bit/8] |= 0x80 >> (bit % 8)
		}
		exprs = append(exprs, &expr.Bitwise{SourceRegister: register, DestRegister: register, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))})
	}
	return term{s.text(f) + " " + text, append(exprs, &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: p.Addr().AsSlice()})}
}

// addressIn matches the addresses of a set, or all others of the family.
func addressIn(s side, f int, name string, not bool) term {
	word := "@"
	if not {
		word = "!= @"
	}
	return term{s.text(f) + " " + word + name, append(familyIs(f), s.load(f, register),
		&expr.Lookup{SourceRegister: register, SetName: name, Invert: not})}
}

func counter(id string) term {
	return term{"counter name " + id, []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: id}}}
}

func namedLimit(id string) term {
	return term{"limit name " + id, []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_LIMIT, Name: id}}}
}

// atMost lets so many packets a second match.
func atMost(rate uint64, burst uint32) term {
	return term{fmt.Sprintf("limit rate %d/second burst %d packets", rate, burst), []expr.Any{
		&expr.Limit{Type: expr.LimitTypePkts, Rate: rate, Unit: expr.LimitTimeSecond, Burst: burst},
	}}
}

var units = map[string]expr.LimitTime{
	"second": expr.LimitTimeSecond, "minute": expr.LimitTimeMinute, "hour": expr.LimitTimeHour, "day": expr.LimitTimeDay,
}

// overPerSource matches what exceeds a limit that a dynamic set keeps for every source address.
func overPerSource(f int, name string, l *rules.Limit) term {
	text := fmt.Sprintf("update @%s { %s limit rate over %d/%s burst %d packets }", name, source.text(f), l.Rate, l.Unit, l.Burst)
	return term{text, append(familyIs(f), source.load(f, register), &expr.Dynset{
		SrcRegKey: register, SetName: name, Operation: unix.NFT_DYNSET_OP_UPDATE,
		Exprs: []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: l.Rate, Unit: units[l.Unit], Burst: l.Burst, Over: true}},
	})}
}

func logged(prefix string) term {
	return term{fmt.Sprintf("log prefix %q", prefix), []expr.Any{&expr.Log{Key: 1 << unix.NFTA_LOG_PREFIX, Data: []byte(prefix)}}}
}

func rejectTCP() term {
	return term{"reject with tcp reset", []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}}
}

func rejectOthers() term {
	return term{"reject with icmpx admin-prohibited", []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}}
}

func offload() term {
	return term{"flow add @" + flowtable, []expr.Any{&expr.FlowOffload{Name: flowtable}}}
}

// part is one part of the key of a folded rule: what is loaded, and how nft calls it.
type part struct {
	text  string
	words int // registers of 4 bytes
	load  func(into uint32) expr.Any
}

func addressPart(s side, f int) part {
	return part{s.text(f), addressWords(f), func(into uint32) expr.Any { return s.load(f, into) }}
}

func addressWords(f int) int {
	if f == 4 {
		return 1
	}
	return 4
}

func protoPart() part {
	return part{"meta l4proto", 1, func(into uint32) expr.Any { return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: into} }}
}

func portPart() part {
	return part{"th dport", 1, func(into uint32) expr.Any {
		return &expr.Payload{DestRegister: into, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
	}}
}

func sourcePortPart() part {
	return part{"th sport", 1, func(into uint32) expr.Any {
		return &expr.Payload{DestRegister: into, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2}
	}}
}

// joined loads the parts one behind the other.
func joined(f int, parts []part) (text string, exprs []expr.Any) {
	if f != 0 {
		exprs = familyIs(f)
	}
	words := 0
	for i, p := range parts {
		if i > 0 {
			text += " . "
		}
		text += p.text
		exprs = append(exprs, p.load(registerAt(words)))
		words += p.words
	}
	return text, exprs
}

// partsIn matches a concatenation of parts against a set.
func partsIn(f int, parts []part, name string) term {
	text, exprs := joined(f, parts)
	return term{text + " @" + name, append(exprs, lookup(name))}
}

// natFlags are the ways of choosing addresses and ports.
type natFlags struct{ random, persistent bool }

func (n natFlags) text() string {
	switch {
	case n.random && n.persistent:
		return " fully-random,persistent"
	case n.random:
		return " fully-random"
	case n.persistent:
		return " persistent"
	}
	return ""
}

// natTo translates to an address, a pool, and a port where it is not 0.
func natTo(kind expr.NATType, to rules.Range, toPort uint16, flags natFlags) term {
	f := familyOf(to.First)
	nat := &expr.NAT{Type: kind, Family: nfFamily(f), RegAddrMin: register, FullyRandom: flags.random, Persistent: flags.persistent}
	exprs := []expr.Any{&expr.Immediate{Register: register, Data: to.First.AsSlice()}}
	text := to.First.String()
	next := addressWords(f)
	if !to.IsSingle() {
		nat.RegAddrMax = registerAt(4)
		exprs = append(exprs, &expr.Immediate{Register: nat.RegAddrMax, Data: to.Last.AsSlice()})
		text += "-" + to.Last.String()
		next = 8
	}
	if toPort != 0 {
		nat.RegProtoMin = registerAt(max(next, 4))
		exprs = append(exprs, &expr.Immediate{Register: nat.RegProtoMin, Data: binary.BigEndian.AppendUint16(nil, toPort)})
		if f == 6 {
			text = "[" + text + "]"
		}
		text += fmt.Sprintf(":%d", toPort)
	}
	return term{natWord(kind, f) + " to " + text + flags.text(), append(exprs, nat)}
}

// natMap translates to what a map gives for the parts: an address, or an address and a port.
func natMap(kind expr.NATType, f int, parts []part, name string, withPort bool, flags natFlags) term {
	text, exprs := joined(f, parts)
	nat := &expr.NAT{Type: kind, Family: nfFamily(f), RegAddrMin: register, FullyRandom: flags.random, Persistent: flags.persistent}
	if withPort {
		nat.RegProtoMin = registerAt(addressWords(f))
	}
	exprs = append(exprs, &expr.Lookup{SourceRegister: register, DestRegister: register, IsDestRegSet: true, SetName: name}, nat)
	return term{fmt.Sprintf("%s to %s map @%s%s", natWord(kind, f), text, name, flags.text()), exprs}
}

func natWord(kind expr.NATType, f int) string {
	word := "snat"
	if kind == expr.NATTypeDestNAT {
		word = "dnat"
	}
	if f == 4 {
		return word + " ip"
	}
	return word + " ip6"
}

func nfFamily(f int) uint32 {
	if f == 4 {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

func masquerade(random bool) term {
	if random {
		return term{"masquerade fully-random", []expr.Any{&expr.Masq{FullyRandom: true}}}
	}
	return term{"masquerade", []expr.Any{&expr.Masq{}}}
}
