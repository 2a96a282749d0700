package ccp

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// The extension area is a list of elements: type (1 byte), length of what follows (1 byte), data. Types that a reader
// does not know it skips.
const extReport = 1

const (
	reportLen   = 6
	reportHeard = 3
	reportAddr  = 4
	ageUnit     = 10 * time.Millisecond
	ageUnknown  = 0xffff
	MaxReported = 4 // addresses in a [Report]
	flagCarrier = 1 << 0
	flagFrames  = 1 << 1
	flagBeats   = 1 << 2
)

// Unheard is the age of what has never happened, or so long ago that it does not fit (655 s).
const Unheard = time.Duration(-1)

// Report is what a member knows of one of its interfaces; it travels in the extension area of IF_PROBE_REQ and
// IF_PROBE_REPLY:
//
//	off len field
//	  0   1 type 1
//	  1   1 length of what follows
//	  2   1 number of the interface that is reported on
//	  3   1 bit 0 carrier, bit 1 frames of any kind arrive, bit 2 heartbeats are sent there
//	  4   2 age of the newest answer of a neighbour, in 10 ms; 65535 is never
//	  6   1 n, members heard, 0..8
//	  7   1 k, addresses of neighbours, 0..4
//	  8  3n per member: its ID, age of its newest heartbeat on this interface (2) as above
//	     4k IPv4 addresses
type Report struct {
	Interface uint8
	// Carrier: the NIC is there, up and has a link.
	Carrier bool
	// Frames: frames of any kind, from anybody, have arrived a short time ago.
	Frames bool
	// Beats: the sender's node file has heartbeats on this interface.
	Beats bool
	// Answered is the age of the newest answer of a neighbour to a question of the sender (ARP, neighbour
	// discovery): proof that the interface worked in both directions. [Unheard] if there was none.
	Answered time.Duration
	// Heard has the age of each member's newest heartbeat on this interface; one that is missing was never heard.
	Heard []HeardAge
	// Neighbours are IPv4 addresses worth asking: in a request those that the sender knows, in a reply those that
	// answered it. MaxReported at most.
	Neighbours []netip.Addr
}

// HeardAge is how long ago a member was heard.
type HeardAge struct {
	Member uint8
	Age    time.Duration
}

// HeardFrom is the age of a member's newest heartbeat, [Unheard] if none is reported.
func (r *Report) HeardFrom(member uint8) time.Duration {
	for _, h := range r.Heard {
		if h.Member == member {
			return h.Age
		}
	}
	return Unheard
}

// AppendReport appends r to an extension area. What is over a limit is left out.
func AppendReport(dst []byte, r Report) []byte {
	heard := r.Heard[:min(len(r.Heard), MaxMembers)]
	start := len(dst)
	flags := byte(0)
	for i, set := range []bool{r.Carrier, r.Frames, r.Beats} {
		if set {
			flags |= 1 << i
		}
	}
	be := binary.BigEndian
	dst = append(dst, extReport, 0, r.Interface, flags)
	dst = be.AppendUint16(dst, packAge(r.Answered))
	dst = append(dst, byte(len(heard)), 0)
	for _, h := range heard {
		dst = append(dst, h.Member)
		dst = be.AppendUint16(dst, packAge(h.Age))
	}
	n := byte(0)
	for _, a := range r.Neighbours {
		if a = a.Unmap(); a.Is4() && n < MaxReported {
			b := a.As4()
			dst, n = append(dst, b[:]...), n+1
		}
	}
	dst[start+1], dst[start+2+5] = byte(len(dst)-start-2), n
	return dst
}

// ParseReport finds the report in a packet's extension area. It reports false when there is none, or none that this
// version understands.
func ParseReport(ext []byte) (Report, bool) {
	for len(ext) >= 2 {
		kind, n := ext[0], int(ext[1])
		ext = ext[2:]
		if n > len(ext) {
			return Report{}, false
		}
		if kind == extReport {
			return parseReport(ext[:n])
		}
		ext = ext[n:]
	}
	return Report{}, false
}

func parseReport(b []byte) (Report, bool) {
	if len(b) < reportLen {
		return Report{}, false
	}
	be := binary.BigEndian
	n, k := int(b[4]), int(b[5])
	if n > MaxMembers || k > MaxReported || len(b) < reportLen+reportHeard*n+reportAddr*k {
		return Report{}, false
	}
	r := Report{Interface: b[0], Carrier: b[1]&flagCarrier != 0, Frames: b[1]&flagFrames != 0, Beats: b[1]&flagBeats != 0,
		Answered: unpackAge(be.Uint16(b[2:]))}
	b = b[reportLen:]
	for range n {
		r.Heard = append(r.Heard, HeardAge{Member: b[0], Age: unpackAge(be.Uint16(b[1:]))})
		b = b[reportHeard:]
	}
	for range k {
		r.Neighbours = append(r.Neighbours, netip.AddrFrom4([4]byte(b)))
		b = b[reportAddr:]
	}
	return r, true
}

// packAge rounds up, so that nothing looks younger than it is.
func packAge(d time.Duration) uint16 {
	if d < 0 || d > (ageUnknown-1)*ageUnit {
		return ageUnknown
	}
	return uint16((d + ageUnit - 1) / ageUnit)
}

func unpackAge(v uint16) time.Duration {
	if v == ageUnknown {
		return Unheard
	}
	return time.Duration(v) * ageUnit
}
