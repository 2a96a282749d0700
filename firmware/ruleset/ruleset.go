package ruleset

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/node"
)

// Table is the name of the nftables table, family inet.
const Table = "twinkeep"

// Ruleset is the wanted content of the table. Each of its rules knows both its text and its kernel form, so what the
// console shows is what Apply installs.
type Ruleset struct {
	sets   []set
	chains []chain
}

// set is a named set.
type set struct {
	name     string
	kind     nftables.SetDatatype
	elements []element
	interval bool
}

// element is one value of a set, with the range it covers in an interval set.
type element struct {
	text string
	key  []byte
	last netip.Addr // interval sets only: the highest address
}

// chain is a base chain.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
	policy   nftables.ChainPolicy
	header   string // as nft writes it
	rules    []rule
}

// rule is what a packet must match, and the verdict.
type rule []term

// String is the rule as nft writes it.
func (r rule) String() string {
	words := make([]string, len(r))
	for i, t := range r {
		words[i] = t.text
	}
	return strings.Join(words, " ")
}

// New compiles a checked node file.
func New(n *node.Node) *Ruleset {
	r := new(Ruleset)
	zones := map[node.Zone][]string{}
	var sync []string
	var vip4, vip6 []element
	for i := range n.Interfaces {
		f := &n.Interfaces[i]
		// Frames to the shared MAC come in on the macvlan, routes go out through its parent: a zone is both.
		zones[f.Zone] = append(zones[f.Zone], f.Device, f.VIPDevice())
		if f.Sync {
			sync = append(sync, f.Device)
		}
		for _, v := range f.VIPs {
			e := element{text: v.String(), key: v.AsSlice()}
			if v.Is4() {
				vip4 = append(vip4, e)
			} else {
				vip6 = append(vip6, e)
			}
		}
	}
	r.sets = []set{
		{name: "lan", kind: nftables.TypeIFName, elements: deviceElements(zones[node.ZoneLAN])},
		{name: "wan", kind: nftables.TypeIFName, elements: deviceElements(zones[node.ZoneWAN])},
		{name: "sync", kind: nftables.TypeIFName, elements: deviceElements(sync)},
		{name: "vip4", kind: nftables.TypeIPAddr, elements: sorted(vip4)},
		{name: "vip6", kind: nftables.TypeIP6Addr, elements: sorted(vip6)},
	}
	// There is no "ct state invalid drop": right after a takeover the segments of a live connection can look invalid
	// to a table that is a few milliseconds behind, and the rule would cut it.
	r.chains = []chain{
		{
			name: "forward", header: "type filter hook forward priority filter; policy drop;",
			kind: nftables.ChainTypeFilter, hook: nftables.ChainHookForward,
			priority: nftables.ChainPriorityFilter, policy: nftables.ChainPolicyDrop,
			rules: []rule{
				{established(), accept()},
				{fromSet("lan"), toSet("wan"), accept()},
			},
		},
		{
			name: "input", header: "type filter hook input priority filter; policy drop;",
			kind: nftables.ChainTypeFilter, hook: nftables.ChainHookInput,
			priority: nftables.ChainPriorityFilter, policy: nftables.ChainPolicyDrop,
			rules: []rule{
				{from("lo"), accept()},
				{established(), accept()},
				{protocol("icmp", unix.IPPROTO_ICMP), accept()},
				{protocol("ipv6-icmp", unix.IPPROTO_ICMPV6), accept()}, // neighbour discovery too
				// A VIP offers no service. Silence matters: a segment of a connection that this member does not
				// know yet must be lost and sent again, not be answered with a reset that ends the connection.
				{daddr4("vip4"), drop()},
				{daddr6("vip6"), drop()},
				{fromSet("lan"), accept()},
				{fromSet("sync"), accept()},
			},
		},
		{
			name: "postrouting", header: "type nat hook postrouting priority srcnat; policy accept;",
			kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPostrouting,
			priority: nftables.ChainPriorityNATSource, policy: nftables.ChainPolicyAccept,
		},
	}
	for i, t := range n.NAT {
		r.addNAT(n, i, t)
	}
	return r
}

func (r *Ruleset) addNAT(n *node.Node, i int, t node.NAT) {
	out := n.Interface(t.Out)
	if out == nil {
		return // a checked file has no such entry
	}
	sources := ipv4()
	if ranges := merge(t.From); len(ranges) > 0 {
		name := fmt.Sprintf("nat%d", i+1)
		r.sets = append(r.sets, set{name: name, kind: nftables.TypeIPAddr, interval: true, elements: ranges})
		sources = saddr4(name)
	}
	random := t.Ports == node.PortsRandom
	verdict := masquerade(random)
	switch t.To {
	case node.TargetVIP:
		verdict = snat(out.VIP4(), random)
	case node.TargetIP:
		verdict = snat(t.Addr, random)
	}
	nat := &r.chains[len(r.chains)-1]
	nat.rules = append(nat.rules, rule{sources, toSet(r.outSet(out)), verdict})
}

// outSet is the name of the set with the devices that traffic leaves an interface by: its own, because routes go
// through it, and that of its VIPs.
func (r *Ruleset) outSet(f *node.Interface) string {
	name := "out_" + f.Name
	if !slices.ContainsFunc(r.sets, func(s set) bool { return s.name == name }) {
		r.sets = append(r.sets, set{name: name, kind: nftables.TypeIFName, elements: deviceElements([]string{f.Device, f.VIPDevice()})})
	}
	return name
}

// deviceElements makes set elements of device names, in the order nft lists them: it takes them for little-endian
// numbers.
func deviceElements(names []string) []element {
	var out []element
	for _, n := range names {
		out = append(out, element{text: fmt.Sprintf("%q", n), key: deviceKey(n)})
	}
	slices.SortFunc(out, func(a, b element) int {
		for i := len(a.key) - 1; i >= 0; i-- {
			if d := cmp.Compare(a.key[i], b.key[i]); d != 0 {
				return d
			}
		}
		return 0
	})
	return out
}

func sorted(e []element) []element {
	slices.SortFunc(e, func(a, b element) int { return slices.Compare(a.key, b.key) })
	return e
}

// merge turns prefixes into the fewest ranges, because the kernel refuses elements that overlap. A range that is
// everything is no match at all: the result is empty then.
func merge(prefixes []netip.Prefix) []element {
	type span struct{ first, last netip.Addr }
	var spans []span
	for _, p := range prefixes {
		spans = append(spans, span{p.Masked().Addr(), lastOf(p)})
	}
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(a.first.Compare(b.first), a.last.Compare(b.last))
	})
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && (!out[n-1].last.Less(s.first) || out[n-1].last.Next() == s.first) {
			if out[n-1].last.Less(s.last) {
				out[n-1].last = s.last
			}
			continue
		}
		out = append(out, s)
	}
	var elements []element
	for _, s := range out {
		if s.first.IsUnspecified() && !s.last.Next().IsValid() {
			return nil
		}
		elements = append(elements, element{text: spanText(s.first, s.last), key: s.first.AsSlice(), last: s.last})
	}
	return elements
}

// spanText writes a range as nft does: an address, a prefix where it is one, else both ends.
func spanText(first, last netip.Addr) string {
	for bits := first.BitLen(); bits > 0; bits-- {
		p := netip.PrefixFrom(first, bits)
		if p.Masked() != p {
			break
		}
		if lastOf(p) == last {
			if p.IsSingleIP() {
				return first.String()
			}
			return p.String()
		}
	}
	return first.String() + "-" + last.String()
}

// lastOf is the highest address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// String renders the table as nft(8) lists it, so that it can be read, compared, and loaded with nft -f.
func (r *Ruleset) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", Table)
	for _, s := range r.sets {
		fmt.Fprintf(&b, "\tset %s {\n\t\ttype %s\n", s.name, s.kind.Name)
		if s.interval {
			b.WriteString("\t\tflags interval\n")
		}
		if len(s.elements) > 0 {
			texts := make([]string, len(s.elements))
			for i, e := range s.elements {
				texts[i] = e.text
			}
			fmt.Fprintf(&b, "\t\telements = { %s }\n", strings.Join(texts, ", "))
		}
		b.WriteString("\t}\n\n")
	}
	for i, c := range r.chains {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "\tchain %s {\n\t\t%s\n", c.name, c.header)
		for _, rule := range c.rules {
			fmt.Fprintf(&b, "\t\t%s\n", rule)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}
