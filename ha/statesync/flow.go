package statesync

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/dchest/siphash"
)

// Address families, as Linux numbers them.
const (
	Inet  = 2
	Inet6 = 10
)

// Protocols that have fields of their own (IANA protocol numbers).
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	GRE    = 47
	ICMPv6 = 58
	SCTP   = 132
)

// Addr is an address of either family; IPv4 has the first four bytes and zeros behind.
type Addr [16]byte

// Netip gives the address in the standard library's form.
func (a Addr) Netip(family uint8) netip.Addr {
	if family == Inet {
		return netip.AddrFrom4([4]byte(a[:4]))
	}
	return netip.AddrFrom16(a)
}

// AddrOf is the inverse of [Addr.Netip]. A zone is dropped.
func AddrOf(n netip.Addr) (a Addr, family uint8) {
	n = n.Unmap()
	if n.Is4() {
		v := n.As4()
		copy(a[:], v[:])
		return a, Inet
	}
	return n.As16(), Inet6
}

// Tuple is one direction of a connection. For ICMP and ICMPv6 SrcPort is the identifier and DstPort type<<8|code; for
// GRE both are keys; protocols without ports leave them 0.
type Tuple struct {
	Src, Dst         Addr
	SrcPort, DstPort uint16
	Proto            uint8
}

// icmpAnswer gives the type that answers an ICMP request, and the reverse (nf_conntrack_proto_icmp.c).
var icmpAnswer = map[uint8]uint8{8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17}

// icmp6Answer is the same for ICMPv6: echo and node information.
var icmp6Answer = map[uint8]uint8{128: 129, 129: 128, 139: 140, 140: 139}

// Inverse is the tuple of the answers when nothing is translated.
func (t *Tuple) Inverse() Tuple {
	out := Tuple{Src: t.Dst, Dst: t.Src, SrcPort: t.DstPort, DstPort: t.SrcPort, Proto: t.Proto}
	var answers map[uint8]uint8
	switch t.Proto {
	case ICMP:
		answers = icmpAnswer
	case ICMPv6:
		answers = icmp6Answer
	default:
		return out
	}
	kind := uint8(t.DstPort >> 8)
	if a, ok := answers[kind]; ok {
		kind = a
	}
	out.SrcPort, out.DstPort = t.SrcPort, uint16(kind)<<8|t.DstPort&0xff
	return out
}

// Field is a set of the optional parts of a [Flow].
type Field uint16

// Optional parts of a flow. What an update of the kernel leaves out has not changed.
const (
	HasZone Field = 1 << iota
	HasTimeout
	HasTCP
	HasSCTP
	HasMark
	HasLabels
	HasSeqAdj
	HasHelper
	HasMaster
	allFields = HasMaster<<1 - 1
)

// Status bits that are carried: enum ip_conntrack_status of linux/netfilter/nf_conntrack_common.h. OFFLOAD is not
// among them: it belongs to the flow table of one kernel.
const (
	StatusExpected  = 1 << 0
	StatusSeenReply = 1 << 1
	StatusAssured   = 1 << 2
	StatusConfirmed = 1 << 3
	StatusSrcNAT    = 1 << 4
	StatusDstNAT    = 1 << 5
	StatusNATDone   = 1<<7 | 1<<8
	StatusOffload   = 1<<14 | 1<<15

	carriedStatus = StatusExpected | StatusSeenReply | StatusAssured | StatusConfirmed | StatusSrcNAT | StatusDstNAT | StatusNATDone
)

// TCPInfo is the state of a TCP connection that crosses members. Windows do not: they are out of date before they
// arrive, and members run with nf_conntrack_tcp_be_liberal.
type TCPInfo struct {
	State  uint8    // enum tcp_conntrack, 0..9
	Scale  [2]uint8 // window scale of the original and the reply direction, 0..14
	Flags  [2]uint8 // IP_CT_TCP_FLAG_*, of which carriedTCPFlags are carried
	Unused uint8
}

// carriedTCPFlags are window scale, SACK permitted and close initiated.
const carriedTCPFlags = 1 | 2 | 4

// maxTCPState is TCP_CONNTRACK_SYN_SENT2.
const maxTCPState = 9

// SCTPInfo is the state of an SCTP association.
type SCTPInfo struct {
	State uint8 // enum sctp_conntrack, 0..9
	VTag  [2]uint32
}

// SeqAdj corrects the sequence numbers of one direction after a helper has changed the length of what was sent.
type SeqAdj struct{ Pos, Before, After uint32 }

// ZoneDirection says for which direction a zone counts.
type ZoneDirection uint8

// Directions of a zone.
const (
	ZoneBoth ZoneDirection = iota
	ZoneOriginal
	ZoneReply
)

// Flow is one connection as the kernel tracks it.
type Flow struct {
	Family      uint8 // Inet, Inet6
	ZoneDir     ZoneDirection
	Zone        uint16
	Has         Field
	Orig, Reply Tuple
	Status      uint32 // as the kernel has it; only some bits are carried
	Timeout     uint32 // seconds
	Mark        uint32
	Labels      [16]byte
	TCP         TCPInfo
	SCTP        SCTPInfo
	SeqAdj      [2]SeqAdj
	Helper      string // one of Helpers
	Master      Tuple  // the connection that expected this one
}

// NAT tells whether source and destination are translated.
func (f *Flow) NAT() (src, dst bool) {
	inv := f.Orig.Inverse()
	src = f.Reply.Dst != inv.Dst
	dst = f.Reply.Src != inv.Src
	if f.Orig.Proto == ICMP || f.Orig.Proto == ICMPv6 {
		return src || f.Reply.SrcPort != inv.SrcPort, dst
	}
	return src || f.Reply.DstPort != inv.DstPort, dst || f.Reply.SrcPort != inv.SrcPort
}

// Expect is a connection that a helper expects (nf_conntrack_expect).
type Expect struct {
	Family              uint8
	Zone                uint16
	Master, Tuple, Mask Tuple
	Timeout             uint32 // seconds
	Flags, Class        uint32
	Helper, Fn          string // one of Helpers, one of Functions
	NAT                 bool
	NATDir              uint32 // 0, 1
	NATTuple            Tuple
}

// master is what is known of the connection that expects it: enough to find it.
func (x *Expect) master() *Flow {
	f := &Flow{Family: x.Family, Zone: x.Zone, Orig: x.Master}
	if x.Zone != 0 {
		f.Has = HasZone
	}
	return f
}

// Helpers are the connection helpers that are carried.
var Helpers = []string{"ftp", "sip", "tftp", "irc", "amanda", "pptp", "snmp", "netbios-ns", "sane", "RAS", "Q.931", "H.245"}

// Functions are the names by which kernels call what follows an expectation (nf_ct_helper_expectfn).
var Functions = []string{"nat-follow-master", "sip", "Q.931", "callforwarding"}

// Tuples of one flow that are carried: helpers by port have names like ftp-2121.
func knownHelper(name string) bool {
	for _, h := range Helpers {
		if name == h {
			return true
		}
		if len(name) > len(h)+1 && len(name) < 16 && name[:len(h)] == h && name[len(h)] == '-' && digits(name[len(h)+1:]) {
			return true
		}
	}
	return false
}

func digits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

func knownFunction(name string) bool { return name == "" || slices.Contains(Functions, name) }

// Hasher makes keys of tuples. All members of a cluster hash alike, and nobody outside can choose tuples that
// collide.
type Hasher struct{ k0, k1 uint64 }

// NewHasher takes 16 secret bytes.
func NewHasher(secret [16]byte) Hasher {
	return Hasher{binary.LittleEndian.Uint64(secret[:]), binary.LittleEndian.Uint64(secret[8:])}
}

func appendKey(b []byte, family uint8, t *Tuple) []byte {
	n := 16
	if family == Inet {
		n = 4
	}
	b = append(b, family, t.Proto)
	b = append(b, t.Src[:n]...)
	b = append(b, t.Dst[:n]...)
	b = binary.BigEndian.AppendUint16(b, t.SrcPort)
	return binary.BigEndian.AppendUint16(b, t.DstPort)
}

// Flow is the key of a connection: its original tuple and zone.
func (h Hasher) Flow(f *Flow) uint64 {
	var a [48]byte
	b := appendKey(a[:0], f.Family, &f.Orig)
	if f.Has&HasZone != 0 {
		b = append(b, byte(f.ZoneDir), byte(f.Zone>>8), byte(f.Zone))
	}
	return siphash.Hash(h.k0, h.k1, b)
}

// reply is a short hash of the reply tuple.
func (h Hasher) reply(f *Flow) uint32 {
	var a [48]byte
	return uint32(siphash.Hash(h.k0, h.k1, appendKey(a[:0], f.Family, &f.Reply)))
}

// Expect is the key of an expectation; it differs from that of every connection.
func (h Hasher) Expect(e *Expect) uint64 {
	var a [160]byte
	b := append(a[:0], 'e', byte(e.Zone>>8), byte(e.Zone))
	b = appendKey(b, e.Family, &e.Master)
	b = appendKey(b, e.Family, &e.Tuple)
	b = appendKey(b, e.Family, &e.Mask)
	return siphash.Hash(h.k0, h.k1, b)
}

func (h Hasher) labels(l *[16]byte) uint32 {
	if *l == ([16]byte{}) {
		return 0
	}
	return uint32(siphash.Hash(h.k0, h.k1, l[:]))
}

func (h Hasher) adjust(s *[2]SeqAdj) uint32 {
	if *s == ([2]SeqAdj{}) {
		return 0
	}
	var b [24]byte
	for i := range s {
		binary.BigEndian.PutUint32(b[12*i:], s[i].Pos)
		binary.BigEndian.PutUint32(b[12*i+4:], s[i].Before)
		binary.BigEndian.PutUint32(b[12*i+8:], s[i].After)
	}
	return uint32(siphash.Hash(h.k0, h.k1, b[:]))
}

// mix is the contribution of one entry to its bucket's digest.
func (h Hasher) mix(key uint64, r *record) uint64 {
	x := key ^ h.k0
	x = avalanche(x + uint64(r.reply)<<32 + uint64(r.mark))
	x = avalanche(x ^ (uint64(r.labels^r.adjust)<<32 | uint64(r.status)<<8 | uint64(r.state)))
	return x ^ h.k1
}

// avalanche is the finaliser of splitmix64.
func avalanche(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
