package filter

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/bpf"
)

// qualifiers are what stands in front of an identifier.
type qualifiers struct {
	proto     string // "" when none is named
	direction direction
	kind      string // host, net, port, portrange, proto
	from      token
}

// direction says which of the two ends of a packet is meant.
type direction uint8

const (
	either direction = iota
	source
	destination
	both
)

// ends joins the conditions of the two ends.
func (d direction) ends(src, dst condition) condition {
	switch d {
	case source:
		return src
	case destination:
		return dst
	case both:
		return and{src, dst}
	}
	return or{src, dst}
}

// primitives are words that begin a primitive and are no protocol.
var primitives = map[string]bool{"host": true, "net": true, "port": true, "portrange": true, "src": true, "dst": true, "ether": true, "vlan": true, "less": true, "greater": true,
	"broadcast": true, "multicast": true, "inbound": true, "outbound": true, "proto": true}

// linkType is where the type of the packet is, network where its header begins.
func (p *parser) linkType() uint32 { return 12 + p.shift }
func (p *parser) network() uint32  { return 14 + p.shift }

// carries is true of packets of an EtherType.
func (p *parser) carries(etherType uint32) condition { return equal(p.linkType(), 2, etherType) }

// primitive reads one primitive that is no comparison of numbers.
func (p *parser) primitive() condition {
	t := p.peek()
	switch t.text {
	case "vlan":
		p.take()
		return p.vlan()
	case "inbound", "outbound":
		p.take()
		return p.passing(t)
	case "less", "greater":
		p.take()
		relation := bpf.JumpLessOrEqual
		if t.text == "greater" {
			relation = bpf.JumpGreaterOrEqual
		}
		return extension(bpf.ExtLen, relation, p.numberWord("a length in bytes"))
	}
	q := qualifiers{from: t}
	if w := t.text; w == "ether" || etherTypes[w] != 0 && w != "lldp" || protocols[w].number != 0 {
		q.proto = p.take().text
	}
	if p.is(0, "broadcast", "multicast") {
		return p.group(q.proto)
	}
	var directed bool
	q.direction, directed = p.direction()
	if p.is(0, "host", "net", "port", "portrange", "proto") {
		q.kind = p.take().text
	}
	switch bare := q.kind == "" && !directed; {
	case bare && q.proto == "ether":
		p.fail(p.peek(), "host, proto, src, dst, broadcast or multicast was expected behind ether", "")
	case bare && q.proto != "":
		return p.protocolAlone(q.proto)
	case bare:
		return p.identifierAlone(p.take())
	case q.kind == "":
		q.kind = "host" // "src 10.1.0.5"
	}
	p.last = &q
	if p.is(0, "(") {
		return p.condition(p.atom())
	}
	return p.identifier(q, p.take())
}

// identifierAlone is an identifier behind and, or: what stood before the one before counts again.
func (p *parser) identifierAlone(t token) condition {
	looks := strings.ContainsAny(t.text, ".:") || '0' <= t.text[0] && t.text[0] <= '9'
	switch {
	case p.last != nil && (looks || Ports[t.text] != 0 && strings.HasPrefix(p.last.kind, "port")):
		return p.identifier(*p.last, t)
	case looks:
		p.fail(t, "it has nothing in front that says what it is", "write host, net or port before it")
	}
	p.unknown(t)
	return nil
}

// direction reads src, dst, src or dst, src and dst, and reports whether one of them was there.
func (p *parser) direction() (direction, bool) {
	two := p.is(0, "src") && p.is(2, "dst") || p.is(0, "dst") && p.is(2, "src")
	switch {
	case two && p.is(1, "or", "||"):
		p.next += 3
		return either, true
	case two && p.is(1, "and", "&&"):
		p.next += 3
		return both, true
	case p.accept("src"):
		return source, true
	case p.accept("dst"):
		return destination, true
	}
	return either, false
}

// protocolAlone is true of packets of a protocol.
func (p *parser) protocolAlone(name string) condition {
	if e := etherTypes[name]; e != 0 {
		return p.carries(e)
	}
	proto := protocols[name]
	return p.overIP(proto.number, proto.over)
}

// overIP is true of packets of a protocol above IP; behind the header of an IPv6 fragment, too.
func (p *parser) overIP(number uint32, over family) condition {
	n := p.network()
	four := and{p.carries(etherIP), equal(n+9, 1, number)}
	six := and{p.carries(etherIP6), or{equal(n+6, 1, number), and{equal(n+6, 1, 44), equal(n+40, 1, number)}}}
	switch over {
	case over4:
		return four
	case over6:
		return six
	}
	return or{four, six}
}

// vlan is true of tagged packets, and moves everything behind it.
func (p *parser) vlan() condition {
	var id *uint32
	if t := p.peek(); t.kind == word && t.text[0] >= '0' && t.text[0] <= '9' {
		v := p.numberWord("a VLAN ID")
		if v > 4095 {
			p.fail(t, "a VLAN ID is at most 4095", "")
		}
		id = &v
	}
	first := !p.tagged
	p.tagged = true
	if first && p.stripped {
		if id == nil {
			return always(true)
		}
		return test{load: []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtVLANTag}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xfff}}, relation: bpf.JumpEqual, value: *id}
	}
	c := anyOf(p.carries(tag8021Q), p.carries(tag8021ad), p.carries(tag9100))
	if id != nil {
		c = and{c, test{
			load:     []bpf.Instruction{bpf.LoadAbsolute{Off: p.network(), Size: 2}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xfff}},
			relation: bpf.JumpEqual, value: *id,
		}}
	}
	p.shift += 4
	return c
}

// packetOutgoing is PACKET_OUTGOING of linux/if_packet.h.
const packetOutgoing = 4

func (p *parser) passing(t token) condition {
	if !p.live {
		p.fail(t, "the direction of a packet is known only while it passes", "")
	}
	relation := bpf.JumpEqual
	if t.text == "inbound" {
		relation = bpf.JumpNotEqual
	}
	return extension(bpf.ExtType, relation, packetOutgoing)
}

// group reads broadcast or multicast.
func (p *parser) group(proto string) condition {
	t := p.take()
	n := p.network()
	switch {
	case (proto == "" || proto == "ether") && t.text == "broadcast":
		return and{equal(0, 4, 1<<32-1), equal(4, 2, 1<<16-1)}
	case proto == "" || proto == "ether":
		return at(0, 1, bpf.JumpBitsSet, 1)
	case proto == "ip" && t.text == "multicast":
		return and{p.carries(etherIP), at(n+16, 1, bpf.JumpGreaterOrEqual, 0xe0)}
	case proto == "ip6" && t.text == "multicast":
		return and{p.carries(etherIP6), equal(n+24, 1, 0xff)}
	case proto == "ip":
		p.fail(t, "ip broadcast is not supported", "instead: dst host and the broadcast address")
	}
	p.fail(t, "a packet of "+proto+" is neither", "")
	return nil
}

// identifier is what the qualifiers are of; t is its first token.
func (p *parser) identifier(q qualifiers, t token) condition {
	if t.kind != word {
		p.fail(t, "behind "+q.kind+" something is missing", "")
	}
	switch q.kind {
	case "port", "portrange":
		return p.ports(q, t)
	case "proto":
		return p.proto(q, t)
	case "net":
		return p.net(q, t)
	}
	if q.proto == "ether" {
		return p.mac(q, t)
	}
	a, err := netip.ParseAddr(t.text)
	switch {
	case err != nil && isMAC(t.text):
		p.fail(t, "that is a MAC", "write ether host "+t.text)
	case err != nil:
		p.fail(t, "not an IP address", "names are not looked up: give the address")
	case p.is(0, "/"):
		p.fail(t, "with a slash that is a network", "write net instead of host")
	}
	return p.addresses(q, t, netip.PrefixFrom(a, a.BitLen()))
}

func isMAC(text string) bool {
	_, good := parseMAC(text)
	return good
}

// parseMAC reads six bytes in hexadecimal with colons or dashes between them; a zero in front can be left out.
func parseMAC(text string) (mac [6]byte, good bool) {
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == ':' || r == '-' })
	if len(parts) != len(mac) {
		return mac, false
	}
	for i, part := range parts {
		b, err := strconv.ParseUint(part, 16, 8)
		if err != nil {
			return mac, false
		}
		mac[i] = byte(b)
	}
	return mac, true
}

// mac is true of frames to or from an Ethernet address.
func (p *parser) mac(q qualifiers, t token) condition {
	m, good := parseMAC(t.text)
	if !good {
		p.fail(t, "not a MAC", "it looks like 10:00:00:00:05:07")
	}
	is := func(off uint32) condition {
		return and{equal(off, 4, binary.BigEndian.Uint32(m[:])), equal(off+4, 2, uint32(binary.BigEndian.Uint16(m[4:])))}
	}
	return q.direction.ends(is(6), is(0))
}

// addresses is true of packets to or from addresses, and of ARP about them.
func (p *parser) addresses(q qualifiers, t token, net netip.Prefix) condition {
	n := p.network()
	if net.Addr().Is6() && !net.Addr().Is4In6() {
		if q.proto != "" && q.proto != "ip6" {
			p.fail(t, "an IPv6 address is not one of "+q.proto, "")
		}
		return and{p.carries(etherIP6), q.direction.ends(address6(n+8, net), address6(n+24, net))}
	}
	if net.Addr().Is4In6() {
		p.fail(t, "an IPv4 address in IPv6", "write it as 192.0.2.1")
	}
	mask := uint32(uint64(1<<32-1) << (32 - net.Bits()))
	a := net.Addr().As4()
	address := binary.BigEndian.Uint32(a[:])
	ip := and{p.carries(etherIP), q.direction.ends(masked(n+12, mask, address), masked(n+16, mask, address))}
	arp := q.direction.ends(masked(n+14, mask, address), masked(n+24, mask, address))
	switch q.proto {
	case "":
		return or{ip, and{or{p.carries(etherARP), p.carries(etherRARP)}, arp}}
	case "ip":
		return ip
	case "arp", "rarp":
		return and{p.carries(etherTypes[q.proto]), arp}
	}
	p.fail(t, q.proto+" has no addresses of its own", "write "+q.proto+" and "+q.kind+" "+t.text)
	return nil
}

// address6 compares an IPv6 address with a network, word by word.
func address6(off uint32, net netip.Prefix) condition {
	a := net.Addr().As16()
	c := []condition{always(true)}
	for i := range 4 {
		bits := min(max(net.Bits()-32*i, 0), 32)
		if bits > 0 {
			c = append(c, masked(off+4*uint32(i), uint32(uint64(1<<32-1)<<(32-bits)), binary.BigEndian.Uint32(a[4*i:])))
		}
	}
	return allOf(c[min(1, len(c)-1):]...)
}

// net reads a network: 10.1.0.0/16, 10.1, 10.1.0.0 mask 255.255.0.0, 2001:db8::/32.
func (p *parser) net(q qualifiers, t token) condition {
	if q.proto == "ether" {
		p.fail(t, "Ethernet has no networks", "")
	}
	text := t.text
	parts := strings.Count(text, ".") + 1
	bits := 8 * parts
	if strings.Contains(text, ":") {
		bits = 128
	} else {
		text += strings.Repeat(".0", max(4-parts, 0))
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		p.fail(t, "not a network", "it looks like 10.1.0.0/16 or 2001:db8::/32; names are not looked up")
	}
	switch {
	case p.accept("/"):
		length := p.peek()
		bits = int(p.numberWord("the length of the network"))
		if bits > a.BitLen() {
			p.fail(length, "a network of this kind has at most "+strconv.Itoa(a.BitLen())+" bits", "")
		}
	case p.accept("mask"):
		m := p.take()
		mask, err := netip.ParseAddr(m.text)
		if err != nil || !mask.Is4() || !a.Is4() {
			p.fail(m, "not a mask of IPv4", "")
		}
		b := mask.As4()
		ones, size := net.IPMask(b[:]).Size()
		if size == 0 {
			p.fail(m, "the ones of a mask are in front", "")
		}
		bits = ones
	}
	network := netip.PrefixFrom(a, bits)
	if network.Masked() != network {
		p.fail(t, "bits are set behind the network", "write "+network.Masked().String())
	}
	return p.addresses(q, t, network)
}
