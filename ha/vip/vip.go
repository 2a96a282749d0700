// Package vip puts virtual addresses on a member: a macvlan with the shared MAC on each NIC, and the
// announcements that tell neighbours and switches where the shared MAC is now. All members carry all
// virtual addresses all the time; the gate (ha/gate) decides whose traffic passes, so nothing is
// configured at a takeover.
package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/hal/rtnl"
)

// Suffix makes the macvlan's name from its parent's.
const Suffix = "-vip"

// Config is the virtual addresses behind one NIC.
type Config struct {
	Parent string // kernel name of the NIC
	MAC    wire.MAC
	Addrs  []netip.Addr // IPv4 and IPv6
}

// Device is the name of the macvlan.
func (c Config) Device() string { return c.Parent + Suffix }

// Ensure makes the macvlan and its addresses be exactly as cfg says. The gate must be installed before:
// without it, the addresses answer.
func Ensure(cfg Config) error {
	parent, err := netlink.LinkByName(cfg.Parent)
	if err != nil {
		return fmt.Errorf("find %s: %w", cfg.Parent, err)
	}
	mac := net.HardwareAddr(cfg.MAC[:])
	link, err := netlink.LinkByName(cfg.Device())
	if err == nil && (link.Type() != "macvlan" || link.Attrs().ParentIndex != parent.Attrs().Index || link.Attrs().HardwareAddr.String() != mac.String()) {
		if err := netlink.LinkDel(link); err != nil {
			return fmt.Errorf("remove the old %s: %w", cfg.Device(), err)
		}
		link = nil
	}
	if link == nil {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex, attrs.HardwareAddr = cfg.Device(), parent.Attrs().Index, mac
		if err := netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_PRIVATE}); err != nil {
			return fmt.Errorf("add %s with %s on %s: %w", cfg.Device(), mac, cfg.Parent, err)
		}
		if link, err = netlink.LinkByName(cfg.Device()); err != nil {
			return fmt.Errorf("find %s: %w", cfg.Device(), err)
		}
	}
	if err := parameters(cfg.Device()); err != nil {
		return err
	}
	if err := addresses(link, cfg.Addrs); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", cfg.Device(), err)
	}
	return nil
}

// parameters of the macvlan. All members have it with the same MAC, so it must not make a link-local
// address of its own nor look for duplicates; and it must not answer for other addresses of the box.
func parameters(dev string) error {
	for _, p := range []struct {
		path, value string
		optional    bool
	}{
		{"ipv4/conf/" + dev + "/arp_ignore", "1", false},
		{"ipv4/conf/" + dev + "/arp_announce", "2", false},
		{"ipv4/conf/" + dev + "/rp_filter", "0", false},
		{"ipv4/conf/" + dev + "/send_redirects", "0", false},
		{"ipv4/conf/" + dev + "/accept_redirects", "0", false},
		{"ipv6/conf/" + dev + "/addr_gen_mode", "1", true},
		{"ipv6/conf/" + dev + "/accept_dad", "0", true},
		{"ipv6/conf/" + dev + "/accept_ra", "0", true},
	} {
		err := os.WriteFile(filepath.Join("/proc/sys/net", p.path), []byte(p.value), 0)
		if err != nil && !(p.optional && errors.Is(err, os.ErrNotExist)) { // a kernel without IPv6
			return fmt.Errorf("set kernel parameter: %w", err)
		}
	}
	return nil
}

func addresses(link netlink.Link, want []netip.Addr) error {
	have, err := rtnl.Addrs(link)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	missing := map[netip.Addr]bool{}
	for _, a := range want {
		missing[a] = true
	}
	for _, a := range have {
		ip, _ := netip.AddrFromSlice(a.IP)
		ip = ip.Unmap()
		if missing[ip] {
			delete(missing, ip)
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove %s from %s: %w", ip, link.Attrs().Name, err)
		}
	}
	for ip := range missing {
		n := &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())}
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: n, Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("add %s to %s: %w", ip, link.Attrs().Name, err)
		}
	}
	return nil
}

// Remove takes the macvlan away; it is no error when there is none.
func Remove(parent string) error {
	link, err := netlink.LinkByName(parent + Suffix)
	if err != nil {
		return nil
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("remove %s: %w", parent+Suffix, err)
	}
	return nil
}
