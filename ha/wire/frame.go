package wire

import (
	"errors"
	"net/netip"

	"github.com/twinkeep/twinkeep/ha/internal/udp4"
)

// Port is the UDP port heartbeats leave from and go to.
const Port = 999

// TTL is the only TTL a heartbeat may have.
const TTL = udp4.TTL

// Offsets inside the Ethernet frame.
const (
	// OffsetPayload is where the heartbeat's payload starts in the frame.
	OffsetPayload = udp4.OffsetPayload
	// MaxFrame is the longest frame [ParseFrame] accepts.
	MaxFrame = OffsetPayload + MaxPayload
)

// MAC is an Ethernet address.
type MAC [6]byte

// BeatMAC returns the heartbeat address 11-00-00-00-NN-MM.
func BeatMAC(nn, cluster uint8) MAC { return MAC{0x11, 0, 0, 0, nn, cluster} }

// SharedMAC returns the unicast twin 10-00-00-00-NN-MM that virtual addresses answer with.
func SharedMAC(nn, cluster uint8) MAC { return MAC{0x10, 0, 0, 0, nn, cluster} }

// Envelope is what carries a heartbeat over one interface.
type Envelope struct {
	Dst, Src MAC
	// SrcIP is the interface's private address, DstIP the broadcast address of its subnet.
	SrcIP, DstIP netip.Addr
	// ValidChecksums sends right checksums instead of deliberately wrong ones.
	ValidChecksums bool
}

// AppendFrame appends the whole Ethernet frame around payload to dst.
func AppendFrame(dst []byte, e Envelope, payload []byte) []byte {
	start := len(dst)
	dst = udp4.Append(dst, udp4.Envelope{Dst: e.Dst, Src: e.Src, SrcIP: e.SrcIP, DstIP: e.DstIP}, Port, payload)
	if !e.ValidChecksums {
		spoil(dst[start+udp4.OffsetIPSum:])
		spoil(dst[start+udp4.OffsetUDPSum:])
	}
	return dst
}

// spoil turns one bit of a checksum, which makes a one's complement sum wrong for certain.
func spoil(sum []byte) {
	sum[0] ^= 1
	if sum[0]|sum[1] == 0 { // zero would mean "no checksum" (RFC 768)
		sum[0] = 2
	}
}

// ParseFrame takes a heartbeat's frame apart. The payload aliases frame and still carries its tag.
// Trailing Ethernet padding is cut off. Errors are [Reason] values.
func ParseFrame(frame []byte) (Envelope, []byte, error) {
	u, payload, err := udp4.Parse(frame, Port)
	e := Envelope{Dst: u.Dst, Src: u.Src, SrcIP: u.SrcIP, DstIP: u.DstIP}
	switch {
	case errors.Is(err, udp4.ErrOther):
		return e, nil, NotHeartbeat
	case errors.Is(err, udp4.ErrTTL):
		return e, nil, TTLTooLow
	case errors.Is(err, udp4.ErrMalformed):
		return e, nil, Malformed
	case err != nil || len(payload) < minPayload:
		return e, nil, Truncated
	case len(payload) > MaxPayload:
		return e, nil, Oversized
	}
	return e, payload, nil
}

// ChecksumsValid reports whether the IPv4 header and UDP checksums of a heartbeat's frame are right; the
// lab's capture check uses it. It is false for frames too short to tell.
func ChecksumsValid(frame []byte) (ip, udp bool) { return udp4.ChecksumsValid(frame) }
