package dissect

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// packet is one of IP.
type packet struct {
	name     string // IP, IP6
	src, dst netip.Addr
	proto    byte
	ttl      byte   // or hop limit
	length   int    // behind the header, as the header says
	body     []byte // what is here of that
}

const (
	protoICMP   = 1
	protoIGMP   = 2
	protoTCP    = 6
	protoUDP    = 17
	protoGRE    = 47
	protoESP    = 50
	protoAH     = 51
	protoICMP6  = 58
	protoVRRP   = 112
	protoSCTP   = 132
	protoNoNext = 59
)

var protoNames = map[byte]string{
	protoICMP: "ICMP", protoIGMP: "IGMP", protoTCP: "TCP", protoUDP: "UDP", protoGRE: "GRE", protoESP: "ESP", protoAH: "AH", protoICMP6: "ICMP6", protoVRRP: "VRRP", protoSCTP: "SCTP",
	protoNoNext: "no next header", 4: "IP in IP", 41: "IP6 in IP", 88: "EIGRP", 89: "OSPF", 103: "PIM",
}

func protoName(p byte) string {
	if name, known := protoNames[p]; known {
		return name
	}
	return fmt.Sprintf("proto %d", p)
}

// describe is the line of a packet that is no later fragment.
func (p *packet) describe() string {
	var text string
	switch p.proto {
	case protoTCP:
		text = p.tcp()
	case protoUDP:
		if len(p.body) >= 4 {
			text = fmt.Sprintf("%s: UDP, length %d", ends(p.src, p.dst, p.body), max(p.length-8, 0))
		}
	case protoSCTP:
		if len(p.body) >= 4 {
			text = fmt.Sprintf("%s: SCTP, length %d", ends(p.src, p.dst, p.body), max(p.length-12, 0))
		}
	case protoICMP:
		text = p.icmp(icmpNames, 8, 0)
	case protoICMP6:
		text = p.icmp6()
	case protoVRRP:
		text = p.vrrp()
	case protoESP:
		if len(p.body) >= 8 {
			text = fmt.Sprintf("%s: ESP, spi 0x%08x, seq %d, length %d", ends(p.src, p.dst, nil), binary.BigEndian.Uint32(p.body), binary.BigEndian.Uint32(p.body[4:]), p.length)
		}
	}
	if text == "" {
		text = fmt.Sprintf("%s: %s, length %d", ends(p.src, p.dst, nil), protoName(p.proto), p.length)
	}
	return p.name + " " + text
}

// tcpFlags are the letters of tcpdump, from the lowest bit on.
const tcpFlags = "FSRP.UEW"

func (p *packet) tcp() string {
	b := p.body
	if len(b) < 20 {
		return ""
	}
	flags := ""
	for i, letter := range tcpFlags {
		if b[13]>>i&1 != 0 {
			flags += string(letter)
		}
	}
	if flags == "" {
		flags = "none"
	}
	be := binary.BigEndian
	seq, n := be.Uint32(b[4:]), max(p.length-int(b[12]>>4)*4, 0)
	text := fmt.Sprintf("%s: Flags [%s], seq %d", ends(p.src, p.dst, b), flags, seq)
	if n > 0 {
		text += fmt.Sprintf(":%d", seq+uint32(n))
	}
	if b[13]&0x10 != 0 {
		text += fmt.Sprintf(", ack %d", be.Uint32(b[8:]))
	}
	return text + fmt.Sprintf(", win %d, length %d", be.Uint16(b[14:]), n)
}

var icmpNames = map[byte]string{
	0: "echo reply", 3: "destination unreachable", 4: "source quench", 5: "redirect", 8: "echo request", 9: "router advertisement", 10: "router solicitation", 11: "time exceeded",
	12: "parameter problem", 13: "timestamp request", 14: "timestamp reply",
}

var unreachable = map[byte]string{
	0: "net unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable", 4: "fragmentation needed", 9: "net prohibited", 10: "host prohibited", 13: "administratively prohibited",
}

// icmp describes ICMP, and the echoes of ICMPv6, whose types are given.
func (p *packet) icmp(names map[byte]string, request, reply byte) string {
	b := p.body
	if len(b) < 8 {
		return ""
	}
	what, known := names[b[0]]
	be := binary.BigEndian
	switch {
	case !known:
		what = fmt.Sprintf("type %d, code %d", b[0], b[1])
	case b[0] == request || b[0] == reply:
		what += fmt.Sprintf(", id %d, seq %d", be.Uint16(b[4:]), be.Uint16(b[6:]))
	case b[0] == 3 && p.proto == protoICMP:
		if u, known := unreachable[b[1]]; known {
			what = u
		}
		if b[1] == 4 {
			what += fmt.Sprintf(" (mtu %d)", be.Uint16(b[6:]))
		}
		if len(b) >= 28 {
			what += ", to " + address(b[24:28]).String()
		}
	case b[0] == 5 && p.proto == protoICMP:
		what += " to " + address(b[4:8]).String()
	}
	return fmt.Sprintf("%s: %s %s, length %d", ends(p.src, p.dst, nil), protoName(p.proto), what, p.length)
}

var icmp6Names = map[byte]string{
	1: "destination unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem", 128: "echo request", 129: "echo reply", 130: "multicast listener query",
	131: "multicast listener report", 132: "multicast listener done", 133: "router solicitation", 134: "router advertisement", 135: "neighbor solicitation", 136: "neighbor advertisement",
	137: "redirect", 143: "multicast listener report v2",
}

func (p *packet) icmp6() string {
	b := p.body
	if len(b) < 24 || b[0] != 135 && b[0] != 136 {
		return p.icmp(icmp6Names, 128, 129)
	}
	what := "neighbor solicitation, who has " + address(b[8:24]).String()
	if b[0] == 136 {
		what = "neighbor advertisement, tgt is " + address(b[8:24]).String()
		for i, name := range []string{", router", ", solicited", ", override"} {
			if b[4]&(0x80>>i) != 0 {
				what += name
			}
		}
	}
	if len(b) >= 32 && b[24] <= 2 && b[25] == 1 { // its link-layer address
		what += ", at " + net.HardwareAddr(b[26:32]).String()
	}
	return fmt.Sprintf("%s: ICMP6 %s, length %d", ends(p.src, p.dst, nil), what, p.length)
}

// vrrp describes a router's heartbeat (RFC 5798), or CARP's, which looks alike: another redundancy protocol on the LAN is worth seeing.
func (p *packet) vrrp() string {
	b := p.body
	if len(b) < 8 {
		return ""
	}
	if version := b[0] >> 4; version != 3 && version != 2 || b[0]&0xf != 1 {
		return ""
	}
	return fmt.Sprintf("%s: VRRPv%d advertisement, vrid %d, prio %d, ttl %d, length %d", ends(p.src, p.dst, nil), b[0]>>4, b[1], b[2], p.ttl, p.length)
}
