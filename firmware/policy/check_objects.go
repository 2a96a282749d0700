package policy

import (
	"fmt"
	"strings"

	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// addressRefs checks the names in a list of addresses.
func (c *checker) addressRefs(path string, list []Address) {
	for i, a := range list {
		if a.Name == "" {
			continue
		}
		c.used["address "+a.Name] = true
		if find(c.Objects.Addresses, a.Name) == nil {
			c.fail(fmt.Sprintf("%s[%d]", path, i), knownGroups(c.Objects.Addresses, "addresses"), "there is no group of addresses %q", a.Name)
		}
	}
}

// serviceRefs checks the names in a list of services.
func (c *checker) serviceRefs(path string, list []Service) {
	for i, s := range list {
		if s.Name == "" {
			continue
		}
		c.used["service "+s.Name] = true
		if find(c.Objects.Services, s.Name) == nil {
			c.fail(fmt.Sprintf("%s[%d]", path, i), knownGroups(c.Objects.Services, "services"), "there is no group of services %q", s.Name)
		}
	}
}

func knownGroups[T any](g Groups[T], kind string) string {
	if len(g) == 0 {
		return "define it: objects: {" + kind + ": {NAME: […]}}"
	}
	var out []string
	for _, x := range g {
		out = append(out, x.Name)
	}
	return "known: " + strings.Join(out, ", ")
}

func (c *checker) checkGroups() {
	for _, g := range c.Objects.Addresses {
		path := "objects.addresses." + g.Name
		c.addressRefs(path, g.Items)
		c.checkGroup(path, g.Name, len(g.Items), func(name string) (out []string) {
			if g := find(c.Objects.Addresses, name); g != nil {
				for _, a := range g.Items {
					out = append(out, a.Name)
				}
			}
			return out
		})
	}
	for _, g := range c.Objects.Services {
		path := "objects.services." + g.Name
		if _, is := protocols[g.Name]; is || g.Name == "ip" {
			c.fail(path, "choose another name", "%q is a protocol", g.Name)
		}
		c.serviceRefs(path, g.Items)
		c.checkGroup(path, g.Name, len(g.Items), func(name string) (out []string) {
			if g := find(c.Objects.Services, name); g != nil {
				for _, s := range g.Items {
					out = append(out, s.Name)
				}
			}
			return out
		})
	}
}

func (c *checker) checkGroup(path, name string, size int, parts func(string) []string) {
	if size == 0 {
		c.fail(path, "add members, or take the group and its uses out", "group %q is empty: a rule with it would match nothing", name)
	}
	visited := map[string]bool{}
	var loops func(at string) bool
	loops = func(at string) bool {
		for _, next := range parts(at) {
			if next == name {
				return true
			}
			if next != "" && !visited[next] {
				visited[next] = true
				if loops(next) {
					return true
				}
			}
		}
		return false
	}
	if loops(name) {
		c.fail(path, "take it out of one of them", "group %q contains itself", name)
	}
}

func (c *checker) checkUnused() {
	for _, g := range c.Objects.Addresses {
		if !c.used["address "+g.Name] {
			c.warn("objects.addresses."+g.Name, "take it out, or use it", "nothing uses the group %q", g.Name)
		}
	}
	for _, g := range c.Objects.Services {
		if !c.used["service "+g.Name] {
			c.warn("objects.services."+g.Name, "take it out, or use it", "nothing uses the group %q", g.Name)
		}
	}
}

// Families that a list of conditions leaves.
const (
	family4 = 1 << iota
	family6
)

func familiesOf(list []rules.Range) int {
	out := 0
	for _, r := range list {
		if r.First.Is4() {
			out |= family4
		} else {
			out |= family6
		}
	}
	if len(list) == 0 {
		return family4 | family6
	}
	return out
}

func familiesOfServices(list []rules.Service) int {
	out := 0
	for _, s := range list {
		switch s.Proto {
		case rules.ICMP:
			out |= family4
		case rules.ICMPv6:
			out |= family6
		default:
			return family4 | family6
		}
	}
	if len(list) == 0 {
		return family4 | family6
	}
	return out
}

// families refuses conditions that no packet can meet, and gives what is left.
func (c *checker) families(path string, source, destination []rules.Range, services []rules.Service) int {
	left := familiesOf(source) & familiesOf(destination)
	switch {
	case left == 0:
		c.fail(path, "IPv4 goes to IPv4, IPv6 to IPv6", "source and destination are of different families: nothing can match")
	case left&familiesOfServices(services) == 0:
		c.fail(path+".service", "icmp is for IPv4, icmpv6 for IPv6", "the service is of another family than the addresses: nothing can match")
	}
	return left & familiesOfServices(services)
}
