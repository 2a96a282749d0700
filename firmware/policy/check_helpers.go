package policy

import (
	"fmt"

	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

func (c *checker) checkHelpers() {
	names := seen[string]{}
	shadows := newShadows()
	for i := range c.Helpers {
		h := &c.Helpers[i]
		path := fmt.Sprintf("helpers[%d]", i)
		if h.Name != "" {
			names.once(c.decoder, h.Name, path+".name", "helper %q", h.Name)
		}
		if h.From != nil && len(h.From) == 0 {
			c.fail(path+".from", "name the zones of the clients: "+c.zoneNames(), "no zone is given")
		}
		c.zoneRefs(path+".from", h.From)
		c.addressRefs(path+".source", h.Source)
		c.addressRefs(path+".destination", h.Destination)
		if h.Protocol == "" {
			continue
		}
		proto, _ := h.Protocol.Transport()
		at := rules.Service{Proto: proto, First: h.at(), Last: h.at(), Type: rules.AnyType}
		m := rules.Match{From: h.From, Src: c.ranges(h.Source), Dst: c.ranges(h.Destination), Services: []rules.Service{at}}
		if c.families(path, m.Src, m.Dst, m.Services) == 0 {
			continue
		}
		if j := shadows.add(m, i); j >= 0 {
			c.warn(path, "move it up, or take it out", "helper %q is never attached: %q on line %d matches all of it before", h.Name, c.Helpers[j].Name, c.at.Where(fmt.Sprintf("helpers[%d]", j)).Line)
		}
	}
}
