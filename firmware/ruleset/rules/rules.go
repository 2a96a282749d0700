// Package rules is the packet filter and the NAT of one member as plain values, with every name resolved: what
// firmware/ruleset compiles for the kernel and firmware/policy/explain evaluates. Both read the same meaning:
//
//	all           Helpers, before DNAT
//	to the box    DNAT, then Input rules of the zone the packet came from; nothing else gets in
//	through       DNAT, then the sources of its zone, then the first Forward rule that matches, then source NAT
//
// The first match decides in every list. What nothing matches is dropped.
package rules

import (
	"cmp"
	"net/netip"
	"slices"
)

// Rules of one member.
type Rules struct {
	Zones      []Zone
	Interfaces []Interface
	Shared     []netip.Addr // the VIPs: silent, except to Input rules with Shared
	Local      []netip.Addr // all addresses of the box, the VIPs too
	Routes     []Route      // connected subnets and static routes; the longest prefix wins
	Peers      []netip.Addr // private addresses of the other members
	Input      []Filter     // to the box; To is not used, the action is accept
	Forward    []Filter     // through the box
	DNAT       []DNAT
	SNAT       []SNAT
	Helpers    []Helper
	LogDropped bool // what no rule matched is logged, at a limited rate
	Fast       bool // established connections go through a flowtable where the kernel has it
}

// Zone is a group of interfaces.
type Zone struct {
	Name string
	// Sources are the addresses that may come from here; nil means all. Others are spoofed and dropped.
	Sources []Range
	Ping    bool // the box answers echo requests from here, on VIPs too
}

// Interface is a NIC with the macvlan of its VIPs.
type Interface struct {
	Name    string   // in the policy
	Zone    string   // "": nothing passes, except on a sync interface to the box
	Devices []string // kernel names, the NIC first
	Sync    bool     // the link between the members: open to the box
}

// Route says which interface leads to Prefix.
type Route struct {
	Prefix    netip.Prefix
	Interface string
}

// Range of addresses, both ends included, of one family.
type Range struct{ First, Last netip.Addr }

// Service is a protocol with its ports or ICMP type.
type Service struct {
	Proto       uint8  // IANA number
	First, Last uint16 // destination ports, for protocols that have them; 0 and 65535 are all of them
	Type        int    // ICMP type; AnyType is all of them
}

// AnyType is every ICMP type.
const AnyType = -1

// IANA protocol numbers.
const (
	ICMP    = 1
	TCP     = 6
	UDP     = 17
	DCCP    = 33
	ICMPv6  = 58
	SCTP    = 132
	UDPLite = 136
)

// Essential6 are the types of ICMPv6 that always reach the box, because IPv6 does not work without them: multicast
// listener discovery (RFC 2710, RFC 3810) and neighbour discovery (RFC 4861). The kernel itself wants their hop limit to be
// 255.
var Essential6 = []uint8{130, 131, 132, 133, 134, 135, 136, 143}

// LinkLocal is where neighbour discovery comes from, in every zone.
var LinkLocal = RangeOf(netip.MustParsePrefix("fe80::/10"))

// Ports that members reach each other by on all their interfaces.
const (
	PeerPort = 8116 // UDP: CCP (ha/ccp)
	SyncPort = 8117 // UDP and TCP: beacons and stream of state sync (ha/statesync/link)
	// PolicyPort is that by which members get and install policies, and ask each other about their boxes, TCP
	// (firmware/peerapi). 8118 is that of upgrades, on the sync interface only.
	PolicyPort = 8119
)

// HasPorts reports whether a protocol has ports where TCP has them.
func HasPorts(proto uint8) bool {
	switch proto {
	case TCP, UDP, DCCP, SCTP, UDPLite:
		return true
	}
	return false
}

// Action of a filter rule.
type Action string

// Actions.
const (
	Accept Action = "accept"
	Drop   Action = "drop"
	Reject Action = "reject" // drop and tell the sender; never a segment from the middle of a TCP connection
)

// Limit bounds what an accepting rule lets through; what exceeds it is dropped.
type Limit struct {
	Rate      uint64 // new connections per Unit
	Unit      string // second, minute, hour, day
	Burst     uint32
	PerSource bool // counted for every source address by itself
}

// Match is what a new connection must be like. An empty list is no condition. Src and Dst with addresses of one family
// only match that family only.
type Match struct {
	From, To []string // zones
	Src, Dst []Range
	Services []Service
}

// Filter is one rule of the packet filter.
type Filter struct {
	ID string // unique; also the name of its counter
	Match
	Action Action
	Log    bool
	Limit  *Limit
	Shared bool // Input only: on the VIPs too
}

// DNAT changes where new connections go. To of Match is not used.
type DNAT struct {
	ID string
	Match
	Exempt bool       // leave the connection as it is
	To     netip.Addr // the new destination; with Shift, that of the first address of Dst[0]
	Port   uint16     // 0: as it was
	Shift  bool       // Dst[0] is mapped to as many addresses from To on, one to one
	// Outside is the interface whose clients know the server by Dst only; "" when there is none.
	Outside string
}

// SNAT changes where new connections seem to come from. It applies to what is forwarded, never to the box's own traffic.
type SNAT struct {
	ID string
	Match
	Out        []string // interfaces
	Exempt     bool
	Masquerade bool // the private address of the interface, of Family
	Family     int  // 4 or 6, with Masquerade or Exempt without addresses; 0 with Exempt: both
	To         Range
	Shift      bool // Src[0] is mapped to as many addresses from To.First on, one to one
	Random     bool // every source port is chosen at random; otherwise kept where it is free
	Persistent bool // a client keeps its address of the pool
	Translated bool // only connections that DNAT has changed: hairpin
}

// Helper has the kernel read along in new connections of a protocol that announces further ones, so that NAT translates
// what is announced and those pass as related. Dst of Match is as the client says it, before DNAT; To and Services are not
// used. The first that matches decides.
type Helper struct {
	ID string
	Match
	Protocol HelperProtocol
	Port     uint16 // destination port, as the client says it
}

// HelperProtocol is a protocol with a helper in the kernel.
type HelperProtocol string

// Protocols with a helper.
const (
	FTP HelperProtocol = "ftp" // RFC 959 and RFC 2428 over TCP
	SIP HelperProtocol = "sip" // RFC 3261 over UDP
)

// Transport gives the IANA number of the protocol below, and the usual port.
func (p HelperProtocol) Transport() (proto uint8, port uint16) {
	if p == SIP {
		return UDP, 5060
	}
	return TCP, 21
}

// RangeOf is the range of a prefix.
func RangeOf(p netip.Prefix) Range {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return Range{p.Masked().Addr(), last}
}

// Single is the range of one address.
func Single(a netip.Addr) Range { return Range{a, a} }

// Contains reports whether a is in the range.
func (r Range) Contains(a netip.Addr) bool {
	return r.First.Is4() == a.Is4() && !a.Less(r.First) && !r.Last.Less(a)
}

// Covers reports whether all of o is in r.
func (r Range) Covers(o Range) bool { return r.Contains(o.First) && r.Contains(o.Last) }

// Overlaps reports whether the two have an address in common.
func (r Range) Overlaps(o Range) bool {
	return r.First.Is4() == o.First.Is4() && !o.Last.Less(r.First) && !r.Last.Less(o.First)
}

// IsSingle reports whether the range is one address.
func (r Range) IsSingle() bool { return r.First == r.Last }

// Prefix gives the range as a prefix, if it is one.
func (r Range) Prefix() (netip.Prefix, bool) {
	for bits := r.First.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(r.First, bits)
		if p.Masked() != p {
			break
		}
		if RangeOf(p) == r {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// String is an address, a prefix where the range is one, else both ends: as nft(8) writes it.
func (r Range) String() string {
	if r.IsSingle() {
		return r.First.String()
	}
	if p, ok := r.Prefix(); ok {
		return p.String()
	}
	return r.First.String() + "-" + r.Last.String()
}

// Merge gives the fewest ranges with the same addresses, in order, IPv4 first.
func Merge(list []Range) []Range {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Range) int {
		return cmp.Or(a.First.Compare(b.First), a.Last.Compare(b.Last))
	})
	var out []Range
	for _, s := range list {
		if n := len(out); n > 0 && out[n-1].First.Is4() == s.First.Is4() &&
			(!out[n-1].Last.Less(s.First) || out[n-1].Last.Next() == s.First) {
			if out[n-1].Last.Less(s.Last) {
				out[n-1].Last = s.Last
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// Subtract gives the addresses of list that are in none of out, merged.
func Subtract(list, out []Range) []Range {
	keep := Merge(list)
	for _, o := range Merge(out) {
		var next []Range
		for _, r := range keep {
			if !r.Overlaps(o) {
				next = append(next, r)
				continue
			}
			if r.First.Less(o.First) {
				next = append(next, Range{r.First, o.First.Prev()})
			}
			if o.Last.Less(r.Last) {
				next = append(next, Range{o.Last.Next(), r.Last})
			}
		}
		keep = next
	}
	return keep
}

// Everything is all addresses of both families.
func Everything() []Range {
	return []Range{RangeOf(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), RangeOf(netip.PrefixFrom(netip.IPv6Unspecified(), 0))}
}

// OfFamily are the ranges of IPv4 (4) or IPv6 (6).
func OfFamily(list []Range, family int) []Range {
	var out []Range
	for _, r := range list {
		if r.First.Is4() == (family == 4) {
			out = append(out, r)
		}
	}
	return out
}

// Contains reports whether a is in one of the ranges.
func Contains(list []Range, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(r Range) bool { return r.Contains(a) })
}

// Zone finds a zone by name; nil when there is none.
func (r *Rules) Zone(name string) *Zone {
	for i := range r.Zones {
		if r.Zones[i].Name == name {
			return &r.Zones[i]
		}
	}
	return nil
}

// Interface finds an interface by its name or one of its devices; nil when there is none.
func (r *Rules) Interface(name string) *Interface {
	for i := range r.Interfaces {
		if f := &r.Interfaces[i]; f.Name == name || slices.Contains(f.Devices, name) {
			return f
		}
	}
	return nil
}

// Route gives the interface that leads to a; "" when none does.
func (r *Rules) Route(a netip.Addr) string {
	best, found := -1, ""
	for _, t := range r.Routes {
		if t.Prefix.Contains(a) && t.Prefix.Bits() > best {
			best, found = t.Prefix.Bits(), t.Interface
		}
	}
	return found
}

// SourcesOf are the addresses that the routes lead to through a zone: those that may come from there. It is strict
// reverse path forwarding by zone instead of by interface; the kernel's own (rp_filter) cannot be used, because what
// comes in by the macvlan of the VIPs is answered by its parent.
func (r *Rules) SourcesOf(zone string) []Range {
	routes := slices.Clone(r.Routes)
	slices.SortStableFunc(routes, func(a, b Route) int { return b.Prefix.Bits() - a.Prefix.Bits() })
	var in, taken []Range
	for len(routes) > 0 { // all routes of one length at a time, the longest first
		n := 1
		for n < len(routes) && routes[n].Prefix.Bits() == routes[0].Prefix.Bits() {
			n++
		}
		var now []Range
		for _, t := range routes[:n] {
			span := RangeOf(t.Prefix)
			if f := r.Interface(t.Interface); f != nil && f.Zone == zone {
				in = append(in, Subtract([]Range{span}, taken)...)
			}
			now = append(now, span)
		}
		taken = Merge(append(taken, now...))
		routes = routes[n:]
	}
	return Merge(in)
}
