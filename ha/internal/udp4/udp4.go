// Package udp4 builds and takes apart the Ethernet frames of protocols that members speak with their
// neighbours on one link: IPv4 without options, UDP from a port to the same port, TTL 255. It is pure.
package udp4

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// TTL is the only TTL such a frame may have: a lower one means that it passed a router (RFC 5082).
const TTL = 255

// Offsets inside the Ethernet frame.
const (
	ethLen = 14
	ipLen  = 20
	udpLen = 8
	// OffsetPayload is where the UDP payload starts in the frame.
	OffsetPayload = ethLen + ipLen + udpLen
	// OffsetIPSum and OffsetUDPSum are where the two checksums are.
	OffsetIPSum  = ethLen + 10
	OffsetUDPSum = ethLen + ipLen + 6
)

// What [Parse] refuses. The protocols give these their own names for their counters.
var (
	ErrOther     = errors.New("not UDP over IPv4 on this port, fragmented or with IP options")
	ErrTTL       = errors.New("TTL is not 255")
	ErrTruncated = errors.New("frame is shorter than its lengths say")
	ErrMalformed = errors.New("lengths of IPv4 and UDP disagree")
)

// Envelope is who sends a frame to whom.
type Envelope struct {
	Dst, Src     [6]byte
	SrcIP, DstIP netip.Addr // IPv4
}

// Append appends the whole frame around payload to dst, with right checksums.
func Append(dst []byte, e Envelope, port uint16, payload []byte) []byte {
	start := len(dst)
	be := binary.BigEndian
	dst = append(dst, e.Dst[:]...)
	dst = append(dst, e.Src[:]...)
	dst = be.AppendUint16(dst, 0x0800)

	src, dip := e.SrcIP.As4(), e.DstIP.As4()
	dst = append(dst, 0x45, 0xC0) // version 4, header 5 words; DSCP CS6, network control (RFC 4594 §3.1)
	dst = be.AppendUint16(dst, uint16(ipLen+udpLen+len(payload)))
	dst = append(dst, 0, 0, 0x40, 0, TTL, 17, 0, 0) // ID 0, don't fragment, TTL, UDP, checksum below
	dst = append(dst, src[:]...)
	dst = append(dst, dip[:]...)

	dst = be.AppendUint16(dst, port)
	dst = be.AppendUint16(dst, port)
	dst = be.AppendUint16(dst, uint16(udpLen+len(payload)))
	dst = append(dst, 0, 0)
	dst = append(dst, payload...)

	frame := dst[start:]
	be.PutUint16(frame[OffsetIPSum:], ipChecksum(frame[ethLen:]))
	be.PutUint16(frame[OffsetUDPSum:], udpChecksum(frame[ethLen:]))
	return dst
}

// Parse takes a frame on port apart. The payload aliases frame; Ethernet padding is cut off. Checksums are
// not looked at: payloads carry an authentication tag, and addresses are not believed without one.
func Parse(frame []byte, port uint16) (Envelope, []byte, error) {
	var e Envelope
	if len(frame) < OffsetPayload {
		return e, nil, ErrTruncated
	}
	be := binary.BigEndian
	ip := frame[ethLen:]
	if be.Uint16(frame[12:]) != 0x0800 || ip[0] != 0x45 || ip[9] != 17 || be.Uint16(ip[6:])&0x3FFF != 0 ||
		be.Uint16(ip[ipLen:]) != port || be.Uint16(ip[ipLen+2:]) != port {
		return e, nil, ErrOther
	}
	copy(e.Dst[:], frame)
	copy(e.Src[:], frame[6:])
	e.SrcIP, _ = netip.AddrFromSlice(ip[12:16])
	e.DstIP, _ = netip.AddrFromSlice(ip[16:20])
	if ip[8] != TTL {
		return e, nil, ErrTTL
	}
	total, udp := int(be.Uint16(ip[2:])), int(be.Uint16(ip[ipLen+4:]))
	switch {
	case total != ipLen+udp || udp < udpLen:
		return e, nil, ErrMalformed
	case total > len(ip):
		return e, nil, ErrTruncated
	}
	return e, ip[ipLen+udpLen : total], nil
}

// ChecksumsValid reports whether the IPv4 header and UDP checksums of a frame are right. It is false for
// frames too short to tell.
func ChecksumsValid(frame []byte) (ip, udp bool) {
	if len(frame) < OffsetPayload {
		return false, false
	}
	p := frame[ethLen:]
	total := int(binary.BigEndian.Uint16(p[2:]))
	if total < ipLen+udpLen || total > len(p) {
		return false, false
	}
	p = p[:total]
	return binary.BigEndian.Uint16(p[10:]) == ipChecksum(p), binary.BigEndian.Uint16(p[ipLen+6:]) == udpChecksum(p)
}

// ipChecksum is RFC 791's header checksum, with the checksum field taken as zero.
func ipChecksum(ip []byte) uint16 {
	var s uint32
	for i := 0; i < ipLen; i += 2 {
		if i != 10 {
			s += uint32(binary.BigEndian.Uint16(ip[i:]))
		}
	}
	return fold(s)
}

// udpChecksum is RFC 768's, over pseudo header, UDP header and data.
func udpChecksum(ip []byte) uint16 {
	udp := ip[ipLen:]
	s := uint32(17) + uint32(len(udp))
	for i := 12; i < 20; i += 2 {
		s += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for i := 0; i+1 < len(udp); i += 2 {
		if i != 6 {
			s += uint32(binary.BigEndian.Uint16(udp[i:]))
		}
	}
	if len(udp)%2 == 1 {
		s += uint32(udp[len(udp)-1]) << 8
	}
	if sum := fold(s); sum != 0 {
		return sum
	}
	return 0xFFFF
}

func fold(s uint32) uint16 {
	for s > 0xFFFF {
		s = s>>16 + s&0xFFFF
	}
	return ^uint16(s)
}
