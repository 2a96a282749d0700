package ruleset

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// New compiles a checked node file.
func New(n *node.Node) *Ruleset { return Compile(FromNode(n)) }

// compiler collects the pieces of the table.
type compiler struct {
	*rules.Rules
	out     *Ruleset
	sets    map[string]bool // by name
	counted map[string]bool
}

// Compile turns rules into the table. Chains are reached by verdict maps, from zone to pair of zones; long lists of rules
// become elements of sets and maps (fold.go).
func Compile(r *rules.Rules) *Ruleset {
	c := &compiler{
		Rules: r, out: &Ruleset{}, sets: map[string]bool{}, counted: map[string]bool{},
	}
	forward, input := c.forward(), c.input()
	helpers, prerouting, postrouting := c.helperChain(), c.prerouting(), c.postrouting()
	for _, ch := range []*chain{forward, input, helpers, prerouting, postrouting} {
		if ch != nil {
			c.out.chains = append(c.out.chains, ch)
		}
	}
	slices.Sort(c.out.counters)
	return c.out
}

func filterBase(name string, hook *nftables.ChainHook) *chain {
	return &chain{name: name, base: &base{
		kind: nftables.ChainTypeFilter, hook: hook, priority: nftables.ChainPriorityFilter, policy: nftables.ChainPolicyDrop,
		header: "type filter hook " + name + " priority filter; policy drop;",
	}}
}

func natBase(name, priority string, hook *nftables.ChainHook, number *nftables.ChainPriority) *chain {
	return &chain{name: name, base: &base{
		kind: nftables.ChainTypeNAT, hook: hook, priority: number, policy: nftables.ChainPolicyAccept,
		header: "type nat hook " + name + " priority " + priority + "; policy accept;",
	}}
}

// chain adds a chain that verdict maps jump to.
func (c *compiler) chain(name string) *chain {
	ch := &chain{name: name}
	c.out.chains = append(c.out.chains, ch)
	return ch
}

func (ch *chain) add(id string, terms ...term) { ch.rules = append(ch.rules, rule{id, terms}) }

// addSet adds a set, once, and gives its name: a word and a digest of the content. So a set that does not change keeps its
// name, and stays in the kernel when new rules come, with the counters of its elements.
func (c *compiler) addSet(kind string, s *set) string {
	var b strings.Builder
	s.write(&b)
	sum := sha256.Sum256([]byte(b.String()))
	name := fmt.Sprintf("%s-%x", kind, sum[:5])
	if !c.sets[name] {
		c.sets[name] = true
		s.name = name
		c.out.sets = append(c.out.sets, s)
	}
	return name
}

// count gives the term of a named counter, which all kernel rules of one rule of the policy share.
func (c *compiler) count(id string) term {
	if !c.counted[id] {
		c.counted[id] = true
		c.out.counters = append(c.out.counters, id)
	}
	return counter(id)
}

// rangeSet gives the name of an interval set with the addresses.
func (c *compiler) rangeSet(list []rules.Range, f int) string {
	s := &set{key: []nftables.SetDatatype{addressType(f)}, interval: true}
	for _, r := range rules.Merge(list) {
		s.elements = append(s.elements, rangeElement(r))
	}
	return c.addSet("addresses", s)
}

// deviceSet gives the name of a set with the devices.
func (c *compiler) deviceSet(devices []string) string {
	return c.addSet("devices", &set{key: []nftables.SetDatatype{nftables.TypeIFName}, elements: deviceElements(devices)})
}

func deviceElements(names []string) []element {
	var out []element
	for _, n := range names {
		out = append(out, deviceElement(n))
	}
	return out
}

// zoneDevices are the devices of some zones; of all zones when none is given.
func (c *compiler) zoneDevices(zones []string) []string {
	var out []string
	for _, f := range c.Interfaces {
		if f.Zone != "" && (len(zones) == 0 || slices.Contains(zones, f.Zone)) {
			out = append(out, f.Devices...)
		}
	}
	slices.Sort(out)
	return out
}

// jumps makes a verdict map from devices to chains, and gives its name.
func (c *compiler) jumps(name string, chains map[string]string) string {
	s := &set{key: []nftables.SetDatatype{nftables.TypeIFName}, verdicts: true}
	devices := make([]string, 0, len(chains))
	for d := range chains {
		devices = append(devices, d)
	}
	slices.Sort(devices)
	for _, d := range devices {
		e := deviceElement(d)
		e.jump = chains[d]
		s.elements = append(s.elements, e)
	}
	return c.addSet(name, s)
}

// fastRule is the id of the rule that sends connections to the flowtable.
const fastRule = "fast path"

func (c *compiler) forward() *chain {
	ch := filterBase("forward", nftables.ChainHookForward)
	if c.Fast {
		for _, f := range c.Interfaces {
			if f.Zone != "" {
				c.out.fast = append(c.out.fast, f.Devices[0])
			}
		}
	}
	if len(c.out.fast) > 0 {
		ch.add(fastRule, ctState("established", expr.CtStateBitESTABLISHED), offload())
	}
	// There is no "ct state invalid drop" (docs/decisions/0021): right after a takeover the segments of a live connection
	// can look invalid to a table that is a few milliseconds behind, and the rule would cut it.
	ch.add("established connections", established(), accept())
	zones := map[string]string{}
	for i := range c.Zones {
		if name := c.forwardZone(&c.Zones[i]); name != "" {
			for _, d := range c.zoneDevices([]string{c.Zones[i].Name}) {
				zones[d] = name
			}
		}
	}
	if len(zones) > 0 {
		ch.add("zones", fromMap(c.jumps("from-forward", zones)))
	}
	c.dropped(ch)
	return ch
}

// dropped ends a base chain: its policy drops what comes to the end.
func (c *compiler) dropped(ch *chain) {
	id := "dropped/" + ch.name
	if c.LogDropped {
		ch.add(id, atMost(logRate, logBurst), logged(id+" "))
	}
	ch.add(id, c.count(id), drop())
}

// Lines of the log that one rule may make.
const (
	logRate  = 10
	logBurst = 20
)

// forwardZone makes the chains of what comes from a zone; "" when no rule is about it.
func (c *compiler) forwardZone(z *rules.Zone) string {
	ch := &chain{name: "forward/" + z.Name}
	pairs := map[string]string{}
	for _, to := range c.Zones {
		var list []*rules.Filter
		for i := range c.Forward {
			f := &c.Forward[i]
			if (len(f.From) == 0 || slices.Contains(f.From, z.Name)) && (len(f.To) == 0 || slices.Contains(f.To, to.Name)) {
				list = append(list, f)
			}
		}
		if len(list) == 0 {
			continue
		}
		pair := c.chain(ch.name + "/" + to.Name)
		c.filters(pair, list)
		for _, d := range c.zoneDevices([]string{to.Name}) {
			pairs[d] = pair.name
		}
	}
	c.spoofed(ch, z)
	if len(pairs) > 0 {
		ch.add("zones", toMap(c.jumps("to-"+ch.name, pairs)))
	}
	if len(ch.rules) == 0 {
		return ""
	}
	c.out.chains = append(c.out.chains, ch)
	return ch.name
}

// spoofed drops what comes from addresses that are not behind the zone.
func (c *compiler) spoofed(ch *chain, z *rules.Zone) {
	if z.Sources == nil {
		return
	}
	id := "spoofed/" + z.Name
	for _, f := range []int{4, 6} {
		switch list := rules.OfFamily(z.Sources, f); {
		case len(list) == 0:
			ch.add(id, family(f), c.count(id), drop())
		case !slices.Contains(rules.Everything(), list[0]):
			ch.add(id, addressIn(source, f, c.rangeSet(list, f), true), c.count(id), drop())
		}
	}
}

// inputHead is what every input chain begins with.
func (c *compiler) inputHead() *chain {
	ch := filterBase("input", nftables.ChainHookInput)
	ch.add("loopback", from("lo"), accept())
	ch.add("established connections", established(), accept())
	s := &set{key: []nftables.SetDatatype{nftables.TypeICMP6Type}}
	for _, n := range rules.Essential6 {
		s.elements = append(s.elements, element{text: fmt.Sprint(n), first: []byte{n}})
	}
	ch.add("neighbour discovery", icmpv6In(c.addSet("discovery", s)), accept())
	var sync []string
	for _, f := range c.Interfaces {
		if f.Sync {
			sync = append(sync, f.Devices...)
		}
	}
	if len(sync) > 0 {
		ch.add("sync interface", fromSet(c.addSet("sync", &set{key: []nftables.SetDatatype{nftables.TypeIFName}, elements: deviceElements(sync)})), accept())
	}
	for _, f := range []int{4, 6} {
		var peers []rules.Range
		for _, a := range c.Peers {
			if familyOf(a) == f {
				peers = append(peers, rules.Single(a))
			}
		}
		if len(peers) > 0 {
			set := c.rangeSet(peers, f)
			ch.add("members", addressIn(source, f, set, false), ports(rules.UDP, rules.PeerPort, rules.SyncPort), accept())
			ch.add("state sync", addressIn(source, f, set, false), ports(rules.TCP, rules.SyncPort, rules.SyncPort), accept())
			ch.add("members", addressIn(source, f, set, false), ports(rules.TCP, rules.PolicyPort, rules.PolicyPort), accept())
		}
	}
	return ch
}

func (c *compiler) input() *chain {
	ch := c.inputHead()
	zones := map[string]string{}
	for i := range c.Zones {
		z := &c.Zones[i]
		zc := &chain{name: "input/" + z.Name}
		c.spoofedInput(zc, z)
		if z.Ping {
			id := "ping/" + z.Name
			zc.add(id, icmpType(rules.ICMP, 8), c.count(id), accept())
			zc.add(id, icmpType(rules.ICMPv6, 128), c.count(id), accept())
		}
		var shared, own []*rules.Filter
		for i := range c.Input {
			f := &c.Input[i]
			if len(f.From) > 0 && !slices.Contains(f.From, z.Name) {
				continue
			}
			if f.Shared {
				shared = append(shared, f)
			} else {
				own = append(own, f)
			}
		}
		c.filters(zc, shared)
		c.silent(zc)
		c.filters(zc, own)
		c.out.chains = append(c.out.chains, zc)
		for _, d := range c.zoneDevices([]string{z.Name}) {
			zones[d] = zc.name
		}
	}
	if len(zones) > 0 {
		ch.add("zones", fromMap(c.jumps("from-input", zones)))
	}
	c.dropped(ch)
	return ch
}

// spoofedInput lets link-local addresses of IPv6 in too.
func (c *compiler) spoofedInput(ch *chain, z *rules.Zone) {
	if z.Sources == nil {
		return
	}
	local := *z
	local.Sources = rules.Merge(append(slices.Clone(z.Sources), rules.LinkLocal))
	c.spoofed(ch, &local)
}

// silent drops what is left for the VIPs. A VIP offers no service but what management opens. Silence matters: a segment
// of a connection that this member does not know yet must be lost and sent again, not be answered with a reset that ends
// the connection.
func (c *compiler) silent(ch *chain) {
	for _, f := range []int{4, 6} {
		var vips []rules.Range
		for _, v := range c.Shared {
			if familyOf(v) == f {
				vips = append(vips, rules.Single(v))
			}
		}
		if len(vips) > 0 {
			ch.add("shared addresses", addressIn(destination, f, c.rangeSet(vips, f), false), drop())
		}
	}
}

// perSource gives the name of the dynamic set of a limit, for a family.
func (c *compiler) perSource(id string, f int, l *rules.Limit) string {
	timeout := map[string]time.Duration{"second": 10 * time.Second, "minute": 2 * time.Minute, "hour": 2 * time.Hour, "day": 48 * time.Hour}[l.Unit]
	return c.addSet("limit/"+id, &set{key: []nftables.SetDatatype{addressType(f)}, dynamic: true, timeout: timeout})
}
