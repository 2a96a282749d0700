package netconf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/hal/rtnl"
)

// Protocol marks our addresses (IFA_PROTO, Linux 5.18) and routes (rtm_protocol). It is in nobody's use in
// iproute2's rt_protos.
const Protocol = 0x54

// Config is the wanted state.
type Config struct {
	VLANs  []VLAN
	Links  []Link
	Routes []Route
	// Disabled are devices that an operator has taken out: they are set down, and have neither addresses nor routes.
	Disabled []string
}

// Link is one wanted NIC, up and with these addresses.
type Link struct {
	Name      string // in the node file
	Device    string // in the kernel
	Addresses []netip.Prefix
}

// Route is one wanted route of the main table.
type Route struct {
	To     netip.Prefix
	Via    netip.Addr
	Device string
}

// New takes the wanted state from a checked node file.
func New(n *node.Node) Config {
	c := Config{VLANs: vlans(n)}
	for i := range n.Interfaces {
		f := &n.Interfaces[i]
		c.Links = append(c.Links, Link{Name: f.Name, Device: f.Device, Addresses: f.Prefixes()})
	}
	for _, r := range n.Routes {
		for i := range n.Interfaces {
			if f := &n.Interfaces[i]; f.Reaches(r.Via) {
				c.Routes = append(c.Routes, Route{To: r.To, Via: r.Via, Device: f.Device})
				break
			}
		}
	}
	return c
}

// Result is what Apply found and did.
type Result struct {
	Missing []Link   // wanted, but there is no such device
	Changes []string // one line a change, in order; none when all was as wanted
}

func (r *Result) changed(format string, args ...any) {
	r.Changes = append(r.Changes, fmt.Sprintf(format, args...))
}

// Apply makes the network namespace of the calling thread as wanted. A device that is missing, or a change that
// fails, does not stop the rest; the error joins all that failed.
func (c Config) Apply() (Result, error) {
	var r Result
	var errs []error
	errs = append(errs, c.vlans(&r), r.parameters())
	index := make(map[string]int, len(c.Links))
	for _, l := range c.Links {
		link, err := netlink.LinkByName(l.Device)
		var none netlink.LinkNotFoundError
		switch {
		case errors.As(err, &none):
			r.Missing = append(r.Missing, l)
			continue
		case err != nil:
			errs = append(errs, fmt.Errorf("find %s: %w", l.Device, err))
			continue
		}
		if slices.Contains(c.Disabled, l.Device) {
			if link.Attrs().Flags&net.FlagUp != 0 {
				if err := netlink.LinkSetDown(link); err != nil {
					errs = append(errs, fmt.Errorf("set %s down: %w", l.Device, err))
					continue
				}
				r.changed("link %s down: disabled by an operator", l.Device)
			}
			continue
		}
		index[l.Device] = link.Attrs().Index
		if link.Attrs().Flags&net.FlagUp == 0 {
			if err := netlink.LinkSetUp(link); err != nil {
				errs = append(errs, fmt.Errorf("set %s up: %w", l.Device, err))
				continue
			}
			r.changed("link %s up", l.Device)
		}
	}
	errs = append(errs, c.addresses(&r, index), c.routes(&r, index))
	if err := errors.Join(errs...); err != nil {
		return r, fmt.Errorf("apply network: %w", err)
	}
	return r, nil
}

// addresses removes before it adds: an address added beside its predecessor in the same subnet would be its
// secondary, and go with it (net.ipv4.conf.*.promote_secondaries).
func (c Config) addresses(r *Result, index map[string]int) error {
	wanted := make(map[address]string)
	for _, l := range c.Links {
		for _, p := range l.Addresses {
			if i, ok := index[l.Device]; ok {
				wanted[address{i, p}] = l.Device
			}
		}
	}
	var errs []error
	present, err := listAddresses()
	if err != nil {
		return err
	}
	removed := false
	for _, a := range present {
		if _, ok := wanted[a.address]; ok || a.protocol != Protocol {
			continue
		}
		if err := a.remove(); err != nil {
			errs = append(errs, fmt.Errorf("remove address %s: %w", a.prefix, err))
			continue
		}
		removed = true
		r.changed("address %s removed from %s", a.prefix, deviceName(a.index))
	}
	if removed {
		if present, err = listAddresses(); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	for _, l := range c.Links {
		i, ok := index[l.Device]
		if !ok {
			continue
		}
		for _, p := range l.Addresses {
			a := address{i, p}
			if slices.ContainsFunc(present, func(o owned) bool { return o.address == a }) {
				continue
			}
			if err := a.add(); err != nil {
				errs = append(errs, fmt.Errorf("add address %s to %s: %w", p, l.Device, err))
				continue
			}
			r.changed("address %s added to %s", p, l.Device)
		}
	}
	return errors.Join(errs...)
}

func (c Config) routes(r *Result, index map[string]int) error {
	own := &netlink.Route{Protocol: Protocol, Table: unix.RT_TABLE_MAIN}
	present, err := rtnl.Routes(own, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	var errs []error
	found := make(map[Route]bool)
	for _, p := range present {
		route := Route{To: prefixOf(p), Via: addrOf(p.Gw), Device: deviceName(p.LinkIndex)}
		if slices.Contains(c.Routes, route) {
			found[route] = true
			continue
		}
		if err := netlink.RouteDel(&p); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route %s: %w", route, err))
			continue
		}
		r.changed("route %s removed", route)
	}
	for _, want := range c.Routes {
		i, ok := index[want.Device]
		if !ok || found[want] {
			continue
		}
		if err := netlink.RouteReplace(&netlink.Route{
			Dst: ipNet(want.To), Gw: want.Via.AsSlice(), LinkIndex: i,
			Protocol: Protocol, Table: unix.RT_TABLE_MAIN,
		}); err != nil {
			errs = append(errs, fmt.Errorf("add route %s: %w", want, err))
			continue
		}
		r.changed("route %s added", want)
	}
	return errors.Join(errs...)
}

// String is the route as ip(8) writes it.
func (r Route) String() string { return fmt.Sprintf("%s via %s dev %s", r.To, r.Via, r.Device) }

// prefixOf is the target of a kernel route; the kernel leaves it out for the default route.
func prefixOf(r netlink.Route) netip.Prefix {
	if r.Dst == nil {
		a := addrOf(r.Gw)
		if a.Is4() {
			return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	bits, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(addrOf(r.Dst.IP), bits)
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// deviceName is for messages and comparison; "" when the device is gone.
func deviceName(index int) string {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return ""
	}
	return link.Attrs().Name
}
