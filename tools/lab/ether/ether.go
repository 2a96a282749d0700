// Package ether reads the Ethernet frames that the lab looks at: addresses, ARP, IPv4 and UDP headers, and
// whether their checksums are right. Everything is pure and takes any bytes.
package ether

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
)

// HeaderLen is destination, source and EtherType.
const HeaderLen = 14

// EtherTypes (IEEE 802 numbers).
const (
	TypeIPv4 = 0x0800
	TypeARP  = 0x0806
)

// MAC is an Ethernet address in the order in which it is sent.
type MAC [6]byte

// ParseMAC reads "52:54:00:00:01:04" or the same with dashes.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		return MAC{}, fmt.Errorf("MAC address %q: want six bytes in hex, like 52:54:00:00:01:04", s)
	}
	return MAC(hw), nil
}

// Group reports whether the address is a group address (the lowest bit of the first byte, IEEE 802-2014 8.2).
func (m MAC) Group() bool { return m[0]&1 != 0 }

// String prints the address in lower case with colons.
func (m MAC) String() string {
	b := make([]byte, 0, 17)
	for i, v := range m {
		if i > 0 {
			b = append(b, ':')
		}
		b = hex.AppendEncode(b, []byte{v})
	}
	return string(b)
}

// MarshalText and UnmarshalText make the address readable in JSON.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *MAC) UnmarshalText(b []byte) error {
	v, err := ParseMAC(string(b))
	*m = v
	return err
}

// Dst and Src are the addresses of a frame of at least HeaderLen bytes; zero for a shorter one.
func Dst(frame []byte) MAC {
	if len(frame) < HeaderLen {
		return MAC{}
	}
	return MAC(frame[0:6])
}

// Src is the source address of a frame, see Dst.
func Src(frame []byte) MAC {
	if len(frame) < HeaderLen {
		return MAC{}
	}
	return MAC(frame[6:12])
}

// Payload returns the EtherType and what follows it, behind at most two VLAN tags; 0 and nil for a runt.
func Payload(frame []byte) (typ uint16, payload []byte) {
	off := 12
	for range 3 {
		if len(frame) < off+2 {
			return 0, nil
		}
		typ = binary.BigEndian.Uint16(frame[off:])
		if typ != 0x8100 && typ != 0x88a8 { // 802.1Q and 802.1ad tags
			return typ, frame[off+2:]
		}
		off += 4
	}
	return 0, nil
}

// Sum is the ones' complement sum of RFC 1071; 0xffff over a header means that its checksum is right.
func Sum(b []byte) uint16 {
	var s uint32
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// IPv4 is a parsed IPv4 header with its payload (RFC 791).
type IPv4 struct {
	TTL        uint8
	Protocol   uint8
	Src, Dst   netip.Addr
	Fragment   bool // not the first fragment, so Payload has no transport header
	ChecksumOK bool
	Payload    []byte // cut to the total length where the frame has that much
}

// ParseIPv4 reads the IPv4 packet of a frame. ok is false when it carries none or the header does not fit; a
// wrong checksum is no error here, heartbeats have it on purpose.
func ParseIPv4(frame []byte) (p IPv4, ok bool) {
	typ, b := Payload(frame)
	if typ != TypeIPv4 || len(b) < 20 || b[0]>>4 != 4 {
		return IPv4{}, false
	}
	hl, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if hl < 20 || hl > len(b) || total < hl {
		return IPv4{}, false
	}
	p = IPv4{
		TTL: b[8], Protocol: b[9],
		Src: netip.AddrFrom4([4]byte(b[12:16])), Dst: netip.AddrFrom4([4]byte(b[16:20])),
		Fragment:   binary.BigEndian.Uint16(b[6:])&0x1fff != 0,
		ChecksumOK: Sum(b[:hl]) == 0xffff,
		Payload:    b[hl:min(total, len(b))],
	}
	return p, true
}

// BadIPChecksum reports whether the frame is IPv4 with a wrong header checksum or a header that does not fit,
// which is what a router drops (RFC 1812 5.2.2).
func BadIPChecksum(frame []byte) bool {
	if typ, _ := Payload(frame); typ != TypeIPv4 {
		return false
	}
	p, ok := ParseIPv4(frame)
	return !ok || !p.ChecksumOK
}

// UDP is a parsed UDP datagram (RFC 768).
type UDP struct {
	IP               IPv4
	SrcPort, DstPort uint16
	NoChecksum       bool // the field is 0: none was computed
	ChecksumOK       bool // false when NoChecksum
	Payload          []byte
}

// ParseUDP reads the UDP datagram of a frame; ok is false when it carries none that fits.
func ParseUDP(frame []byte) (u UDP, ok bool) {
	ip, ok := ParseIPv4(frame)
	if !ok || ip.Protocol != 17 || ip.Fragment || len(ip.Payload) < 8 {
		return UDP{}, false
	}
	b := ip.Payload
	n := int(binary.BigEndian.Uint16(b[4:]))
	if n < 8 || n > len(b) {
		return UDP{}, false
	}
	u = UDP{
		IP: ip, SrcPort: binary.BigEndian.Uint16(b), DstPort: binary.BigEndian.Uint16(b[2:]),
		NoChecksum: b[6] == 0 && b[7] == 0, Payload: b[8:n],
	}
	if !u.NoChecksum {
		u.ChecksumOK = pseudoSum(ip, b[:n]) == 0xffff
	}
	return u, true
}

// pseudoSum sums the pseudo header of RFC 768 and the datagram.
func pseudoSum(ip IPv4, datagram []byte) uint16 {
	src, dst := ip.Src.As4(), ip.Dst.As4()
	b := make([]byte, 0, 12+len(datagram))
	b = append(b, src[:]...)
	b = append(b, dst[:]...)
	b = append(b, 0, 17)
	b = binary.BigEndian.AppendUint16(b, uint16(len(datagram)))
	return Sum(append(b, datagram...))
}

// ARP is a parsed ARP message for IPv4 over Ethernet (RFC 826).
type ARP struct {
	Op                 uint16 // 1 request, 2 reply
	SenderMAC          MAC
	SenderIP, TargetIP netip.Addr
}

// ParseARP reads the ARP message of a frame; ok is false when it carries none for IPv4 over Ethernet.
func ParseARP(frame []byte) (a ARP, ok bool) {
	typ, b := Payload(frame)
	// hardware type 1, protocol type 0x0800, lengths 6 and 4
	if typ != TypeARP || len(b) < 28 || [6]byte(b[0:6]) != [6]byte{0, 1, 8, 0, 6, 4} {
		return ARP{}, false
	}
	return ARP{
		Op: binary.BigEndian.Uint16(b[6:]), SenderMAC: MAC(b[8:14]),
		SenderIP: netip.AddrFrom4([4]byte(b[14:18])), TargetIP: netip.AddrFrom4([4]byte(b[24:28])),
	}, true
}

// Gratuitous reports whether the message announces its own sender's address (RFC 5227 section 3).
func (a ARP) Gratuitous() bool { return a.SenderIP == a.TargetIP && !a.SenderIP.IsUnspecified() }
