package statesync

import (
	"encoding/binary"
	"net/netip"
)

// Op is what a change does to the receiver's table.
type Op uint8

// Operations. The numbers are those of the wire.
const (
	OpSet          Op = 1 // the entry is as told, whatever was there
	OpAdd          Op = 2 // only when there is none
	OpDelete       Op = 3
	OpExpect       Op = 4 // an expectation
	OpExpectDelete Op = 5
)

// Change is one entry of a delta or a repair. Exactly one of Flow and Expect is in use, by Op.
type Change struct {
	Op     Op
	Flow   Flow
	Expect *Expect
}

// maxTimeout bounds what a peer may ask for: a month.
const maxTimeout = 31 * 24 * 3600

// hasReply is a wire-only field bit: the reply tuple is not the plain inverse.
const hasReply = 1 << 15

// Wire layout of a change, big-endian:
//
//	op u8, family u8 (2, 10)
//	flow:   has u16, zone direction u8 + zone u16 (HasZone), tuple, reply tuple (bit 15 of has)
//	        OpDelete ends here; else status u16, and in this order if in has:
//	        timeout u32, TCP state+scales+flags 5×u8, SCTP state u8 + tags 2×u32, mark u32, labels 16,
//	        sequence adjustment 2×(3×u32), helper (u8 length + bytes), master tuple
//	expect: zone u16, master, tuple, mask; OpExpectDelete ends here; else timeout u32, flags u32, class u32,
//	        helper, function (u8 length + bytes), NAT u8 (0, 1), and with NAT: direction u8, tuple
//	tuple:  protocol u8, source, destination (4 or 16 bytes each), ports 2×u16

// appendTuple appends a tuple.
func appendTuple(b []byte, family uint8, t *Tuple) []byte {
	n := addrLen(family)
	b = append(b, t.Proto)
	b = append(b, t.Src[:n]...)
	b = append(b, t.Dst[:n]...)
	b = binary.BigEndian.AppendUint16(b, t.SrcPort)
	return binary.BigEndian.AppendUint16(b, t.DstPort)
}

func addrLen(family uint8) int {
	if family == Inet {
		return 4
	}
	return 16
}

// AppendFlow appends a change of a flow.
func AppendFlow(b []byte, op Op, f *Flow) []byte {
	has := f.Has & allFields
	reply := f.Reply != f.Orig.Inverse()
	if reply {
		has |= hasReply
	}
	b = append(b, byte(op), f.Family, byte(has>>8), byte(has))
	if has&HasZone != 0 {
		b = append(b, byte(f.ZoneDir), byte(f.Zone>>8), byte(f.Zone))
	}
	b = appendTuple(b, f.Family, &f.Orig)
	if reply {
		b = appendTuple(b, f.Family, &f.Reply)
	}
	if op == OpDelete {
		return b
	}
	b = binary.BigEndian.AppendUint16(b, uint16(f.Status&carriedStatus))
	if has&HasTimeout != 0 {
		b = binary.BigEndian.AppendUint32(b, min(f.Timeout, maxTimeout))
	}
	if has&HasTCP != 0 {
		t := &f.TCP
		b = append(b, t.State, t.Scale[0], t.Scale[1], t.Flags[0]&carriedTCPFlags, t.Flags[1]&carriedTCPFlags)
	}
	if has&HasSCTP != 0 {
		b = append(b, f.SCTP.State)
		b = binary.BigEndian.AppendUint32(b, f.SCTP.VTag[0])
		b = binary.BigEndian.AppendUint32(b, f.SCTP.VTag[1])
	}
	if has&HasMark != 0 {
		b = binary.BigEndian.AppendUint32(b, f.Mark)
	}
	if has&HasLabels != 0 {
		b = append(b, f.Labels[:]...)
	}
	if has&HasSeqAdj != 0 {
		for i := range f.SeqAdj {
			b = binary.BigEndian.AppendUint32(b, f.SeqAdj[i].Pos)
			b = binary.BigEndian.AppendUint32(b, f.SeqAdj[i].Before)
			b = binary.BigEndian.AppendUint32(b, f.SeqAdj[i].After)
		}
	}
	if has&HasHelper != 0 {
		b = append(b, byte(len(f.Helper)))
		b = append(b, f.Helper...)
	}
	if has&HasMaster != 0 {
		b = appendTuple(b, f.Family, &f.Master)
	}
	return b
}

// AppendExpect appends a change of an expectation.
func AppendExpect(b []byte, op Op, e *Expect) []byte {
	b = append(b, byte(op), e.Family, byte(e.Zone>>8), byte(e.Zone))
	b = appendTuple(b, e.Family, &e.Master)
	b = appendTuple(b, e.Family, &e.Tuple)
	b = appendTuple(b, e.Family, &e.Mask)
	if op == OpExpectDelete {
		return b
	}
	b = binary.BigEndian.AppendUint32(b, min(e.Timeout, maxTimeout))
	b = binary.BigEndian.AppendUint32(b, e.Flags)
	b = binary.BigEndian.AppendUint32(b, e.Class)
	for _, s := range []string{e.Helper, e.Fn} {
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	if !e.NAT {
		return append(b, 0)
	}
	b = append(b, 1, byte(e.NATDir))
	return appendTuple(b, e.Family, &e.NATTuple)
}

// cursor reads a buffer; once it has failed it only gives zeros.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if len(c.b) < n {
		c.bad, c.b = true, nil
		return zeros[:n]
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

var zeros [256]byte

func (c *cursor) u8() uint8   { return c.take(1)[0] }
func (c *cursor) u16() uint16 { return binary.BigEndian.Uint16(c.take(2)) }
func (c *cursor) u32() uint32 { return binary.BigEndian.Uint32(c.take(4)) }
func (c *cursor) u64() uint64 { return binary.BigEndian.Uint64(c.take(8)) }

func (c *cursor) tuple(family uint8, t *Tuple) {
	n := addrLen(family)
	t.Proto = c.u8()
	copy(t.Src[:], c.take(n))
	copy(t.Dst[:], c.take(n))
	t.SrcPort, t.DstPort = c.u16(), c.u16()
}

// ParseChange reads one change into out and gives what is behind it. Whatever passes is something the kernel could
// have said itself. Out is not to be used when there is an error.
func ParseChange(b []byte, out *Change) (rest []byte, err error) {
	c := cursor{b: b}
	*out = Change{Op: Op(c.u8())}
	family := c.u8()
	if family != Inet && family != Inet6 {
		return nil, because(BadRecord, "family %d", family)
	}
	switch out.Op {
	case OpSet, OpAdd, OpDelete:
		out.Flow.Family = family
		err = c.flow(out.Op, &out.Flow)
	case OpExpect, OpExpectDelete:
		out.Expect = &Expect{Family: family}
		err = c.expect(out.Op, out.Expect)
	default:
		err = because(BadRecord, "operation %d", out.Op)
	}
	if c.bad {
		return nil, because(Truncated, "a change of %d bytes", len(b))
	}
	return c.b, err
}

func (c *cursor) flow(op Op, f *Flow) error {
	has := Field(c.u16())
	if has&^(allFields|hasReply) != 0 {
		return because(BadRecord, "fields %#x", has)
	}
	f.Has = has & allFields
	if has&HasZone != 0 {
		f.ZoneDir, f.Zone = ZoneDirection(c.u8()), c.u16()
		if f.ZoneDir > ZoneReply {
			return because(BadValue, "zone direction %d", f.ZoneDir)
		}
	}
	c.tuple(f.Family, &f.Orig)
	f.Reply = f.Orig.Inverse()
	if has&hasReply != 0 {
		c.tuple(f.Family, &f.Reply)
	}
	if err := checkTuples(f.Family, &f.Orig, &f.Reply); err != nil || op == OpDelete || c.bad {
		return err
	}
	f.Status = uint32(c.u16())
	if f.Status&^carriedStatus != 0 {
		return because(BadValue, "status %#x", f.Status)
	}
	if has&HasTimeout != 0 {
		if f.Timeout = c.u32(); f.Timeout > maxTimeout {
			return because(BadValue, "timeout %d s", f.Timeout)
		}
	}
	if err := c.protocol(f); err != nil {
		return err
	}
	if has&HasMark != 0 {
		f.Mark = c.u32()
	}
	if has&HasLabels != 0 {
		copy(f.Labels[:], c.take(len(f.Labels)))
	}
	if has&HasSeqAdj != 0 {
		for i := range f.SeqAdj {
			f.SeqAdj[i] = SeqAdj{c.u32(), c.u32(), c.u32()}
		}
	}
	if has&HasHelper != 0 {
		if f.Helper = string(c.take(int(c.u8()))); !knownHelper(f.Helper) {
			return because(BadHelper, "helper %q", f.Helper)
		}
	}
	if has&HasMaster != 0 {
		c.tuple(f.Family, &f.Master)
		return checkAddresses(f.Family, &f.Master)
	}
	return nil
}

// protocol reads what only some protocols have.
func (c *cursor) protocol(f *Flow) error {
	if f.Has&HasTCP != 0 {
		t := &f.TCP
		t.State = c.u8()
		t.Scale = [2]uint8{c.u8(), c.u8()}
		t.Flags = [2]uint8{c.u8(), c.u8()}
		if f.Orig.Proto != TCP {
			return because(BadRecord, "TCP state of protocol %d", f.Orig.Proto)
		}
		if t.State > maxTCPState || max(t.Scale[0], t.Scale[1]) > 14 || (t.Flags[0]|t.Flags[1])&^carriedTCPFlags != 0 {
			return because(BadValue, "TCP state %d, scales %d, flags %#x", t.State, t.Scale, t.Flags)
		}
	}
	if f.Has&HasSCTP != 0 {
		f.SCTP = SCTPInfo{c.u8(), [2]uint32{c.u32(), c.u32()}}
		if f.Orig.Proto != SCTP {
			return because(BadRecord, "SCTP state of protocol %d", f.Orig.Proto)
		}
		if f.SCTP.State > 9 {
			return because(BadValue, "SCTP state %d", f.SCTP.State)
		}
	}
	return nil
}

func (c *cursor) expect(op Op, e *Expect) error {
	e.Zone = c.u16()
	c.tuple(e.Family, &e.Master)
	c.tuple(e.Family, &e.Tuple)
	c.tuple(e.Family, &e.Mask)
	if err := checkAddresses(e.Family, &e.Master); err != nil || op == OpExpectDelete || c.bad {
		return err
	}
	if e.Tuple.Proto == 0 {
		return because(BadValue, "expected protocol 0")
	}
	e.Timeout, e.Flags, e.Class = c.u32(), c.u32(), c.u32()
	if e.Timeout > maxTimeout || e.Flags > 7 || e.Class > 8 {
		return because(BadValue, "expectation with timeout %d s, flags %#x, class %d", e.Timeout, e.Flags, e.Class)
	}
	e.Helper = string(c.take(int(c.u8())))
	e.Fn = string(c.take(int(c.u8())))
	if !c.bad && (e.Helper != "" && !knownHelper(e.Helper) || !knownFunction(e.Fn)) {
		return because(BadHelper, "helper %q, function %q", e.Helper, e.Fn)
	}
	switch c.u8() {
	case 0:
	case 1:
		e.NAT, e.NATDir = true, uint32(c.u8())
		c.tuple(e.Family, &e.NATTuple)
		if e.NATDir > 1 {
			return because(BadValue, "NAT direction %d", e.NATDir)
		}
	default:
		return because(BadRecord, "NAT of an expectation is neither 0 nor 1")
	}
	return nil
}

func checkTuples(family uint8, orig, reply *Tuple) error {
	if orig.Proto == 0 || orig.Proto != reply.Proto {
		return because(BadValue, "protocols %d and %d", orig.Proto, reply.Proto)
	}
	if err := checkAddresses(family, orig); err != nil {
		return err
	}
	return checkAddresses(family, reply)
}

// checkAddresses refuses a tuple that is never carried.
func checkAddresses(family uint8, t *Tuple) error {
	if t.Proto == ICMP && family != Inet || t.Proto == ICMPv6 && family != Inet6 {
		return because(BadValue, "protocol %d in family %d", t.Proto, family)
	}
	for _, a := range []*Addr{&t.Src, &t.Dst} {
		if neverCarried(family, a) {
			return because(BadAddress, "%v", a.Netip(family))
		}
	}
	return nil
}

// neverCarried reports whether an address means something on one machine or link only.
func neverCarried(family uint8, a *Addr) bool {
	if family == Inet {
		return a[0] == 0 || a[0] == 127 || a[0] >= 224
	}
	return a[0] == 0xff || a[0] == 0xfe && a[1]&0xc0 == 0x80 || [15]byte(a[:15]) == [15]byte{} && a[15] <= 1
}

// Local is the set of addresses whose connections concern one member only.
type Local map[Addr]struct{}

// Add adds an address.
func (l Local) Add(n netip.Addr) {
	a, _ := AddrOf(n)
	l[a] = struct{}{}
}

// Has reports whether one end of a tuple is local.
func (l Local) Has(t *Tuple) bool {
	if _, yes := l[t.Src]; yes {
		return true
	}
	_, yes := l[t.Dst]
	return yes
}

// Carries reports whether an entry concerns the cluster: no end of it is on one member or one link only.
func (l Local) Carries(f *Flow) bool {
	return checkTuples(f.Family, &f.Orig, &f.Reply) == nil && !l.Has(&f.Orig) && !l.Has(&f.Reply)
}
