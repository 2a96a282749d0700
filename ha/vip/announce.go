package vip

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// Announcement is the frames that tell a LAN where virtual addresses are now, ready to send.
//
// For IPv4 each address is announced twice, as gratuitous ARP request and as reply, for there are neighbours
// that take only the one or the other; for IPv6 with an unsolicited neighbour advertisement (RFC 4861
// §7.2.6, override flag set) to all nodes. All of them carry the shared MAC as Ethernet source, which
// moves it in every switch on the way.
func Announcement(mac wire.MAC, addrs []netip.Addr) ([][]byte, error) {
	hw := net.HardwareAddr(mac[:])
	var frames [][]byte
	for _, a := range addrs {
		if a.Is4() {
			for _, op := range []arp.Operation{arp.OperationRequest, arp.OperationReply} {
				f, err := gratuitousARP(op, hw, a)
				if err != nil {
					return nil, fmt.Errorf("gratuitous ARP for %s: %w", a, err)
				}
				frames = append(frames, f)
			}
			continue
		}
		f, err := unsolicitedNA(hw, a)
		if err != nil {
			return nil, fmt.Errorf("unsolicited neighbour advertisement for %s: %w", a, err)
		}
		frames = append(frames, f)
	}
	return frames, nil
}

func gratuitousARP(op arp.Operation, hw net.HardwareAddr, a netip.Addr) ([]byte, error) {
	target := ethernet.Broadcast
	if op == arp.OperationRequest {
		target = make(net.HardwareAddr, 6)
	}
	p, err := arp.NewPacket(op, hw, a, target, a)
	if err != nil {
		return nil, err
	}
	b, err := p.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return (&ethernet.Frame{Destination: ethernet.Broadcast, Source: hw, EtherType: ethernet.EtherTypeARP, Payload: b}).MarshalBinary()
}

var (
	allNodes    = netip.MustParseAddr("ff02::1")
	allNodesMAC = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
)

func unsolicitedNA(hw net.HardwareAddr, a netip.Addr) ([]byte, error) {
	na := &ndp.NeighborAdvertisement{
		Router: true, Override: true, TargetAddress: a,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: hw}},
	}
	icmp, err := ndp.MarshalMessageChecksum(na, a, allNodes)
	if err != nil {
		return nil, err
	}
	ip := []byte{0x60, 0, 0, 0} // version 6
	ip = binary.BigEndian.AppendUint16(ip, uint16(len(icmp)))
	ip = append(ip, 58, 255) // ICMPv6; hop limit 255 is mandatory (RFC 4861 §7.1.2)
	ip = append(ip, a.AsSlice()...)
	ip = append(ip, allNodes.AsSlice()...)
	return (&ethernet.Frame{Destination: allNodesMAC, Source: hw, EtherType: ethernet.EtherTypeIPv6, Payload: append(ip, icmp...)}).MarshalBinary()
}
