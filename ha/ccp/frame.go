package ccp

import (
	"errors"
	"net/netip"

	"github.com/twinkeep/twinkeep/ha/internal/udp4"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// Port is the UDP port CCP packets leave from and go to.
const Port = 8116

// TTL is the only TTL a CCP packet may have.
const TTL = udp4.TTL

// MaxFrame is the longest frame [ParseFrame] accepts, padding aside.
const MaxFrame = udp4.OffsetPayload + MaxPayload

// Envelope is what carries a packet over one interface. None of it is authenticated.
type Envelope struct {
	// Dst is the peer's MAC, or [GroupMAC] of DstIP.
	Dst, Src wire.MAC
	// SrcIP is the interface's private address, DstIP the peer's or a multicast group.
	SrcIP, DstIP netip.Addr
}

// GroupMAC returns the Ethernet address of an IPv4 multicast group (RFC 1112 §6.4).
func GroupMAC(group netip.Addr) wire.MAC {
	a := group.As4()
	return wire.MAC{0x01, 0, 0x5E, a[1] & 0x7F, a[2], a[3]}
}

// AppendFrame appends the whole Ethernet frame around payload to dst. Unlike a heartbeat's, its checksums
// are right: the TTL alone keeps it on its link.
func AppendFrame(dst []byte, e Envelope, payload []byte) []byte {
	return udp4.Append(dst, udp4.Envelope{Dst: e.Dst, Src: e.Src, SrcIP: e.SrcIP, DstIP: e.DstIP}, Port, payload)
}

// ParseFrame takes the frame of a CCP packet apart. The payload aliases frame and still carries its tag.
// Trailing Ethernet padding is cut off. Errors are [Reason] values.
func ParseFrame(frame []byte) (Envelope, []byte, error) {
	u, payload, err := udp4.Parse(frame, Port)
	e := Envelope{Dst: u.Dst, Src: u.Src, SrcIP: u.SrcIP, DstIP: u.DstIP}
	switch {
	case err == nil && len(payload) <= MaxPayload:
		return e, payload, nil
	case err == nil:
		return e, nil, wire.Oversized
	case errors.Is(err, udp4.ErrOther):
		return e, nil, NotCCP
	case errors.Is(err, udp4.ErrTTL):
		return e, nil, wire.TTLTooLow
	case errors.Is(err, udp4.ErrTruncated):
		return e, nil, wire.Truncated
	default:
		return e, nil, wire.Malformed
	}
}
