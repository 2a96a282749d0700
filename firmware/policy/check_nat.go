package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// natKeys says which keys an entry may have besides name and type, and which it must have (with !).
var natKeys = map[NATType][]string{
	Masquerade: {"from", "out!", "source", "destination", "service", "ports"},
	SourceNAT:  {"from", "out!", "source", "destination", "service", "to!", "ports", "persistent"},
	DestNAT:    {"from", "source", "destination!", "service", "to!", "hairpin"},
	OneToOne:   {"from", "out!", "outside!", "inside!", "hairpin"},
	Exempt:     {"from", "out", "source", "destination", "service"},
}

// maxMapped is the most addresses that one entry of DNAT or one-to-one NAT has.
const maxMapped = 1024

// size counts the addresses of a range, up to limit+1.
func size(r rules.Range, limit int) int {
	n := 1
	for a := r.First; a != r.Last && n <= limit; a = a.Next() {
		n++
	}
	return n
}

func (c *checker) checkNAT() {
	names := seen[string]{}
	forwards := make(map[netip.Addr][]int)
	for i := range c.NAT {
		t := &c.NAT[i]
		path := fmt.Sprintf("nat[%d]", i)
		if t.Name != "" {
			names.once(c.decoder, t.Name, path+".name", "NAT entry %q", t.Name)
		}
		c.zoneRefs(path+".from", t.From)
		c.addressRefs(path+".source", t.Source)
		c.addressRefs(path+".destination", t.Destination)
		c.serviceRefs(path+".service", t.Service)
		c.natKeys(path, t)
		c.natOut(path, t)
		source, destination, services := c.ranges(t.Source), c.ranges(t.Destination), c.services(t.Service)
		families := c.families(path, source, destination, services)
		switch t.Type {
		case SourceNAT:
			c.checkSNAT(path, t, families)
		case Masquerade:
			c.checkMasquerade(path, t, source, destination)
		case DestNAT:
			c.checkDNAT(path, t, destination, services, families)
			c.overlapping(path, i, t, destination, forwards)
		case OneToOne:
			c.checkOneToOne(path, t)
			if t.Outside.Range.First.IsValid() {
				c.overlapping(path, i, t, []rules.Range{t.Outside.Range}, forwards)
			}
		}
	}
}

func (c *checker) natKeys(path string, t *NAT) {
	keys, ok := natKeys[t.Type]
	if !ok {
		return
	}
	allowed := []string{"name", "type"}
	for _, k := range keys {
		key, must := strings.CutSuffix(k, "!")
		allowed = append(allowed, key)
		if must && !c.at.Written(path+"."+key) {
			c.fail(path, "add "+key+": …", "%s needs %q", t.Type, key)
		}
	}
	for _, f := range []string{"from", "out", "source", "destination", "service", "to", "outside", "inside", "ports", "persistent", "hairpin"} {
		if c.at.Written(path+"."+f) && !slices.Contains(allowed, f) {
			c.fail(path+"."+f, "it has: "+strings.Join(allowed[2:], ", "), "%s has no %q", t.Type, f)
		}
	}
}

func (c *checker) natOut(path string, t *NAT) {
	for j, name := range t.Out {
		at := fmt.Sprintf("%s.out[%d]", path, j)
		n := c.nic(name)
		switch {
		case name == "":
		case n == nil:
			c.fail(at, "known: "+c.nicNames(), "there is no interface %q", name)
		case n.Sync || n.Zone == "":
			c.fail(at, "give the interface a zone, or name another", "nothing passes through %s: it is in no zone", name)
		}
	}
}

// owned reports whether packets to all of r come to this cluster, because they are VIPs or routers send them here, and
// whether a member's private address is among them.
func (c *checker) owned(r rules.Range) (ok, private bool) {
	var mine []rules.Range
	for i := range c.Interfaces {
		n := &c.Interfaces[i]
		for _, p := range n.Routed {
			if p.IsValid() {
				mine = append(mine, rules.RangeOf(p))
			}
		}
		for _, list := range []map[uint8]netip.Prefix{n.Addresses, n.Addresses6} {
			for _, own := range list {
				private = private || r.Contains(own.Addr())
			}
		}
	}
	for a := range c.own {
		mine = append(mine, rules.Single(a))
	}
	return len(rules.Subtract([]rules.Range{r}, mine)) == 0, private
}

const ownHint = "make it a VIP, or give its network as routed: on the interface when routers send it here"

func (c *checker) checkSNAT(path string, t *NAT, families int) {
	switch {
	case t.To.IsZero():
	case t.To.VIP:
		if families&family4 == 0 {
			families = family6
		} else {
			families = family4
		}
		for _, name := range t.Out {
			if n := c.nic(name); n != nil && !n.vip(families == family4).IsValid() {
				c.fail(path+".to", "give the interface a VIP, or use type: masquerade", "%s has no shared address of the family", name)
			}
		}
	case t.To.Port != 0:
		c.fail(path+".to", "leave the port out", "the source port is chosen for every connection")
	default:
		if familiesOf([]rules.Range{t.To.Range})&families == 0 && families != 0 {
			c.fail(path+".to", "IPv4 becomes IPv4, IPv6 becomes IPv6", "%s is of another family than what the entry matches", t.To)
		}
		ok, private := c.owned(t.To.Range)
		switch {
		case !ok:
			c.fail(path+".to", ownHint, "nobody owns %s: no answer would come back", t.To)
		case private:
			c.warn(path+".to", "use a shared address", "connections from a member's own address end when a peer takes over")
		}
	}
}

func (c *checker) checkMasquerade(path string, t *NAT, source, destination []rules.Range) {
	c.warn(path+".type", "write type: snat and to: vip", "connections from a member's own address end when a peer takes over")
	want := masqueradeFamilies(source, destination)
	for _, name := range t.Out {
		n := c.nic(name)
		if n != nil && (want&family4 != 0 && len(n.Addresses) == 0 || want&family6 != 0 && len(n.Addresses6) == 0) {
			c.fail(path+".out", "give the interface an address", "%s has no private address of the family", name)
		}
	}
}

// masqueradeFamilies are those of the addresses that an entry matches; IPv4 when it matches all.
func masqueradeFamilies(source, destination []rules.Range) int {
	if len(source)+len(destination) == 0 {
		return family4
	}
	return familiesOf(source) & familiesOf(destination)
}

func (c *checker) checkDNAT(path string, t *NAT, destination []rules.Range, services []rules.Service, families int) {
	for _, r := range destination {
		if size(r, maxMapped) > maxMapped {
			c.fail(path+".destination", fmt.Sprintf("at most %d", maxMapped), "%s has too many addresses", r)
		} else if ok, _ := c.owned(r); !ok {
			c.fail(path+".destination", ownHint, "nobody owns %s: no packet to it comes here", r)
		}
	}
	if t.To.IsZero() {
		return
	}
	if t.To.VIP || !t.To.Range.IsSingle() {
		c.fail(path+".to", "for whole networks use type: one-to-one", "%s is not one address", t.To)
		return
	}
	if familiesOf([]rules.Range{t.To.Range})&families == 0 && families != 0 || families == family4|family6 {
		c.fail(path+".to", "IPv4 becomes IPv4, IPv6 becomes IPv6: give destinations of the family of the target only", "the destinations are not all of the family of %s", t.To.Range)
	}
	if t.To.Port != 0 {
		for _, s := range services {
			if !rules.HasPorts(s.Proto) || s.First != s.Last {
				c.fail(path+".to", "leave the port out: ports stay as they are", "a port can only be given for services of one port each")
				break
			}
		}
		if len(services) == 0 {
			c.fail(path+".to", "add service: [tcp/PORT]", "a port needs a service")
		}
	}
	c.inside(path+".to", t.To.Range)
}

// inside wants a target that packets can go on to.
func (c *checker) inside(path string, r rules.Range) {
	if c.own[r.First] {
		c.fail(path, "for services of the gateway itself use management", "%s is an address of this cluster", r.First)
		return
	}
	all := rules.Rules{Routes: c.routes()}
	if all.Route(r.First) == "" || all.Route(r.Last) == "" {
		c.fail(path, "add the route, or correct the address", "no interface and no route leads to %s", r)
	}
}

func (c *checker) checkOneToOne(path string, t *NAT) {
	out, in := t.Outside, t.Inside
	if out.IsZero() || in.IsZero() {
		return
	}
	for _, x := range []struct {
		key string
		t   Target
	}{{"outside", out}, {"inside", in}} {
		if x.t.VIP || x.t.Port != 0 {
			c.fail(path+"."+x.key, "an address or a network", "%s is not an address", x.t)
			return
		}
	}
	a, b := size(out.Range, maxMapped), size(in.Range, maxMapped)
	switch {
	case out.Range.First.Is4() != in.Range.First.Is4():
		c.fail(path+".inside", "IPv4 becomes IPv4, IPv6 becomes IPv6", "inside and outside are of different families")
	case a > maxMapped || b > maxMapped:
		c.fail(path+".outside", fmt.Sprintf("at most %d addresses; split it", maxMapped), "%s has too many addresses", out.Range)
	case a != b:
		c.fail(path+".inside", "give two of the same size", "outside has %d addresses, inside %d", a, b)
	default:
		if ok, _ := c.owned(out.Range); !ok {
			c.fail(path+".outside", ownHint, "nobody owns %s: no packet to it comes here", out.Range)
		}
		c.inside(path+".inside", in.Range)
	}
}

// overlapping refuses a second entry for the same address and port, which would never get a connection.
func (c *checker) overlapping(path string, i int, t *NAT, destination []rules.Range, forwards map[netip.Addr][]int) {
	mine := c.services(t.Service)
	reported := false
	for _, r := range destination {
		if size(r, maxMapped) > maxMapped {
			continue
		}
		for a := r.First; a.IsValid() && !r.Last.Less(a); a = a.Next() {
			for _, j := range forwards[a] {
				o := &c.NAT[j]
				if !reported && j != i && len(o.Source) == 0 && zonesOverlap(o.From, t.From) && servicesOverlap(c.services(o.Service), mine) {
					reported = true
					what := a.String()
					if len(mine) > 0 {
						what = Service{Service: mine[0]}.String() + " of " + what
					}
					c.fail(path, "each port of an address goes to one place", "%s is forwarded already on line %d (%s)", what, c.at.Where(fmt.Sprintf("nat[%d]", j)).Line, o.Name)
				}
			}
			forwards[a] = append(forwards[a], i)
		}
	}
}

func zonesOverlap(a, b []string) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(z string) bool { return slices.Contains(b, z) })
}

func servicesOverlap(a, b []rules.Service) bool {
	if len(a) == 0 || len(b) == 0 {
		return true
	}
	for _, x := range a {
		for _, y := range b {
			if x.Proto == y.Proto && x.First <= y.Last && y.First <= x.Last &&
				(x.Type == y.Type || x.Type == rules.AnyType || y.Type == rules.AnyType) {
				return true
			}
		}
	}
	return false
}
