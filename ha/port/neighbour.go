package port

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/hal/rtnl"
)

// Neighbours are hosts that the kernel knows behind a NIC: gateways of its routes first, then the neighbour table, who
// was reachable last first. At most limit.
func Neighbours(device string, limit int) ([]netip.Addr, error) {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", device, err)
	}
	var out []netip.Addr
	add := func(ip net.IP) {
		if a, ok := netip.AddrFromSlice(ip); ok && len(out) < limit && !a.IsMulticast() && !slices.Contains(out, a.Unmap()) {
			out = append(out, a.Unmap())
		}
	}
	routes, err := rtnl.Routes(&netlink.Route{LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_OIF)
	if err != nil {
		return nil, fmt.Errorf("routes of %s: %w", device, err)
	}
	for _, r := range routes {
		add(r.Gw)
	}
	table, err := rtnl.Neighbours(link.Attrs().Index)
	if err != nil {
		return out, fmt.Errorf("neighbours of %s: %w", device, err)
	}
	for _, state := range []int{unix.NUD_REACHABLE | unix.NUD_PERMANENT, unix.NUD_DELAY | unix.NUD_PROBE, unix.NUD_STALE} {
		for _, n := range table {
			if n.State&state != 0 && len(n.HardwareAddr) == 6 {
				add(n.IP)
			}
		}
	}
	return out, nil
}

// Solicit asks hosts on a NIC's LAN whether they are there, by ARP (RFC 826) from the address from and by neighbour
// solicitation (RFC 4861) from the NIC's link-local address, and reports those that answer within wait. It returns when
// that is over.
func Solicit(device string, from netip.Addr, targets []netip.Addr, wait time.Duration, answered func(netip.Addr)) error {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	var v4, v6 []netip.Addr
	for _, a := range targets {
		if a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a.WithZone(""))
		}
	}
	var err4, err6 error
	self := linkLocal(ifi)
	if self.IsValid() && len(v4) > 0 && len(v6) > 0 {
		wait /= 2
	}
	if len(v4) > 0 && from.Is4() {
		err4 = exchange(ifi, unix.ETH_P_ARP, arpReplies, wait, v4, arpRequest(ifi.HardwareAddr, from), arpAnswer(ifi.HardwareAddr, v4), answered)
	}
	if len(v6) > 0 && self.IsValid() {
		err6 = exchange(ifi, unix.ETH_P_IPV6, advertisements, wait, v6, solicitation(ifi.HardwareAddr, self), advertised(v6), answered)
	}
	return errors.Join(err4, err6)
}

// exchange sends one frame to each target and reads answers for the time wait.
func exchange(ifi *net.Interface, proto int, filter []bpf.RawInstruction, wait time.Duration, targets []netip.Addr,
	request func(netip.Addr) ([]byte, error), answer func([]byte) (netip.Addr, bool), report func(netip.Addr)) error {
	conn, err := packet.Listen(ifi, packet.Raw, proto, &packet.Config{Filter: filter})
	if err != nil {
		return fmt.Errorf("open %s for neighbours: %w", ifi.Name, err)
	}
	defer conn.Close()
	for _, a := range targets {
		frame, err := request(a)
		if err == nil {
			_, err = conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
		}
		if err != nil {
			return fmt.Errorf("ask %s on %s: %w", a, ifi.Name, err)
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	buf := make([]byte, 256)
	// Each target answers once, with room for what others are told and for repetitions: a flood ends the reading.
	for range 16 * len(targets) {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return nil // the time is over, or the NIC went down: no answer
		}
		if a, ok := answer(buf[:n]); ok {
			report(a)
		}
	}
	return nil
}

func arpRequest(mac net.HardwareAddr, from netip.Addr) func(netip.Addr) ([]byte, error) {
	return func(to netip.Addr) ([]byte, error) {
		p, err := arp.NewPacket(arp.OperationRequest, mac, from, make(net.HardwareAddr, 6), to)
		if err != nil {
			return nil, err
		}
		b, err := p.MarshalBinary()
		if err != nil {
			return nil, err
		}
		return (&ethernet.Frame{Destination: ethernet.Broadcast, Source: mac, EtherType: ethernet.EtherTypeARP, Payload: b}).MarshalBinary()
	}
}

// arpAnswer recognises replies to us. What is announced to everybody proves only that we receive.
func arpAnswer(mac net.HardwareAddr, targets []netip.Addr) func([]byte) (netip.Addr, bool) {
	return func(frame []byte) (netip.Addr, bool) {
		var p arp.Packet
		if len(frame) < 14 || !bytes.Equal(frame[:6], mac) || p.UnmarshalBinary(frame[14:]) != nil || p.Operation != arp.OperationReply {
			return netip.Addr{}, false
		}
		return p.SenderIP, slices.Contains(targets, p.SenderIP)
	}
}

func solicitation(mac net.HardwareAddr, from netip.Addr) func(netip.Addr) ([]byte, error) {
	return func(to netip.Addr) ([]byte, error) {
		group, err := ndp.SolicitedNodeMulticast(to)
		if err != nil {
			return nil, err
		}
		ns := &ndp.NeighborSolicitation{TargetAddress: to, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac}}}
		icmp, err := ndp.MarshalMessageChecksum(ns, from, group)
		if err != nil {
			return nil, err
		}
		ip := []byte{0x60, 0, 0, 0}
		ip = binary.BigEndian.AppendUint16(ip, uint16(len(icmp)))
		ip = append(ip, 58, 255) // ICMPv6; the hop limit is mandatory (RFC 4861 §7.1.1)
		ip = append(append(append(ip, from.AsSlice()...), group.AsSlice()...), icmp...)
		g := group.As16()
		dst := net.HardwareAddr{0x33, 0x33, g[12], g[13], g[14], g[15]} // RFC 2464 §7
		return (&ethernet.Frame{Destination: dst, Source: mac, EtherType: ethernet.EtherTypeIPv6, Payload: ip}).MarshalBinary()
	}
}

func advertised(targets []netip.Addr) func([]byte) (netip.Addr, bool) {
	return func(frame []byte) (netip.Addr, bool) {
		if len(frame) < 14+40 || frame[14+6] != 58 || frame[14+7] != 255 {
			return netip.Addr{}, false
		}
		m, err := ndp.ParseMessage(frame[14+40:])
		na, ok := m.(*ndp.NeighborAdvertisement)
		if err != nil || !ok || !na.Solicited {
			return netip.Addr{}, false
		}
		return na.TargetAddress, slices.Contains(targets, na.TargetAddress)
	}
}

// linkLocal is a NIC's link-local IPv6 address.
func linkLocal(ifi *net.Interface) netip.Addr {
	addrs, _ := ifi.Addrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, _ := netip.AddrFromSlice(n.IP); ip.Is6() && !ip.Is4In6() && ip.IsLinkLocalUnicast() {
				return ip
			}
		}
	}
	return netip.Addr{}
}

var (
	arpReplies = mustAssemble(
		bpf.LoadAbsolute{Off: 20, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(arp.OperationReply), SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	)
	advertisements = mustAssemble(
		bpf.LoadAbsolute{Off: 20, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 58, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 54, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 136, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	)
)
