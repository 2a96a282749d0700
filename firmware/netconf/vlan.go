package netconf

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/hal/rtnl"
)

// VLAN is one wanted IEEE 802.1Q device.
type VLAN struct {
	Device, Parent string // in the kernel
	ID             uint16
}

// vlanAlias marks the devices that are ours.
const vlanAlias = "twinkeep vlan"

func vlans(n *node.Node) (out []VLAN) {
	for i := range n.Interfaces {
		f := &n.Interfaces[i]
		if f.VLAN == nil {
			continue
		}
		if parent := n.Interface(f.VLAN.Parent); parent != nil {
			out = append(out, VLAN{f.Device, parent.Device, f.VLAN.ID})
		}
	}
	return out
}

// vlans removes the devices that are not wanted any more, or on another parent or with another ID, and makes those that
// are missing. One whose parent is missing stays missing too.
func (c Config) vlans(r *Result) error {
	links, err := rtnl.Links()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	var errs []error
	var found []VLAN
	for _, l := range links {
		v, ok := l.(*netlink.Vlan)
		if !ok || v.Alias != vlanAlias {
			continue
		}
		is := VLAN{v.Name, names[v.ParentIndex], uint16(v.VlanId)}
		if slices.Contains(c.VLANs, is) {
			found = append(found, is)
			continue
		}
		if err := netlink.LinkDel(l); err != nil {
			errs = append(errs, fmt.Errorf("remove VLAN %s: %w", v.Name, err))
			continue
		}
		r.changed("VLAN %s removed", v.Name)
	}
	for _, want := range c.VLANs {
		parent, err := netlink.LinkByName(want.Parent)
		if slices.Contains(found, want) || err != nil {
			continue
		}
		v := &netlink.Vlan{LinkAttrs: netlink.NewLinkAttrs(), VlanId: int(want.ID)}
		v.Name, v.ParentIndex = want.Device, parent.Attrs().Index
		err = netlink.LinkAdd(v)
		if err == nil {
			err = netlink.LinkSetAlias(v, vlanAlias)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("add VLAN %s (%d on %s): %w", want.Device, want.ID, want.Parent, err))
			continue
		}
		r.changed("VLAN %s added: %d on %s", want.Device, want.ID, want.Parent)
	}
	return errors.Join(errs...)
}
