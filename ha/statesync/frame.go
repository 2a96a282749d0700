package statesync

import (
	"encoding/binary"
	"net/netip"
)

// Version of the protocol. Members of one version understand each other; fields may be added behind the hello's.
const Version = 1

// Frame limits. A frame that says it is longer is not read.
const (
	FrameHeader = 5         // u32 length of what follows the length, u8 type
	MaxFrame    = 128 << 10 // length and type included
	fullFrame   = 48 << 10  // a frame is sent when it has grown to this
	// MaxAddresses is how many private addresses a member can name.
	MaxAddresses = 128
	maxText      = 200
)

// Type of a frame.
type Type uint8

// Types. The layout behind the header, big-endian:
const (
	TypeHello       Type = 1  // magic u32, version u16, cluster u8, member u8, boot nonce u64, buckets u16, count u8 × (family u8, address)
	TypeDelta       Type = 2  // sequence u64, sender's time i64 (ns), term u64, holder u8, count u16, changes
	TypeRepair      Type = 3  // count u16, changes: part of a repair
	TypeDigest      Type = 4  // term u64, holder u8, entries u32, digest 1024×u64
	TypeNeed        Type = 5  // buckets 1024 bits: send me these
	TypeRepairBegin Type = 6  // buckets
	TypeRepairEnd   Type = 7  // buckets: what you have in them besides is not mine
	TypeGone        Type = 8  // count u16 × key u64: these ended unnoticed
	TypeBarrier     Type = 9  // number u64
	TypeBarrierAck  Type = 10 // number u64: everything before the barrier is in my kernel
	TypeAck         Type = 11 // sequence u64, sender's time i64, of the newest delta applied
	TypeState       Type = 12 // in sync u8, table full u8, entries u32, text u8+bytes
	TypeDiffAsk     Type = 13 // digest 1024×u64: send me the entries of buckets that differ
	TypeDiffPart    Type = 14 // count u16, changes
	TypeDiffEnd     Type = 15 // buckets that differ
)

const magic = 0x544b5359 // "TKSY"

// Hello is the first frame in each direction.
type Hello struct {
	Version         uint16
	Cluster, Member uint8
	Nonce           uint64       // of this boot
	Addresses       []netip.Addr // private addresses of the member: their connections are not replicated
}

// begin begins a frame.
func begin(b []byte, t Type) []byte { return append(b, 0, 0, 0, 0, byte(t)) }

// finish writes the length of the only frame in b.
func finish(b []byte) []byte {
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// Append appends the hello as a frame to an empty buffer.
func (h *Hello) Append(b []byte) []byte {
	b = begin(b, TypeHello)
	b = binary.BigEndian.AppendUint32(b, magic)
	b = binary.BigEndian.AppendUint16(b, h.Version)
	b = append(b, h.Cluster, h.Member)
	b = binary.BigEndian.AppendUint64(b, h.Nonce)
	b = binary.BigEndian.AppendUint16(b, Buckets)
	n := min(len(h.Addresses), MaxAddresses)
	b = append(b, byte(n))
	for _, a := range h.Addresses[:n] {
		v, family := AddrOf(a)
		b = append(b, family)
		b = append(b, v[:addrLen(family)]...)
	}
	return finish(b)
}

// ParseHello reads the payload of a hello. A version that is not ours is an error, whatever follows it.
func ParseHello(payload []byte) (h Hello, err error) {
	c := cursor{b: payload}
	m := c.u32()
	h.Version = c.u16()
	if c.bad || m != magic {
		return h, because(BadHello, "not the hello of a member")
	}
	if h.Version != Version {
		return h, because(BadVersion, "version %d, this member has %d", h.Version, Version)
	}
	h.Cluster, h.Member, h.Nonce = c.u8(), c.u8(), c.u64()
	if n := c.u16(); n != Buckets && !c.bad {
		return h, because(BadHello, "%d buckets", n)
	}
	n := int(c.u8())
	if n > MaxAddresses {
		return h, because(BadHello, "%d addresses", n)
	}
	for range n {
		family := c.u8()
		if family != Inet && family != Inet6 {
			return h, because(BadHello, "address family %d", family)
		}
		var a Addr
		copy(a[:], c.take(addrLen(family)))
		h.Addresses = append(h.Addresses, a.Netip(family))
	}
	if c.bad {
		return h, because(Truncated, "a hello of %d bytes", len(payload))
	}
	return h, nil
}

// ParseHeader reads the header of a frame: its type and how many bytes of payload follow.
func ParseHeader(b [FrameHeader]byte) (t Type, n int, err error) {
	size := binary.BigEndian.Uint32(b[:])
	if size < 1 || size > MaxFrame-4 {
		return 0, 0, because(TooLong, "a frame of %d bytes", size)
	}
	t = Type(b[4])
	if t < TypeHello || t > TypeDiffEnd {
		return 0, 0, because(BadFrame, "type %d", t)
	}
	return t, int(size) - 1, nil
}

// bundle collects changes into one frame.
type bundle struct {
	b     []byte
	count int
	at    int // of the count
}

// full reports whether the frame should be sent before anything is added.
func (w *bundle) full() bool { return len(w.b) >= fullFrame || w.count == 1<<16-1 }

func (w *bundle) done() []byte {
	binary.BigEndian.PutUint16(w.b[w.at:], uint16(w.count))
	out := finish(w.b)
	*w = bundle{}
	return out
}

// deltaHeader is what a delta begins with.
type deltaHeader struct {
	seq    uint64
	time   int64
	term   uint64
	holder bool
}

func (w *bundle) delta(h deltaHeader) {
	w.b = begin(make([]byte, 0, 4096), TypeDelta)
	w.b = binary.BigEndian.AppendUint64(w.b, h.seq)
	w.b = binary.BigEndian.AppendUint64(w.b, uint64(h.time))
	w.b = binary.BigEndian.AppendUint64(w.b, h.term)
	w.b = append(w.b, flag(h.holder))
	w.countHere()
}

func (w *bundle) open(t Type) {
	w.b = begin(make([]byte, 0, 4096), t)
	w.countHere()
}

func (w *bundle) countHere() {
	w.at, w.count = len(w.b), 0
	w.b = append(w.b, 0, 0)
}

func flag(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func (c *cursor) deltaHeader() deltaHeader {
	return deltaHeader{seq: c.u64(), time: int64(c.u64()), term: c.u64(), holder: c.u8() == 1}
}

// changes calls do for each change of a frame. The whole frame is checked before the first call, so that a bad
// one changes nothing.
func (c *cursor) changes(scratch *[]Change) error {
	n := int(c.u16())
	if c.bad || n*20 > len(c.b) { // no change is shorter
		return because(Truncated, "%d changes in %d bytes", n, len(c.b))
	}
	out := (*scratch)[:0]
	rest := c.b
	for range n {
		out = append(out, Change{})
		var err error
		if rest, err = ParseChange(rest, &out[len(out)-1]); err != nil {
			return err
		}
	}
	*scratch = out
	if len(rest) != 0 {
		return because(BadFrame, "%d bytes behind %d changes", len(rest), n)
	}
	return nil
}

func bitsFrame(t Type, bits *Bits) []byte {
	b := begin(make([]byte, 0, FrameHeader+len(bits)*8), t)
	for _, v := range bits {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return finish(b)
}

func (c *cursor) bits() (out Bits) {
	for i := range out {
		out[i] = c.u64()
	}
	return out
}

func digestFrame(term uint64, holder bool, entries int, d *Digest) []byte {
	b := begin(make([]byte, 0, FrameHeader+13+Buckets*8), TypeDigest)
	b = binary.BigEndian.AppendUint64(b, term)
	b = append(b, flag(holder))
	b = binary.BigEndian.AppendUint32(b, uint32(entries))
	return finish(d.append(b))
}

func (d *Digest) append(b []byte) []byte {
	for _, v := range d {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func (c *cursor) digest(d *Digest) {
	for i := range d {
		d[i] = c.u64()
	}
}

func numberFrame(t Type, v ...uint64) []byte {
	b := begin(make([]byte, 0, FrameHeader+8*len(v)), t)
	for _, n := range v {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return finish(b)
}

// PeerState is what a member says of itself.
type PeerState struct {
	InSync, Full bool
	Entries      uint32
	Text         string
}

func (s *PeerState) frame() []byte {
	b := begin(nil, TypeState)
	b = append(b, flag(s.InSync), flag(s.Full))
	b = binary.BigEndian.AppendUint32(b, s.Entries)
	text := s.Text[:min(len(s.Text), maxText)]
	b = append(b, byte(len(text)))
	return finish(append(b, text...))
}

func (c *cursor) state() PeerState {
	return PeerState{InSync: c.u8() == 1, Full: c.u8() == 1, Entries: c.u32(), Text: printable(c.take(int(c.u8())))}
}

// printable keeps what a peer says from doing anything to a terminal.
func printable(b []byte) string {
	out := []byte(string(b))
	for i, c := range out {
		if c < ' ' || c > '~' {
			out[i] = '?'
		}
	}
	return string(out)
}
