package wire

import (
	"encoding/binary"
	"net/netip"
)

// Port is the UDP port heartbeats leave from and go to.
const Port = 999

// TTL is the only TTL a heartbeat may have.
const TTL = 255

// Offsets inside the Ethernet frame.
const (
	ethLen = 14
	ipLen  = 20
	udpLen = 8
	// OffsetPayload is where the heartbeat's payload starts in the frame.
	OffsetPayload = ethLen + ipLen + udpLen
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

	dst = be.AppendUint16(dst, Port)
	dst = be.AppendUint16(dst, Port)
	dst = be.AppendUint16(dst, uint16(udpLen+len(payload)))
	dst = append(dst, 0, 0)
	dst = append(dst, payload...)

	ip := dst[start+ethLen:]
	ipSum, udpSum := ipChecksum(ip), udpChecksum(ip)
	if !e.ValidChecksums {
		// Turning one bit makes the one's complement sum wrong for certain.
		ipSum ^= 0x0100
		udpSum ^= 0x0100
		if udpSum == 0 { // zero would mean "no checksum" (RFC 768)
			udpSum = 0x0200
		}
	}
	be.PutUint16(ip[10:], ipSum)
	be.PutUint16(ip[ipLen+6:], udpSum)
	return dst
}

// ParseFrame takes a heartbeat's frame apart. The payload aliases frame and still carries its tag.
// Trailing Ethernet padding is cut off. Errors are [Reason] values.
func ParseFrame(frame []byte) (Envelope, []byte, error) {
	var e Envelope
	if len(frame) < OffsetPayload {
		return e, nil, Truncated
	}
	be := binary.BigEndian
	ip := frame[ethLen:]
	if be.Uint16(frame[12:]) != 0x0800 || ip[0] != 0x45 || ip[9] != 17 ||
		be.Uint16(ip[ipLen:]) != Port || be.Uint16(ip[ipLen+2:]) != Port {
		return e, nil, NotHeartbeat
	}
	if frag := be.Uint16(ip[6:]); frag&0x3FFF != 0 {
		return e, nil, NotHeartbeat
	}
	copy(e.Dst[:], frame)
	copy(e.Src[:], frame[6:])
	e.SrcIP, _ = netip.AddrFromSlice(ip[12:16])
	e.DstIP, _ = netip.AddrFromSlice(ip[16:20])
	if ip[8] != TTL {
		return e, nil, TTLTooLow
	}
	total, udp := int(be.Uint16(ip[2:])), int(be.Uint16(ip[ipLen+4:]))
	switch {
	case total != ipLen+udp || udp < udpLen:
		return e, nil, Malformed
	case total > len(ip):
		return e, nil, Truncated
	case udp-udpLen > MaxPayload:
		return e, nil, Oversized
	case udp-udpLen < minPayload:
		return e, nil, Truncated
	}
	return e, ip[ipLen+udpLen : total], nil
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

// ChecksumsValid reports whether the IPv4 header and UDP checksums of a heartbeat's frame are right; the
// lab's capture check uses it. It is false for frames too short to tell.
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
