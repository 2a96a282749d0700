package node

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// check makes the checks that need more than one value. A value that could not be read is zero here; it has been
// reported already and is passed over.
func (r *reader) check(n *Node) {
	if len(n.Interfaces) == 0 && !(n.Cluster != nil && n.Cluster.Routed()) {
		r.fail("interfaces", "add at least one, e.g. - {name: G1, zone: lan, address: 10.1.0.2/24}", "no interface is given")
	}
	if n.Cluster != nil {
		r.checkCluster(n.Cluster)
		r.checkTiming(n.Cluster.Timing, n.Cluster.Quorum())
		r.checkQuorum(n)
	}
	r.checkInterfaces(n)
	r.checkRoutes(n)
	r.checkNAT(n)
	r.checkHelpers(n)
	r.checkMonitors(n)
	if n.Registration != "" && n.Interface(n.Registration) == nil && len(n.Interfaces) > 0 {
		r.fail("registration", "known: "+names(n), "there is no interface %q", n.Registration)
	}
}

// exampleKey is the key of the documentation. Every reader of the documentation has it.
var exampleKey, _ = base64.StdEncoding.DecodeString("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")

func (r *reader) checkCluster(c *Cluster) {
	if c.Key == Key(exampleKey) {
		r.warn("cluster.key", makeKey, "this key is the one in the documentation: it protects nothing")
	}
	ids, names := make(seen[uint8]), make(seen[string])
	own := false
	once := func(list string, i int, what string, id uint8, name string) {
		path := fmt.Sprintf("cluster.%s[%d]", list, i)
		own = own || id == c.Member
		if id != 0 {
			ids.once(r, id, path+".id", "%s ID %d", what, id)
		}
		if name != "" {
			names.once(r, name, path+".name", "%s name %q", what, name)
		}
	}
	priorities := make(map[uint8]string)
	for i, m := range c.Members {
		once("members", i, "member", m.ID, m.Name)
		if first, twice := priorities[m.Priority]; twice && m.Priority != 0 {
			r.warn(fmt.Sprintf("cluster.members[%d].priority", i), "give every member a priority of its own",
				"%s and %s have the same priority %d: the lower ID is the designated master", first, m.Name, m.Priority)
		} else {
			priorities[m.Priority] = m.Name
		}
	}
	for i, w := range c.Witnesses {
		once("witnesses", i, "witness", w.ID, w.Name)
		if w.Address.IsValid() && !isHost(w.Address) {
			r.fail(fmt.Sprintf("cluster.witnesses[%d].address", i), "give the address of the host on which the witness runs", "%s is not the address of a host", w.Address)
		}
	}
	switch {
	case len(c.Members) == 0:
		r.fail("cluster.members", "add every member: - {id: 1, name: gw-a, priority: 120}", "the members are missing")
	case c.Judges() && !own:
		r.fail("cluster.member", "add it there, or correct the number", "witness %d is not in the list of witnesses", c.Member)
	case c.Member != 0 && !own:
		r.fail("cluster.member", "add it there, or correct the number", "member %d is not in the list of members", c.Member)
	case len(c.Members) == 1:
		r.warn("cluster.members", "add the other member", "a cluster of one member has nobody to take over")
	}
}

// checkQuorum checks what a majority of members and witnesses needs, and what a witness cannot have.
func (r *reader) checkQuorum(n *Node) {
	c := n.Cluster
	if len(c.Members) > 0 && len(c.Witnesses) > 0 && (len(c.Members)+len(c.Witnesses))%2 == 0 {
		r.warn("cluster.witnesses", "leave a witness out, or add one",
			"%d members and witnesses: with an even number one more failure leaves nobody a majority than with one voter less", len(c.Members)+len(c.Witnesses))
	}
	if !c.Judges() {
		return
	}
	const only = "a witness only judges"
	for i := range n.Interfaces {
		if len(n.Interfaces[i].VIPs) > 0 {
			r.fail(fmt.Sprintf("interfaces[%d].vips", i), "leave them out", only+": it has no shared addresses")
		}
	}
	if len(n.NAT) > 0 {
		r.fail("nat", "leave it out", only+": nothing goes through it")
	}
	if len(n.Helpers) > 0 {
		r.fail("helpers", "leave them out", only+": nothing goes through it")
	}
	if len(n.Monitors) > 0 {
		r.fail("monitors", "leave them out", only+": it is never unfit")
	}
}

// checkTiming keeps the order that makes a failed member silent before its peers act. It is the rule of
// cluster.Timing.Validate, told with the place in the file; timing_test.go holds the two together.
func (r *reader) checkTiming(t Timing, quorum bool) {
	const path = "cluster.timing"
	if t.Beat < MinBeat {
		r.fail(path+".beat", "", "%s is shorter than %s", t.Beat, MinBeat)
	}
	if t.Lease < MinLease {
		r.fail(path+".lease", "the kernel counts the lease in jiffies of 4 ms; shorter ones do not hold", "%s is shorter than %s", t.Lease, MinLease)
	}
	if t.Beat > t.Lease/2 {
		r.fail(path+".beat", "the gate must survive the loss of one beat: at most half the lease", "%s is more than half the lease of %s", t.Beat, t.Lease)
	}
	// Why one beat more: docs/decisions/0002.
	if t.Lease+t.Beat >= t.Dead {
		r.fail(path+".lease", "a failed member must be silent before its peers take over: shorten lease or lengthen dead",
			"lease + beat = %s is not shorter than the dead time of %s", t.Lease+t.Beat, t.Dead)
	}
	if least := t.Lease + 4*t.Beat; quorum && t.Dead < least {
		r.fail(path+".dead", "where the role needs a majority (witnesses, safety), a vote must outlive the loss of heartbeats and the lease after it",
			"%s is shorter than lease + 4 beats = %s", t.Dead, least)
	}
	if t.Silence < 2*t.Dead {
		r.fail(path+".silence", "members that start together need two dead times to prove themselves to each other", "%s is shorter than two dead times of %s", t.Silence, t.Dead)
	}
}

func (r *reader) checkInterfaces(n *Node) {
	names, devices, places := make(seen[string]), make(seen[string]), make(seen[string])
	addresses := make(seen[netip.Addr])
	numbers := make(seen[uint8])
	var beats, syncs int
	for i := range n.Interfaces {
		f := &n.Interfaces[i]
		path := fmt.Sprintf("interfaces[%d]", i)
		if f.Name != "" && names.once(r, f.Name, path+".name", "interface name %q", f.Name) && f.Device != "" {
			devices.once(r, f.Device, path+".device", "device %q", f.Device)
		}
		numbers.once(r, f.Number, path+".number", "interface number %d", f.Number)
		if f.Place != "" {
			places.once(r, f.Place, path+".place", "place %s", f.Place)
		}
		for _, p := range []struct {
			key    string
			prefix netip.Prefix
		}{{".address", f.Address}, {".address6", f.Address6}} {
			if p.prefix.IsValid() {
				addresses.once(r, p.prefix.Addr(), path+p.key, "address %s", p.prefix.Addr())
			}
		}
		for _, other := range n.Interfaces[:i] {
			if f.Address.IsValid() && other.Address.IsValid() && f.Address.Overlaps(other.Address) && f.Address.Addr() != other.Address.Addr() {
				r.warn(path+".address", "traffic for it leaves through one of the two only", "the subnet %s overlaps that of %s", f.Address.Masked(), other.Name)
			}
		}
		if f.Sync {
			syncs++
			if syncs > 1 {
				r.fail(path+".sync", "one interface is the sync interface", "a second sync interface")
			}
			if len(f.VIPs) > 0 {
				r.fail(path+".vips", "the sync interface joins the members only", "a sync interface has no shared addresses")
			}
			if f.Zone != ZoneNone {
				r.fail(path+".zone", "leave the zone out", "a sync interface is in no zone")
			}
		} else if f.Zone == ZoneNone && !(n.Cluster != nil && n.Cluster.Judges()) {
			r.warn(path, "add zone: lan or zone: wan", "interface %s has no zone: nothing is forwarded and no service is reachable there", f.Name)
		}
		if f.Beats {
			beats++
			r.checkBeats(f, path)
		}
	}
	r.checkVIPs(n, addresses)
	if n.Cluster == nil || len(n.Interfaces) == 0 || n.Cluster.Judges() && n.Cluster.Routed() {
		return
	}
	if beats == 0 {
		r.fail("interfaces", "leave heartbeat: false out on at least one", "no interface carries heartbeats")
	}
	if syncs == 0 && !n.Cluster.Judges() {
		r.warn("interfaces", "mark the link between the members with sync: true", "no sync interface: the members hear each other on the networks they serve only")
	}
}

// checkBeats wants what a heartbeat needs: it goes from the private address to the broadcast address.
func (r *reader) checkBeats(f *Interface, path string) {
	_, written := r.at[path+".address"]
	switch {
	case !written:
		r.fail(path, "add address: …, or heartbeat: false", "heartbeats on %s need a private IPv4 address", f.Name)
	case f.Address.IsValid() && f.Address.Bits() > 30:
		r.fail(path+".address", "use a /30 or wider, or heartbeat: false", "a /%d has no broadcast address for heartbeats", f.Address.Bits())
	}
}

func (r *reader) checkVIPs(n *Node, addresses seen[netip.Addr]) {
	for i := range n.Interfaces {
		f := &n.Interfaces[i]
		if n.Cluster == nil && len(f.VIPs) > 0 {
			if r.at.Written("cluster") {
				continue
			}
			r.fail(fmt.Sprintf("interfaces[%d].vips", i), "add a cluster, or use address", "shared addresses need a cluster to share them")
			continue
		}
		for j, v := range f.VIPs {
			path := fmt.Sprintf("interfaces[%d].vips[%d]", i, j)
			switch {
			case !v.IsValid():
			case !isHost(v):
				r.fail(path, "give the address the clients use as their gateway", "%s cannot be a shared address", v)
				if v.IsUnspecified() {
					r.errors[len(r.errors)-1].UnspecifiedVIP = f.Name
				}
			case !addresses.once(r, v, path, "address %s", v):
			case f.VIPsOutside || v.IsLinkLocalUnicast() && v.Is6() || v.Is4() && !f.Address.IsValid() && r.written(i, "address"):
			case !f.Reaches(v):
				r.fail(path, "correct it, or allow it with vips_outside: true", "%s is in no subnet of %s", v, f.Name)
			case isEdge(f.Address, v):
				r.fail(path, "choose an address between the two", "%s is the network or broadcast address of %s", v, f.Address.Masked())
			}
		}
	}
}

// written reports whether a key of interface i stands in the file, good or bad.
func (r *reader) written(i int, key string) bool {
	_, ok := r.at[fmt.Sprintf("interfaces[%d].%s", i, key)]
	return ok
}

func (r *reader) checkRoutes(n *Node) {
	targets := make(seen[netip.Prefix])
	for i, t := range n.Routes {
		path := fmt.Sprintf("routes[%d]", i)
		if t.To.IsValid() {
			targets.once(r, t.To, path+".to", "route to %s", t.To)
		}
		if !t.Via.IsValid() {
			continue
		}
		if t.To.IsValid() && t.To.Addr().Is4() != t.Via.Is4() {
			r.fail(path+".via", "a route and its router are of one family", "%s cannot be reached through %s", t.To, t.Via)
			continue
		}
		reached := false
		for j := range n.Interfaces {
			f := &n.Interfaces[j]
			reached = reached || f.Reaches(t.Via)
			for _, p := range f.Prefixes() {
				if p.Addr() == t.Via {
					r.fail(path+".via", "give the address of the next router", "%s is this member's own address on %s", t.Via, f.Name)
				}
			}
			for _, v := range f.VIPs {
				if v == t.Via {
					r.fail(path+".via", "give the address of the next router", "%s is a shared address of %s", t.Via, f.Name)
				}
			}
		}
		if !reached && len(n.Interfaces) > 0 {
			r.fail(path+".via", "correct it, or the address of the interface it is on", "%s is in the subnet of no interface", t.Via)
		}
	}
}

func (r *reader) checkNAT(n *Node) {
	for i, t := range n.NAT {
		path := fmt.Sprintf("nat[%d]", i)
		for j, p := range t.From {
			if p.IsValid() && !p.Addr().Is4() {
				r.fail(fmt.Sprintf("%s.from[%d]", path, j), "NAT is for IPv4; route IPv6 as it is", "%s is not IPv4", p)
			}
		}
		if t.Addr.IsValid() && (!t.Addr.Is4() || !isHost(t.Addr)) {
			r.fail(path+".to", "vip, address, or an IPv4 address", "connections cannot come from %s", t.Addr)
		}
		if t.Out == "" {
			continue
		}
		out := n.Interface(t.Out)
		switch {
		case out == nil:
			r.fail(path+".out", "known: "+names(n), "there is no interface %q", t.Out)
		case t.To == TargetVIP && !out.VIP4().IsValid():
			r.fail(path+".to", "give the interface a VIP, or write to: address", "%s has no IPv4 shared address", t.Out)
		case t.To == TargetAddress && !out.Address.IsValid() && !r.writtenAddress(n, out):
			r.fail(path+".to", "give the interface an address", "%s has no IPv4 address", t.Out)
		case n.Cluster != nil && (t.To == TargetAddress || t.To == TargetIP && t.Addr == out.Address.Addr()):
			r.warn(path, "write to: vip", "connections from this member's own address end when the peer takes over")
		}
	}
}

func (r *reader) checkHelpers(n *Node) {
	entries := make(seen[Helper])
	for i, h := range n.Helpers {
		if h.Protocol != "" {
			entries.once(r, h, fmt.Sprintf("helpers[%d]", i), "helper %s:%d", h.Protocol, h.Port)
		}
	}
	gateway := slices.ContainsFunc(n.Interfaces, func(f Interface) bool { return f.Zone == ZoneLAN })
	if len(n.Helpers) > 0 && !gateway && len(n.Interfaces) > 0 {
		r.warn("helpers", "give an interface zone: lan, or take them out", "helpers are for connections from lan, and no interface is in lan")
	}
}

func (r *reader) writtenAddress(n *Node, f *Interface) bool {
	for i := range n.Interfaces {
		if &n.Interfaces[i] == f {
			return r.written(i, "address")
		}
	}
	return false
}

func names(n *Node) string {
	var out []string
	for _, f := range n.Interfaces {
		if f.Name != "" && !slices.Contains(out, f.Name) {
			out = append(out, f.Name)
		}
	}
	return strings.Join(out, ", ")
}

// seen remembers where a value that must be unique was used first.
type seen[T comparable] map[T]string

// once records v and reports whether it is new; if not, that is a fault.
func (s seen[T]) once(r *reader, v T, path, format string, args ...any) bool {
	first, twice := s[v]
	if !twice {
		s[v] = path
		return true
	}
	r.fail(path, "each one must be unique", "%s is used already on line %d (%s)", fmt.Sprintf(format, args...), r.at.Where(first).Line, first)
	return false
}
