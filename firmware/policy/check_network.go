package policy

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/twinkeep/twinkeep/firmware/node"
)

func (c *checker) checkInterfaces() {
	names, devices, places := seen[string]{}, seen[string]{}, seen[string]{}
	addresses := seen[netip.Addr]{}
	vlans := seen[VLAN]{}
	beats, syncs := 0, 0
	for i := range c.Interfaces {
		n := &c.Interfaces[i]
		path := fmt.Sprintf("interfaces[%d]", i)
		if n.Device == "" {
			n.Device = n.Name
		}
		if n.Name != "" && names.once(c.decoder, n.Name, path+".name", "interface name %q", n.Name) {
			devices.once(c.decoder, n.Device, path+".device", "device %q", n.Device)
		}
		if n.Place != "" {
			places.once(c.decoder, n.Place, path+".place", "place %s", n.Place)
		}
		if n.Zone != "" && !n.Sync {
			c.zoneRef(path+".zone", n.Zone)
		}
		if n.VLAN != nil {
			c.checkVLAN(n, path, vlans)
		}
		if n.Sync {
			syncs++
			c.checkSync(n, path, syncs)
		} else if n.Zone == "" && !c.at.Written(path+".zone") {
			c.warn(path, "add zone: …", "interface %s has no zone: nothing passes there", n.Name)
		}
		if n.Heartbeat {
			beats++
		}
		c.checkAddresses(n, path, addresses)
		for _, other := range c.Interfaces[:i] {
			for _, a := range n.subnets() {
				for _, b := range other.subnets() {
					if a.Overlaps(b) {
						c.warn(path+".addresses", "traffic for it leaves through one of the two only", "the subnet %s overlaps that of %s", a, other.Name)
					}
				}
			}
		}
	}
	for i := range c.Interfaces {
		c.checkVIPs(&c.Interfaces[i], fmt.Sprintf("interfaces[%d]", i), addresses)
		c.checkRouted(&c.Interfaces[i], fmt.Sprintf("interfaces[%d]", i))
	}
	switch {
	case len(c.Interfaces) == 0:
		if c.at.Written("interfaces") {
			c.fail("interfaces", "add at least one", "no interface is given")
		}
	case beats == 0:
		c.fail("interfaces", "leave heartbeat: false out on at least one", "no interface carries heartbeats")
	case syncs == 0:
		c.warn("interfaces", "mark the link between the members with sync: true", "no sync interface: the members hear each other on the networks they serve only")
	}
}

func (c *checker) checkSync(n *NIC, path string, count int) {
	if count > 1 {
		c.fail(path+".sync", "one interface is the sync interface", "a second sync interface")
	}
	if len(n.VIPs) > 0 {
		c.fail(path+".vips", "the sync interface joins the members only", "a sync interface has no shared addresses")
	}
	if n.Zone != "" {
		c.fail(path+".zone", "leave the zone out", "a sync interface is in no zone")
	}
}

// checkVLAN also turns the heartbeats off: they go over physical interfaces only.
func (c *checker) checkVLAN(n *NIC, path string, vlans seen[VLAN]) {
	v := n.VLAN
	if n.Heartbeat && c.at.Written(path+".heartbeat") {
		c.fail(path+".heartbeat", "leave it out; the parent carries the heartbeats", "heartbeats do not go over a VLAN")
	}
	n.Heartbeat = false
	if v.Parent != "" {
		switch parent := c.nic(v.Parent); {
		case parent == nil:
			c.fail(path+".vlan.parent", "known: "+c.nicNames(), "there is no interface %q", v.Parent)
		case parent.VLAN != nil:
			c.fail(path+".vlan.parent", "name the physical interface", "%s is a VLAN itself", v.Parent)
		}
		if v.ID != 0 {
			vlans.once(c.decoder, *v, path+".vlan.id", "VLAN %d on %s", v.ID, v.Parent)
		}
	}
	if n.NN == nil && !c.at.Written(path+".nn") {
		c.fail(path, "add nn: 0x80 or another number that no interface has", "a VLAN has no PCI place to make the shared MAC from")
	}
	if n.Place != "" {
		c.fail(path+".place", "leave it out, and give nn", "a VLAN has no PCI place")
	}
}

func (c *checker) checkAddresses(n *NIC, path string, addresses seen[netip.Addr]) {
	if n.Heartbeat && !c.at.Written(path+".addresses") {
		c.fail(path, "add addresses: {1: …, 2: …}, or heartbeat: false", "heartbeats on %s need a private IPv4 address of every member", n.Name)
	}
	for _, family := range []struct {
		key  string
		list map[uint8]netip.Prefix
	}{{"addresses", n.Addresses}, {"addresses6", n.Addresses6}} {
		at := path + "." + family.key
		var subnet netip.Prefix
		for id := uint8(1); id <= 8; id++ {
			a, ok := family.list[id]
			where := fmt.Sprintf("%s.%d", at, id)
			member := c.Cluster == nil || slices.ContainsFunc(c.Cluster.Members, func(m ClusterMember) bool { return m.ID == id })
			switch {
			case ok && !member:
				c.fail(where, "add it to cluster.members, or correct the number", "there is no member %d", id)
			case !ok && member && c.Cluster != nil && c.at.Written(at) && len(family.list) > 0 && !c.at.Written(where):
				c.fail(at, fmt.Sprintf("add %d: …", id), "member %d has no address on %s", id, n.Name)
			}
			if !ok || !a.IsValid() {
				continue
			}
			addresses.once(c.decoder, a.Addr(), where, "address %s", a.Addr())
			switch {
			case !subnet.IsValid():
				subnet = a.Masked()
			case subnet != a.Masked():
				c.fail(where, "all members have the same subnet there: "+subnet.String(), "%s is in another subnet", a)
			}
			if n.Heartbeat && family.key == "addresses" && a.Bits() > 30 {
				c.fail(where, "use a /30 or wider, or heartbeat: false", "a /%d has no broadcast address for heartbeats", a.Bits())
			}
		}
	}
}

func (c *checker) checkVIPs(n *NIC, path string, addresses seen[netip.Addr]) {
	for j, v := range n.VIPs {
		at := fmt.Sprintf("%s.vips[%d]", path, j)
		switch {
		case !v.IsValid():
		case !node.IsHost(v):
			c.fail(at, "give the address the clients use as their gateway", "%s cannot be a shared address", v)
		case !addresses.once(c.decoder, v, at, "address %s", v):
		case n.Outside || v.Is6() && v.IsLinkLocalUnicast():
		case !n.reaches(v):
			if len(n.subnets()) > 0 || !c.at.Written(path+".addresses") {
				c.fail(at, "correct it, or allow it with vips_outside: true", "%s is in no subnet of %s", v, n.Name)
			}
		default:
			for _, p := range n.subnets() {
				if node.IsEdge(p, v) {
					c.fail(at, "choose an address between the two", "%s is the network or broadcast address of %s", v, p)
				}
			}
		}
	}
}

func (c *checker) checkRouted(n *NIC, path string) {
	for j, r := range n.Routed {
		for i := range c.Interfaces {
			for _, p := range c.Interfaces[i].subnets() {
				if r.IsValid() && r.Overlaps(p) {
					c.fail(fmt.Sprintf("%s.routed[%d]", path, j), "make the addresses VIPs: somebody must answer ARP for them",
						"%s overlaps the subnet %s of %s, so no router sends it here", r, p, c.Interfaces[i].Name)
				}
			}
		}
	}
}

func (c *checker) checkRoutes() {
	targets := seen[netip.Prefix]{}
	for i, t := range c.Routes {
		path := fmt.Sprintf("routes[%d]", i)
		if t.To.IsValid() {
			targets.once(c.decoder, t.To, path+".to", "route to %s", t.To)
		}
		switch {
		case !t.Via.IsValid():
		case t.To.IsValid() && t.To.Addr().Is4() != t.Via.Is4():
			c.fail(path+".via", "a route and its router are of one family", "%s cannot be reached through %s", t.To, t.Via)
		case c.own[t.Via]:
			c.fail(path+".via", "give the address of the next router", "%s is an address of this cluster", t.Via)
		case !slices.ContainsFunc(c.Interfaces, func(n NIC) bool { return n.reaches(t.Via) }) && len(c.Interfaces) > 0:
			c.fail(path+".via", "correct it, or the address of the interface it is on", "%s is in the subnet of no interface", t.Via)
		}
	}
}
