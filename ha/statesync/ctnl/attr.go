package ctnl

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Attributes of ctnetlink: linux/netfilter/nfnetlink_conntrack.h.
const (
	ctaTupleOrig   = 1
	ctaTupleReply  = 2
	ctaStatus      = 3
	ctaProtoInfo   = 4
	ctaHelp        = 5
	ctaNATSrc      = 6
	ctaTimeout     = 7
	ctaMark        = 8
	ctaCountOrig   = 9
	ctaCountReply  = 10
	ctaNATDst      = 13
	ctaTupleMaster = 14
	ctaSeqAdjOrig  = 15
	ctaSeqAdjReply = 16
	ctaZone        = 18
	ctaLabels      = 22

	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaTupleZone  = 3

	ctaIPv4Src = 1
	ctaIPv4Dst = 2
	ctaIPv6Src = 3
	ctaIPv6Dst = 4

	ctaProtoNum     = 1
	ctaProtoSrcPort = 2
	ctaProtoDstPort = 3
	ctaICMPID       = 4
	ctaICMPType     = 5
	ctaICMPCode     = 6
	ctaICMPv6ID     = 7
	ctaICMPv6Type   = 8
	ctaICMPv6Code   = 9

	ctaProtoInfoTCP  = 1
	ctaProtoInfoSCTP = 3

	ctaTCPState      = 1
	ctaTCPScaleOrig  = 2
	ctaTCPScaleReply = 3
	ctaTCPFlagsOrig  = 4
	ctaTCPFlagsReply = 5

	ctaSCTPState     = 1
	ctaSCTPTagOrig   = 2
	ctaSCTPTagReply  = 3
	ctaSeqAdjPos     = 1
	ctaSeqAdjBefore  = 2
	ctaSeqAdjAfter   = 3
	ctaHelpName      = 1
	ctaNATv4Min      = 1
	ctaNATv4Max      = 2
	ctaNATProto      = 3
	ctaNATv6Min      = 4
	ctaNATv6Max      = 5
	ctaProtoNATMin   = 1
	ctaProtoNATMax   = 2
	ctaCountPackets  = 1
	ctaCountBytes    = 2
	ctaExpectMaster  = 1
	ctaExpectTuple   = 2
	ctaExpectMask    = 3
	ctaExpectTimeout = 4
	ctaExpectHelper  = 6
	ctaExpectZone    = 7
	ctaExpectFlags   = 8
	ctaExpectClass   = 9
	ctaExpectNAT     = 10
	ctaExpectFn      = 11
	ctaExpectNATDir  = 1
	ctaExpectNATTup  = 2
)

// Message types of nfnetlink: subsystem<<8 | message.
const (
	msgNew       = unix.NFNL_SUBSYS_CTNETLINK << 8
	msgGet       = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1
	msgDelete    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2
	msgExpNew    = unix.NFNL_SUBSYS_CTNETLINK_EXP << 8
	msgExpGet    = unix.NFNL_SUBSYS_CTNETLINK_EXP<<8 | 1
	msgExpDelete = unix.NFNL_SUBSYS_CTNETLINK_EXP<<8 | 2
)

const (
	headerLen  = 16 // struct nlmsghdr
	genLen     = 4  // struct nfgenmsg
	attrHeader = 4  // struct nlattr
	typeMask   = ^uint16(unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
)

// attrs walks over attributes.
type attrs struct {
	b    []byte
	kind uint16
	data []byte
	bad  bool
}

// next moves to the next attribute; false at the end, or when the rest makes no sense.
func (a *attrs) next() bool {
	if len(a.b) < attrHeader {
		return false
	}
	n := int(binary.NativeEndian.Uint16(a.b))
	if n < attrHeader || n > len(a.b) {
		a.bad = true
		return false
	}
	a.kind = binary.NativeEndian.Uint16(a.b[2:]) & typeMask
	a.data = a.b[attrHeader:n]
	a.b = a.b[min((n+3)&^3, len(a.b)):]
	return true
}

// u16 and the like give 0 and mark the walk as bad when the attribute is too short.
func (a *attrs) u8() uint8 {
	if len(a.data) < 1 {
		a.bad = true
		return 0
	}
	return a.data[0]
}

func (a *attrs) u16() uint16 {
	if len(a.data) < 2 {
		a.bad = true
		return 0
	}
	return binary.BigEndian.Uint16(a.data)
}

func (a *attrs) u32() uint32 {
	if len(a.data) < 4 {
		a.bad = true
		return 0
	}
	return binary.BigEndian.Uint32(a.data)
}

func (a *attrs) u64() uint64 {
	if len(a.data) < 8 {
		a.bad = true
		return 0
	}
	return binary.BigEndian.Uint64(a.data)
}

// text reads a string that may end with NUL.
func (a *attrs) text() string {
	d := a.data
	if n := len(d); n > 0 && d[n-1] == 0 {
		d = d[:n-1]
	}
	return intern(d)
}

// builder writes netlink messages one behind another.
type builder struct{ b []byte }

// message begins a message and gives its place.
func (w *builder) message(kind, flags uint16, seq uint32, family uint8) int {
	at := len(w.b)
	w.b = append(w.b, 0, 0, 0, 0)
	w.b = binary.NativeEndian.AppendUint16(w.b, kind)
	w.b = binary.NativeEndian.AppendUint16(w.b, flags|unix.NLM_F_REQUEST)
	w.b = binary.NativeEndian.AppendUint32(w.b, seq)
	w.b = append(w.b, 0, 0, 0, 0)                      // port: the kernel fills it in
	w.b = append(w.b, family, unix.NFNETLINK_V0, 0, 0) // struct nfgenmsg
	return at
}

// end writes the length of the message begun at a place.
func (w *builder) end(at int) { binary.NativeEndian.PutUint32(w.b[at:], uint32(len(w.b)-at)) }

// nest begins a nested attribute and gives its place.
func (w *builder) nest(kind uint16) int {
	at := len(w.b)
	w.b = append(w.b, 0, 0)
	w.b = binary.NativeEndian.AppendUint16(w.b, kind|unix.NLA_F_NESTED)
	return at
}

func (w *builder) close(at int) { binary.NativeEndian.PutUint16(w.b[at:], uint16(len(w.b)-at)) }

func (w *builder) head(kind uint16, n int) {
	w.b = binary.NativeEndian.AppendUint16(w.b, uint16(attrHeader+n))
	w.b = binary.NativeEndian.AppendUint16(w.b, kind)
}

func (w *builder) pad() {
	for len(w.b)%4 != 0 {
		w.b = append(w.b, 0)
	}
}

func (w *builder) u8(kind uint16, v uint8) {
	w.head(kind, 1)
	w.b = append(w.b, v, 0, 0, 0)
}

func (w *builder) u16(kind uint16, v uint16) {
	w.head(kind, 2)
	w.b = append(w.b, byte(v>>8), byte(v), 0, 0)
}

func (w *builder) u32(kind uint16, v uint32) {
	w.head(kind, 4)
	w.b = binary.BigEndian.AppendUint32(w.b, v)
}

func (w *builder) bytes(kind uint16, v []byte) {
	w.head(kind, len(v))
	w.b = append(w.b, v...)
	w.pad()
}

func (w *builder) text(kind uint16, v string) {
	w.head(kind, len(v)+1)
	w.b = append(w.b, v...)
	w.b = append(w.b, 0)
	w.pad()
}
