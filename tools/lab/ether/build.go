package ether

import (
	"encoding/binary"
	"net/netip"
)

// Datagram describes a UDP frame to build, for tests and for stations made of code. WrongIP and WrongUDP spoil
// the checksums as heartbeats do.
type Datagram struct {
	Dst, Src          MAC
	From, To          netip.AddrPort // IPv4
	TTL               uint8
	Payload           []byte
	WrongIP, WrongUDP bool
}

// Frame builds the frame.
func (d Datagram) Frame() []byte {
	udp := make([]byte, 8, 8+len(d.Payload))
	binary.BigEndian.PutUint16(udp, d.From.Port())
	binary.BigEndian.PutUint16(udp[2:], d.To.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(8+len(d.Payload)))
	udp = append(udp, d.Payload...)
	ip := IPv4{Src: d.From.Addr(), Dst: d.To.Addr()}
	sum := ^pseudoSum(ip, udp)
	if sum == 0 {
		sum = 0xffff // 0 would mean "none", RFC 768
	}
	if d.WrongUDP {
		sum ^= 0x0101
	}
	binary.BigEndian.PutUint16(udp[6:], sum)

	src, dst := d.From.Addr().As4(), d.To.Addr().As4()
	head := make([]byte, 20)
	head[0], head[8], head[9] = 0x45, d.TTL, 17
	binary.BigEndian.PutUint16(head[2:], uint16(20+len(udp)))
	copy(head[12:], src[:])
	copy(head[16:], dst[:])
	sum = ^Sum(head)
	if d.WrongIP {
		sum ^= 0x0101
	}
	binary.BigEndian.PutUint16(head[10:], sum)

	frame := Header(d.Dst, d.Src, TypeIPv4)
	return append(append(frame, head...), udp...)
}

// Header builds an Ethernet header.
func Header(dst, src MAC, typ uint16) []byte {
	b := make([]byte, 0, 64)
	b = append(b, dst[:]...)
	b = append(b, src[:]...)
	return binary.BigEndian.AppendUint16(b, typ)
}

// Frame builds a broadcast frame with the ARP message from the Ethernet source src.
func (a ARP) Frame(src MAC) []byte {
	b := Header(MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, src, TypeARP)
	b = append(b, 0, 1, 8, 0, 6, 4)
	b = binary.BigEndian.AppendUint16(b, a.Op)
	sender, target := a.SenderIP.As4(), a.TargetIP.As4()
	b = append(b, a.SenderMAC[:]...)
	b = append(b, sender[:]...)
	b = append(b, make([]byte, 6)...)
	return append(b, target[:]...)
}
