package gatewayd

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/hal/nic"
	"github.com/twinkeep/twinkeep/hal/rtnl"
)

// interfaces lists those of the node file, in its order, then whatever else the kernel has, by name. A macvlan with
// VIPs is part of its parent.
func interfaces(n *node.Node) ([]api.Interface, error) {
	links, err := rtnl.Links()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	devices := make(map[string]netlink.Link, len(links))
	for _, l := range links {
		devices[l.Attrs().Name] = l
	}
	out := make([]api.Interface, 0, len(links))
	for _, f := range n.Interfaces {
		i := api.Interface{Name: f.Name, Device: f.Device, Zone: string(f.Zone), Sync: f.Sync, Place: f.Place}
		describe(&i, devices)
		out = append(out, i)
	}
	known := len(out)
	for name, l := range devices {
		vip := l.Type() == "macvlan" && strings.HasSuffix(name, node.VIPSuffix)
		if name == "lo" || vip || slices.ContainsFunc(out[:known], func(i api.Interface) bool { return i.Device == name }) {
			continue
		}
		i := api.Interface{Name: name, Device: name}
		describe(&i, devices)
		out = append(out, i)
	}
	slices.SortFunc(out[known:], func(a, b api.Interface) int { return cmp.Compare(a.Name, b.Name) })
	cards, _, _ := nic.Scan("/sys") // without PCI there are no places to tell
	for _, c := range cards {
		for j := range out {
			if out[j].Device == c.Kernel {
				out[j].Place, out[j].Driver = c.Place().String(), c.Driver
			}
		}
	}
	return out, nil
}

// describe fills in what the kernel says about a device and the macvlan on it.
func describe(i *api.Interface, devices map[string]netlink.Link) {
	l, ok := devices[i.Device]
	if !ok {
		return
	}
	a := l.Attrs()
	i.Present = true
	i.Up, i.Carrier = a.RawFlags&unix.IFF_UP != 0, a.RawFlags&unix.IFF_LOWER_UP != 0
	i.MAC, i.MTU, i.Speed = a.HardwareAddr.String(), a.MTU, speed(i.Device)
	i.Addresses = addresses(l)
	if s := a.Statistics; s != nil {
		i.RX = api.Counters{Bytes: s.RxBytes, Packets: s.RxPackets, Errors: s.RxErrors, Drops: s.RxDropped}
		i.TX = api.Counters{Bytes: s.TxBytes, Packets: s.TxPackets, Errors: s.TxErrors, Drops: s.TxDropped}
	}
	if vip, ok := devices[i.Device+node.VIPSuffix]; ok && vip.Attrs().ParentIndex == a.Index {
		i.SharedMAC = vip.Attrs().HardwareAddr.String()
		i.Addresses = append(i.Addresses, addresses(vip)...)
	}
}

// addresses gives those of a link but the link-local ones that the kernel makes by itself.
func addresses(l netlink.Link) (out []netip.Prefix) {
	list, err := rtnl.Addrs(l)
	if err != nil {
		return nil // the device has just gone
	}
	for _, a := range list {
		ip, _ := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		if ip = ip.Unmap(); !ip.Is6() || !ip.IsLinkLocalUnicast() {
			out = append(out, netip.PrefixFrom(ip, bits))
		}
	}
	return out
}

// speed is in Mbit/s; 0 when the driver does not know, as without carrier.
func speed(device string) int {
	data, err := os.ReadFile(filepath.Join("/sys/class/net", device, "speed"))
	if err != nil {
		return 0
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	return max(v, 0)
}
