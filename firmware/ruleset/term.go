package ruleset

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// term is one part of a rule: a match or a verdict, as text and as kernel expressions.
type term struct {
	text  string
	exprs []expr.Any
}

// The one register every term uses: no value lives longer than its term.
const register = 1

func accept() term { return verdict("accept", expr.VerdictAccept) }
func drop() term   { return verdict("drop", expr.VerdictDrop) }

func verdict(text string, kind expr.VerdictKind) term {
	return term{text: text, exprs: []expr.Any{&expr.Verdict{Kind: kind}}}
}

// established matches packets of connections that conntrack knows, and errors about them.
func established() term {
	return term{text: "ct state established,related", exprs: []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: register},
		&expr.Bitwise{
			SourceRegister: register, DestRegister: register, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED),
			Xor:  binaryutil.NativeEndian.PutUint32(0),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: binaryutil.NativeEndian.PutUint32(0)},
	}}
}

// protocol matches the protocol above IP, behind all extension headers of IPv6.
func protocol(name string, number byte) term {
	return term{text: "meta l4proto " + name, exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{number}},
	}}
}

func from(device string) term {
	return term{text: fmt.Sprintf("iifname %q", device), exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: deviceKey(device)},
	}}
}

func fromSet(name string) term { return deviceIn("iifname", expr.MetaKeyIIFNAME, name) }
func toSet(name string) term   { return deviceIn("oifname", expr.MetaKeyOIFNAME, name) }

func deviceIn(word string, key expr.MetaKey, name string) term {
	return term{text: word + " @" + name, exprs: []expr.Any{
		&expr.Meta{Key: key, Register: register}, lookup(name),
	}}
}

// Offsets of addresses in the IPv4 (RFC 791, section 3.1) and IPv6 header (RFC 8200, section 3).
func saddr4(name string) term { return addressIn("ip saddr", unix.NFPROTO_IPV4, 12, 4, name) }
func daddr4(name string) term { return addressIn("ip daddr", unix.NFPROTO_IPV4, 16, 4, name) }
func daddr6(name string) term { return addressIn("ip6 daddr", unix.NFPROTO_IPV6, 24, 16, name) }

func addressIn(words string, family byte, offset, length uint32, name string) term {
	return term{text: words + " @" + name, exprs: append(familyIs(family),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		lookup(name),
	)}
}

// ipv4 matches IPv4, for rules that would otherwise take IPv6 along.
func ipv4() term { return term{text: "meta nfproto ipv4", exprs: familyIs(unix.NFPROTO_IPV4)} }

func familyIs(family byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{family}},
	}
}

func lookup(name string) expr.Any { return &expr.Lookup{SourceRegister: register, SetName: name} }

func snat(to netip.Addr, random bool) term {
	return term{text: flagged("snat ip to "+to.String(), random), exprs: []expr.Any{
		&expr.Immediate{Register: register, Data: to.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: register, FullyRandom: random},
	}}
}

func masquerade(random bool) term {
	return term{text: flagged("masquerade", random), exprs: []expr.Any{&expr.Masq{FullyRandom: random}}}
}

func flagged(text string, random bool) string {
	if random {
		return text + " fully-random"
	}
	return text
}

// deviceKey is a name as the kernel compares it: IFNAMSIZ bytes, NUL behind the name.
func deviceKey(name string) []byte {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, name)
	return key
}
