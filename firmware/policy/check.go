package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/cluster"
)

// checker makes the checks that need more than one value. A value that could not be read is zero here; it has been
// reported already and is passed over.
type checker struct {
	*decoder
	*Policy
	own   map[netip.Addr]bool
	zones map[string]bool // with an interface
	used  map[string]bool // groups by kind and name
}

func (d *decoder) check(p *Policy) {
	c := &checker{decoder: d, Policy: p, own: map[netip.Addr]bool{}, zones: map[string]bool{}, used: map[string]bool{}}
	for _, a := range p.ownAddresses() {
		c.own[a] = true
	}
	for _, n := range p.Interfaces {
		c.zones[n.Zone] = true
	}
	if p.Cluster != nil {
		c.checkCluster(p.Cluster)
	}
	c.checkZones()
	c.checkInterfaces()
	c.checkRoutes()
	c.checkGroups()
	c.checkNAT()
	c.checkFilter()
	c.checkHelpers()
	c.checkManagement()
	c.checkServices()
	c.checkMonitors()
	c.checkUnused()
}

func (c *checker) checkCluster(k *Cluster) {
	ids, names := seen[uint8]{}, seen[string]{}
	for i, m := range k.Members {
		path := fmt.Sprintf("cluster.members[%d]", i)
		if m.ID != 0 {
			ids.once(c.decoder, m.ID, path+".id", "member ID %d", m.ID)
		}
		if m.Name != "" {
			names.once(c.decoder, m.Name, path+".name", "member name %q", m.Name)
		}
	}
	switch n := len(k.Members); {
	case n == 0 && c.at.Written("cluster.members"):
		c.fail("cluster.members", "add every member: - {id: 1, name: gw-a, priority: 120}", "the members are missing")
	case n == 1:
		c.warn("cluster.members", "add the other member", "a cluster of one member has nobody to take over")
	case n == 2 && k.Prefer == PreferSafety && k.Witness == nil:
		c.warn("cluster.prefer", "add a witness, or write prefer: availability", "with two members and no witness, a standby left alone serves only after a farewell or by an operator's force")
	}
	if err := cluster.Timing(k.Timing).Validate(); err != nil {
		path := "cluster.timing"
		for _, key := range []string{"lease", "dead", "beat", "silence"} {
			if strings.Contains(err.Error(), key) && c.at.Written(path+"."+key) {
				path += "." + key
				break
			}
		}
		c.fail(path, "a failed member must be silent before its peers take over: 2·beat <= lease, lease + beat < dead, 2·dead <= silence", "%s", err)
	}
	if t, least := k.Timing, k.Timing.Lease+4*k.Timing.Beat; (k.Prefer == PreferSafety || k.Witness != nil) && t.Dead < least {
		c.fail("cluster.timing", "write timing: {dead: 100ms}", "with a witness, or prefer: safety, dead %v must be at least lease + 4 beats (%v): a vote must outlive the loss of heartbeats, and the lease after it", t.Dead, least)
	}
	if w := k.Witness; w != nil && c.own[w.Address] {
		c.fail("cluster.witness.address", "the witness is a third machine", "%s is an address of this cluster", w.Address)
	}
}

func (c *checker) checkZones() {
	names := seen[string]{}
	for i, z := range c.Zones {
		path := fmt.Sprintf("zones[%d]", i)
		if z.Name == "" || !names.once(c.decoder, z.Name, path+".name", "zone %q", z.Name) {
			continue
		}
		if !c.zones[z.Name] {
			c.fail(path+".name", "give an interface zone: "+z.Name+", or take the zone out", "zone %q has no interface: nothing can reach it", z.Name)
		}
	}
}

// zoneRefs checks a list of zone names.
func (c *checker) zoneRefs(path string, names []string) {
	for i, name := range names {
		c.zoneRef(fmt.Sprintf("%s[%d]", path, i), name)
		if slices.Contains(names[:i], name) && name != "" {
			c.fail(fmt.Sprintf("%s[%d]", path, i), "", "zone %q is there twice", name)
		}
	}
}

func (c *checker) zoneRef(path, name string) {
	if name != "" && !slices.ContainsFunc(c.Zones, func(z Zone) bool { return z.Name == name }) {
		c.fail(path, "known: "+c.zoneNames(), "there is no zone %q", name)
	}
}

func (c *checker) zoneNames() string {
	var out []string
	for _, z := range c.Zones {
		if z.Name != "" {
			out = append(out, z.Name)
		}
	}
	return strings.Join(out, ", ")
}

func (c *checker) nicNames() string {
	var out []string
	for _, n := range c.Interfaces {
		out = append(out, n.Name)
	}
	return strings.Join(out, ", ")
}

func (c *checker) checkManagement() {
	names := seen[string]{}
	for i, a := range c.Management {
		path := fmt.Sprintf("management[%d]", i)
		if a.Name != "" {
			names.once(c.decoder, a.Name, path+".name", "management entry %q", a.Name)
		}
		c.zoneRefs(path+".from", a.From)
		c.addressRefs(path+".source", a.Source)
		var others []Service
		for j, s := range a.Service {
			if s.Name == serviceAPI && !c.Services.API.Enabled {
				c.warn(fmt.Sprintf("%s.service[%d]", path, j), "services: {api: {enabled: true}}", "the API over the network is off: nobody answers there")
			}
			if s.Name != serviceSSH && s.Name != serviceAPI && s.Name != servicePing {
				others = append(others, s)
			} else {
				others = append(others, Service{})
			}
		}
		c.serviceRefs(path+".service", others)
		c.families(path, c.ranges(a.Source), nil, c.ownServices(a.Service))
	}
	if len(c.Management) == 0 {
		c.warn("management", "add an entry: - {name: admin, from: [lan], service: [ssh]}", "nobody can reach the gateway but by its serial console")
	}
}

func (c *checker) checkServices() {
	s := &c.Services
	if s.SSH.Port == s.API.Port && s.SSH.Port != 0 {
		c.fail("services.api.port", "give one of them another port", "SSH has port %d already", s.SSH.Port)
	}
}

func (c *checker) checkMonitors() {
	names := seen[string]{}
	for i, m := range c.Monitors {
		path := fmt.Sprintf("monitors[%d]", i)
		if m.Name != "" {
			names.once(c.decoder, m.Name, path+".name", "monitor %s", m.Name)
		}
		if n := len(m.Hosts); n == 0 && c.at.Written(path+".hosts") || n > node.MaxMonitored {
			c.fail(path+".hosts", fmt.Sprintf("give 1 to %d addresses", node.MaxMonitored), "%d hosts are given", n)
		}
		if m.Interval < node.MinProbe || m.Interval > time.Minute {
			c.fail(path+".interval", "", "%s is not between %s and 1m", m.Interval, node.MinProbe)
		}
		hosts := seen[netip.Addr]{}
		for j, h := range m.Hosts {
			where := fmt.Sprintf("%s.hosts[%d]", path, j)
			if !h.IsValid() {
				continue
			}
			hosts.once(c.decoder, h, where, "host %s", h)
			if c.own[h] {
				c.fail(where, "watch a host beyond this gateway", "%s is an address of this cluster", h)
			}
			onLink := slices.ContainsFunc(c.Interfaces, func(n NIC) bool { return n.reaches(h) })
			if m.Probe.Kind == node.ProbeARP && (!h.Is4() || !onLink) {
				c.fail(where, "use icmp for hosts behind a router and for IPv6", "%s is on no link of the members", h)
			}
		}
	}
}

// seen remembers where a value that must be unique was used first.
type seen[T comparable] map[T]string

// once records v and reports whether it is new; if not, that is a fault.
func (s seen[T]) once(d *decoder, v T, path, format string, args ...any) bool {
	first, twice := s[v]
	if !twice {
		s[v] = path
		return true
	}
	d.fail(path, "each one must be unique", "%s is used already on line %d (%s)", fmt.Sprintf(format, args...), d.at.Where(first).Line, first)
	return false
}
