package filter

import (
	"strconv"
	"strings"

	"golang.org/x/net/bpf"
)

// proto reads what is behind proto.
func (p *parser) proto(q qualifiers, t token) condition {
	if q.direction != either {
		p.fail(q.from, "a protocol has no direction", "")
	}
	number, err := strconv.ParseUint(t.text, 0, 16)
	name := strings.ToLower(t.text)
	if q.proto == "ether" {
		if e := etherTypes[name]; err != nil && e != 0 {
			number, err = uint64(e), nil
		}
		switch {
		case err != nil:
			p.fail(t, "not an EtherType that has a name here", "give its number, such as 0x88cc")
		case number < 0x600:
			p.fail(t, "an EtherType is at least 0x600", "")
		}
		return p.carries(uint32(number))
	}
	if err != nil && protocols[name].number != 0 {
		number, err = uint64(protocols[name].number), nil
	}
	if err != nil && numbered[name] != 0 {
		number, err = uint64(numbered[name]), nil
	}
	if err != nil || number > 255 {
		p.fail(t, "not a protocol of IP", "give its number, 0 to 255")
	}
	switch q.proto {
	case "":
		return p.overIP(uint32(number), overBoth)
	case "ip":
		return p.overIP(uint32(number), over4)
	case "ip6":
		return p.overIP(uint32(number), over6)
	}
	p.fail(t, "proto stands behind ip, ip6, ether, or alone", "")
	return nil
}

// withPorts are the protocols that have ports.
var withPorts = []string{"tcp", "udp", "sctp"}

// ports reads a port or a range of them.
func (p *parser) ports(q qualifiers, t token) condition {
	first, last := p.portRange(q, t)
	var protos []condition
	n := p.network()
	for _, name := range withPorts {
		if q.proto == "" || q.proto == name {
			protos = append(protos, equal(n+9, 1, protocols[name].number))
		}
	}
	if protos == nil {
		p.fail(t, q.proto+" has no ports", "tcp, udp and sctp have")
	}
	var six []condition
	for _, name := range withPorts {
		if q.proto == "" || q.proto == name {
			six = append(six, equal(n+6, 1, protocols[name].number))
		}
	}
	in := func(load ...bpf.Instruction) condition {
		if first == last {
			return test{load: load, relation: bpf.JumpEqual, value: first}
		}
		return and{test{load: load, relation: bpf.JumpGreaterOrEqual, value: first}, test{load: load, relation: bpf.JumpLessOrEqual, value: last}}
	}
	return or{
		allOf(p.carries(etherIP), anyOf(protos...), p.unfragmented(), q.direction.ends(in(behindIP(n, 0, 2)...), in(behindIP(n, 2, 2)...))),
		allOf(p.carries(etherIP6), anyOf(six...), q.direction.ends(in(bpf.LoadAbsolute{Off: n + 40, Size: 2}), in(bpf.LoadAbsolute{Off: n + 42, Size: 2}))),
	}
}

// unfragmented is true of IPv4 packets with the header of what is above IP: whole ones and first fragments.
func (p *parser) unfragmented() condition {
	return not{at(p.network()+6, 2, bpf.JumpBitsSet, 0x1fff)}
}

// portRange is the first and the last port that is meant.
func (p *parser) portRange(q qualifiers, t token) (first, last uint32) {
	low, high, ranged := strings.Cut(t.text, "-")
	switch ranged = ranged && Ports[t.text] == 0; {
	case ranged && q.kind == "port":
		p.fail(t, "that is a range, or not a port", "write portrange instead of port, or a number")
	case ranged:
		first, last = p.port(t, low), p.port(t, high)
		return min(first, last), max(first, last)
	}
	first = p.port(t, t.text)
	return first, first
}

// port is a number or a name of [Ports].
func (p *parser) port(t token, text string) uint32 {
	if n, known := Ports[text]; known {
		return uint32(n)
	}
	n, err := strconv.ParseUint(text, 0, 16)
	if err != nil {
		p.fail(t, "not a port", "give its number, 0 to 65535")
	}
	return uint32(n)
}

// numberWord reads a number that is a word of its own.
func (p *parser) numberWord(what string) uint32 {
	t := p.take()
	n, err := strconv.ParseUint(t.text, 0, 32)
	if err != nil {
		p.fail(t, what+" was expected", "")
	}
	return uint32(n)
}
