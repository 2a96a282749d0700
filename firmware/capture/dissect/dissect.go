// Package dissect says in one line what a frame is, as tcpdump does: who to whom, protocol, ports, flags, length; heartbeats and packets of
// the Cluster Control Protocol with what they say. It is pure, and nothing in a frame makes a line longer than a few hundred characters or puts
// anything into it but printable ASCII.
//
// Names are not looked up and authentication tags are not checked: a line tells what a frame says, not that it is true.
package dissect

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Options of Line.
type Options struct {
	// Link puts the MACs, the EtherType and the length of the frame in front.
	Link bool
}

const (
	etherIP4    = 0x0800
	etherARP    = 0x0806
	etherRARP   = 0x8035
	ether8021Q  = 0x8100
	ether8021ad = 0x88a8
	ether9100   = 0x9100
	etherIP6    = 0x86dd
	etherLLDP   = 0x88cc
	etherPPPoED = 0x8863
	etherPPPoES = 0x8864
	etherMPLS   = 0x8847
)

var etherNames = map[uint16]string{
	etherIP4: "IPv4", etherARP: "ARP", etherRARP: "RARP", etherIP6: "IPv6", etherLLDP: "LLDP", etherPPPoED: "PPPoE discovery", etherPPPoES: "PPPoE session", etherMPLS: "MPLS",
	0x888e: "EAPOL", 0x8809: "slow protocols", 0x88e5: "MACsec", 0x88cd: "SERCOS",
}

const (
	maxTags   = 4 // VLAN tags that are looked behind
	truncated = "[cut short]"
)

// Line describes a frame. length is what it had on the wire, in bytes; frame can be the beginning of it.
func Line(frame []byte, length int, o Options) string {
	if len(frame) < 14 {
		return fmt.Sprintf("%s, length %d", truncated, length)
	}
	var b strings.Builder
	kind, rest := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	if o.Link {
		fmt.Fprintf(&b, "%s > %s, %s, length %d: ", net.HardwareAddr(frame[6:12]), net.HardwareAddr(frame[:6]), etherName(kind), length)
	}
	left := length - 14
	for range maxTags {
		if kind != ether8021Q && kind != ether8021ad && kind != ether9100 || len(rest) < 4 {
			break
		}
		tag := binary.BigEndian.Uint16(rest)
		fmt.Fprintf(&b, "vlan %d, p %d, ", tag&0xfff, tag>>13)
		kind, rest, left = binary.BigEndian.Uint16(rest[2:]), rest[4:], left-4
	}
	if text, is := cluster(frame); is {
		return b.String() + text
	}
	switch kind {
	case etherIP4:
		b.WriteString(ip4(rest))
	case etherIP6:
		b.WriteString(ip6(rest))
	case etherARP, etherRARP:
		b.WriteString(arp(rest, kind, left))
	default:
		b.WriteString(other(frame, rest, kind, left, o))
	}
	return b.String()
}

func etherName(kind uint16) string {
	if name, known := etherNames[kind]; known {
		return name
	}
	if kind < 0x600 {
		return "802.3"
	}
	return fmt.Sprintf("ethertype 0x%04x", kind)
}

// other describes what is neither IP nor ARP: by its MACs, and the kind.
func other(frame, rest []byte, kind uint16, left int, o Options) string {
	text := ""
	if !o.Link {
		text = fmt.Sprintf("%s > %s, ", net.HardwareAddr(frame[6:12]), net.HardwareAddr(frame[:6]))
	}
	if kind < 0x600 && len(rest) >= 3 && rest[0] == 0x42 && rest[1] == 0x42 {
		return text + fmt.Sprintf("STP, length %d", left)
	}
	return text + fmt.Sprintf("%s, length %d", etherName(kind), left)
}

// arp describes ARP for IPv4 over Ethernet.
func arp(b []byte, kind uint16, left int) string {
	name := etherNames[kind]
	if len(b) < 28 {
		return fmt.Sprintf("%s, %s, length %d", name, truncated, left)
	}
	be := binary.BigEndian
	op := be.Uint16(b[6:])
	if be.Uint16(b) != 1 || be.Uint16(b[2:]) != etherIP4 || b[4] != 6 || b[5] != 4 {
		return fmt.Sprintf("%s, not Ethernet and IPv4, op %d, length %d", name, op, left)
	}
	sender, target := address(b[14:18]), address(b[24:28])
	switch {
	case op == 1 && sender == target:
		return fmt.Sprintf("%s, Announcement %s is-at %s, length %d", name, sender, net.HardwareAddr(b[8:14]), left)
	case op == 1 && be.Uint32(b[14:]) == 0:
		return fmt.Sprintf("%s, Probe who-has %s, length %d", name, target, left)
	case op == 1:
		return fmt.Sprintf("%s, Request who-has %s tell %s, length %d", name, target, sender, left)
	case op == 2:
		return fmt.Sprintf("%s, Reply %s is-at %s, length %d", name, sender, net.HardwareAddr(b[8:14]), left)
	}
	return fmt.Sprintf("%s, op %d, sender %s target %s, length %d", name, op, sender, target, left)
}

func address(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

// ends is the two ends of a packet, with ports if it has them.
func ends(src, dst netip.Addr, ports []byte) string {
	if ports == nil {
		return fmt.Sprintf("%s > %s", src, dst)
	}
	return fmt.Sprintf("%s.%d > %s.%d", src, binary.BigEndian.Uint16(ports), dst, binary.BigEndian.Uint16(ports[2:]))
}

// ip4 describes an IPv4 packet.
func ip4(b []byte) string {
	if len(b) < 20 || int(b[0]&0xf)*4 < 20 {
		return "IP " + truncated
	}
	be := binary.BigEndian
	head, total := int(b[0]&0xf)*4, int(be.Uint16(b[2:]))
	p := packet{name: "IP", src: address(b[12:16]), dst: address(b[16:20]), proto: b[9], length: max(total-head, 0), ttl: b[8]}
	fragment := be.Uint16(b[6:])
	if len(b) > head {
		p.body = b[head:min(len(b), max(total, head))]
	}
	if offset := fragment & 0x1fff; offset != 0 {
		return fmt.Sprintf("%s %s: %s, fragment at %d%s, length %d", p.name, ends(p.src, p.dst, nil), protoName(p.proto), int(offset)*8, more(fragment&0x2000 != 0), p.length)
	}
	text := p.describe()
	if fragment&0x2000 != 0 {
		text += ", first fragment"
	}
	return text
}

func more(yes bool) string {
	if yes {
		return ", more follow"
	}
	return ""
}

// maxHeaders is how many extension headers of IPv6 are looked behind.
const maxHeaders = 8

// ip6 describes an IPv6 packet.
func ip6(b []byte) string {
	if len(b) < 40 {
		return "IP6 " + truncated
	}
	be := binary.BigEndian
	p := packet{name: "IP6", src: address(b[8:24]), dst: address(b[24:40]), proto: b[6], length: int(be.Uint16(b[4:])), ttl: b[7]}
	p.body = b[40:min(len(b), 40+p.length)]
	for range maxHeaders {
		if len(p.body) < 8 {
			break
		}
		n := 0
		switch p.proto {
		case 0, 43, 60: // hop-by-hop options, routing, destination options
			n = (int(p.body[1]) + 1) * 8
		case 44:
			n = 8
			if offset := be.Uint16(p.body[2:]) &^ 7; offset != 0 {
				return fmt.Sprintf("%s %s: %s, fragment at %d%s, length %d", p.name, ends(p.src, p.dst, nil), protoName(p.body[0]), offset, more(p.body[3]&1 != 0), p.length-8)
			}
		}
		if n == 0 {
			break
		}
		p.proto = p.body[0]
		p.body, p.length = p.body[min(n, len(p.body)):], max(p.length-n, 0)
	}
	return p.describe()
}
