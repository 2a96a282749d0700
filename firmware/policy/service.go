package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// protocols that have a name here; others are ip/NUMBER.
var protocols = map[string]uint8{
	"icmp": rules.ICMP, "igmp": 2, "tcp": rules.TCP, "udp": rules.UDP, "dccp": rules.DCCP, "gre": 47, "esp": 50, "ah": 51,
	"icmpv6": rules.ICMPv6, "ospf": 89, "vrrp": 112, "sctp": rules.SCTP, "udplite": rules.UDPLite,
}

// The names of ICMP types are those of nft(8).
var (
	icmpTypes = map[string]int{
		"echo-reply": 0, "destination-unreachable": 3, "echo-request": 8, "time-exceeded": 11, "parameter-problem": 12,
		"timestamp-request": 13, "timestamp-reply": 14,
	}
	icmpv6Types = map[string]int{
		"destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4, "echo-request": 128,
		"echo-reply": 129, "nd-router-solicit": 133, "nd-router-advert": 134, "nd-neighbor-solicit": 135, "nd-neighbor-advert": 136,
	}
)

// Proto gives the number of a protocol by its name or number.
func Proto(name string) (uint8, bool) {
	if n, ok := protocols[name]; ok {
		return n, true
	}
	n, err := strconv.ParseUint(name, 10, 8)
	return uint8(n), err == nil && n > 0
}

// ProtoName gives the name of a protocol, or its number.
func ProtoName(number uint8) string {
	for name, n := range protocols {
		if n == number {
			return name
		}
	}
	return strconv.Itoa(int(number))
}

func parseService(s string) (v Service, err error) {
	word, rest, slash := strings.Cut(s, "/")
	v.Last, v.Type = 65535, rules.AnyType
	if word == "ip" && slash {
		n, err := strconv.ParseUint(rest, 10, 8)
		if err != nil || n == 0 {
			return Service{}, wrong("ip/1 to ip/255", "%q is not a protocol number", rest)
		}
		v.Proto = uint8(n)
		return v, nil
	}
	number, known := protocols[word]
	switch {
	case !known && !slash && nameForm.MatchString(s):
		return Service{Name: s}, nil
	case !known:
		return Service{}, wrong("e.g. tcp/443, udp/5000-5010, icmp/echo-request, esp, ip/47, or a name from objects.services", "%q is neither a service nor a name", s)
	}
	v.Proto = number
	if !slash {
		return v, nil
	}
	switch {
	case rules.HasPorts(number):
		v.First, v.Last, err = parsePorts(rest)
	case number == rules.ICMP:
		v.Type, err = parseType(rest, icmpTypes)
	case number == rules.ICMPv6:
		v.Type, err = parseType(rest, icmpv6Types)
	default:
		err = wrong("write "+word, "%s has no ports", word)
	}
	if err != nil {
		return Service{}, err
	}
	return v, nil
}

func parsePorts(s string) (first, last uint16, err error) {
	a, b, span := strings.Cut(s, "-")
	if !span {
		b = a
	}
	from, err1 := strconv.ParseUint(a, 10, 16)
	to, err2 := strconv.ParseUint(b, 10, 16)
	switch {
	case err1 != nil || err2 != nil || from == 0:
		return 0, 0, wrong("1 to 65535, or a range such as 5000-5010", "%q is not a port", s)
	case to < from:
		return 0, 0, wrong(fmt.Sprintf("write %d-%d", to, from), "the range of ports ends before it begins")
	}
	return uint16(from), uint16(to), nil
}

func parseType(s string, names map[string]int) (int, error) {
	if n, ok := names[s]; ok {
		return n, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		var known []string
		for name := range names {
			known = append(known, name)
		}
		slices.Sort(known)
		return 0, wrong("a number, or one of: "+strings.Join(known, ", "), "%q is not an ICMP type", s)
	}
	return int(n), nil
}

// String is the service as the document writes it.
func (s Service) String() string {
	if s.Name != "" {
		return s.Name
	}
	word := ProtoName(s.Proto)
	if word[0] >= '0' && word[0] <= '9' {
		return "ip/" + word
	}
	switch {
	case rules.HasPorts(s.Proto) && s.First == s.Last:
		return fmt.Sprintf("%s/%d", word, s.First)
	case rules.HasPorts(s.Proto) && (s.First > 0 || s.Last < 65535):
		return fmt.Sprintf("%s/%d-%d", word, s.First, s.Last)
	case s.Type != rules.AnyType && (s.Proto == rules.ICMP || s.Proto == rules.ICMPv6):
		names := icmpTypes
		if s.Proto == rules.ICMPv6 {
			names = icmpv6Types
		}
		for name, n := range names {
			if n == s.Type {
				return word + "/" + name
			}
		}
		return fmt.Sprintf("%s/%d", word, s.Type)
	}
	return word
}

// String is the address as the document writes it.
func (a Address) String() string {
	if a.Name != "" {
		return a.Name
	}
	return a.Range.String()
}

// String is the target as the document writes it.
func (t Target) String() string {
	switch {
	case t.VIP:
		return "vip"
	case t.Port > 0 && t.Range.First.Is6():
		return fmt.Sprintf("[%s]:%d", t.Range.First, t.Port)
	case t.Port > 0:
		return fmt.Sprintf("%s:%d", t.Range.First, t.Port)
	}
	return t.Range.String()
}

// String is the rate as the document writes it.
func (r Rate) String() string { return fmt.Sprintf("%d/%s", r.Count, r.Unit) }

// String is the probe as the document writes it.
func (p Probe) String() string {
	if p.Kind == node.ProbeTCP {
		return fmt.Sprintf("tcp:%d", p.Port)
	}
	return string(p.Kind)
}
