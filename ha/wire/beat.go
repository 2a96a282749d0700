package wire

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Offsets inside the payload that the kernel's gate matches (ha/gate), and sizes.
const (
	Magic        = 0x544B
	Version      = 1
	OffsetMagic  = 0
	OffsetIDs    = 4 // cluster ID, member ID
	OffsetOrder  = 73
	headLen      = 78
	heardLen     = 18
	TagLen       = 16
	MaxHeard     = MaxID - 1
	MaxExtension = 512
	// MaxPayload is the longest payload this version accepts.
	MaxPayload = headLen + MaxHeard*heardLen + MaxExtension + TagLen
	minPayload = headLen + TagLen
)

// IDs of those who take part: members are 1..MaxMembers, witnesses follow up to MaxID.
const (
	MaxMembers = 8
	MaxID      = 11
)

// FinalSeq is the sequence of a farewell: after it nothing of the same boot is accepted.
const FinalSeq = ^uint64(0)

// MaxTerm is the highest term; a cluster that changed its holder every millisecond would reach it in 292 million
// years, so a higher one is an error, and adding one to a term cannot overflow.
const MaxTerm = 1<<63 - 1

// Ineligible is the demotion of a member that must not become active whatever happens.
const Ineligible = ^uint16(0)

// Flags of a heartbeat.
type Flags uint8

const (
	Holder   Flags = 1 << iota // the sender's gate may be open
	SyncIf                     // left by the sync interface
	InSync                     // the sender's state equals the active member's
	Farewell                   // the sender is gone when this arrives
	Yielding                   // the sender does not want the role now
	Claiming                   // the sender asks the active member to hand over
	Bidding                    // the sender is about to take the vacant role, once all it hears have heard this
	Ceded                      // the sender held the role beside another or in its sleep until just now: whoever holds it announces again
)

// State of a member as it travels in heartbeats. The numbers are part of the wire format.
type State uint8

const (
	Init State = iota + 1
	Ready
	Standby
	Active
	ActiveAttention
	Down
	Lost    // never sent: what a member says of a silent peer
	Witness // only judges (IDs above MaxMembers)
)

var stateNames = [...]string{Init: "INIT", Ready: "READY", Standby: "STANDBY", Active: "ACTIVE", ActiveAttention: "ACTIVE!", Down: "DOWN", Lost: "LOST", Witness: "WITNESS"}

// sent reports whether the state can travel.
func (s State) sent() bool { return s >= Init && s <= Down || s == Witness }

// String returns the state as operators know it.
func (s State) String() string {
	if int(s) < len(stateNames) && stateNames[s] != "" {
		return stateNames[s]
	}
	return fmt.Sprintf("STATE(%d)", uint8(s))
}

// Heard says how far the sender has heard one peer, on any interface. A boot of it that has not proved itself yet may come as a second
// entry. It proves to that peer that the sender is alive now (no recording can echo a fresh nonce
// and sequence), and shows one-way loss.
type Heard struct {
	Member uint8
	Nonce  uint64
	Seq    uint64
}

// Order is what a heartbeat tells the gate of its own sender, in passing; see ha/gate.
type Order uint8

const (
	NoOrder Order = iota
	Keep          // renew a lease that has not run out
	Open          // start a lease
	Shut          // end the lease now
	Drain         // end the lease, but let frames in a little longer
)

// Beat is one heartbeat. See the package documentation for the layout.
type Beat struct {
	Version        uint8
	Flags          Flags
	Cluster        uint8
	Member         uint8
	State          State
	Interface      uint8
	Nonce          uint64
	Seq            uint64
	Term           uint64
	Demotion       uint16
	Priority       uint8
	NN             uint8
	Connections    uint32
	Serial         uint64
	StateDigest    uint64
	PolicyRevision uint64
	PolicyDigest   uint64
	Order          Order
	Successor      uint8
	// Vote is the member whose claim to the role the sender supports, itself included; 0: nobody's.
	Vote  uint8
	Heard []Heard
	// Extension is the area of fields this version does not know, as received.
	Extension []byte
}

// Has reports whether all of f are set.
func (b *Beat) Has(f Flags) bool { return b.Flags&f == f }

// Append appends the payload without its tag to dst. At most MaxHeard peers and MaxExtension bytes are
// written; the caller has no more of either.
func (b *Beat) Append(dst []byte) []byte {
	heard := b.Heard[:min(len(b.Heard), MaxHeard)]
	ext := b.Extension[:min(len(b.Extension), MaxExtension)]
	be := binary.BigEndian
	dst = be.AppendUint16(dst, Magic)
	dst = append(dst, b.Version, byte(b.Flags), b.Cluster, b.Member, byte(b.State), b.Interface)
	dst = be.AppendUint64(dst, b.Nonce)
	dst = be.AppendUint64(dst, b.Seq)
	dst = be.AppendUint64(dst, b.Term)
	dst = be.AppendUint16(dst, b.Demotion)
	dst = append(dst, b.Priority, b.NN)
	dst = be.AppendUint32(dst, b.Connections)
	dst = be.AppendUint64(dst, b.Serial)
	dst = be.AppendUint64(dst, b.StateDigest)
	dst = be.AppendUint64(dst, b.PolicyRevision)
	dst = be.AppendUint64(dst, b.PolicyDigest)
	dst = append(dst, byte(len(heard)), byte(b.Order), b.Successor, b.Vote)
	dst = be.AppendUint16(dst, uint16(len(ext)))
	for _, h := range heard {
		dst = append(dst, h.Member, 0)
		dst = be.AppendUint64(dst, h.Nonce)
		dst = be.AppendUint64(dst, h.Seq)
	}
	return append(dst, ext...)
}

// ParseBeat reads a payload whose tag has been checked and cut off (see [Key.Open]). The result does not
// alias p. Errors are [Reason] values.
func ParseBeat(p []byte) (Beat, error) {
	var b Beat
	if err := b.Parse(p); err != nil {
		return Beat{}, err
	}
	return b, nil
}

// Parse is [ParseBeat] into b, whose Heard's memory is used again. After an error b says nothing.
func (b *Beat) Parse(p []byte) error {
	if len(p) < headLen {
		return Truncated
	}
	be := binary.BigEndian
	if be.Uint16(p) != Magic {
		return NotHeartbeat
	}
	*b = Beat{
		Version: p[2], Flags: Flags(p[3]), Cluster: p[4], Member: p[5], State: State(p[6]), Interface: p[7],
		Nonce: be.Uint64(p[8:]), Seq: be.Uint64(p[16:]), Term: be.Uint64(p[24:]),
		Demotion: be.Uint16(p[32:]), Priority: p[34], NN: p[35], Connections: be.Uint32(p[36:]),
		Serial: be.Uint64(p[40:]), StateDigest: be.Uint64(p[48:]),
		PolicyRevision: be.Uint64(p[56:]), PolicyDigest: be.Uint64(p[64:]), Order: Order(p[OffsetOrder]), Successor: p[74], Vote: p[75], Heard: b.Heard[:0],
	}
	n, x := int(p[72]), int(be.Uint16(p[76:]))
	if b.Version == 0 || b.Cluster == 0 || b.Member == 0 || b.Member > MaxID || !b.State.sent() || b.Order > Drain || b.Successor > MaxMembers || b.Vote > MaxMembers || b.Term > MaxTerm || n > MaxHeard {
		return Malformed
	}
	switch want := headLen + n*heardLen + x; {
	case len(p) < want:
		return Truncated
	case len(p) > want || x > MaxExtension:
		return Oversized
	}
	rest := p[headLen:]
	b.Heard = slices.Grow(b.Heard, n)
	for range n {
		b.Heard = append(b.Heard, Heard{Member: rest[0], Nonce: be.Uint64(rest[2:]), Seq: be.Uint64(rest[10:])})
		rest = rest[heardLen:]
	}
	if x > 0 {
		b.Extension = append([]byte(nil), rest...)
	}
	return nil
}
