// Package tap counts the frames of virtual addresses on NICs, as a capture with the filter "host VIP" shows them, without copying
// one: sockets with a filter and no room count what the kernel offers them. It sees frames that come in before the gate, and frames
// that go out behind it.
package tap

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// kind is what a program counts.
type kind int

const (
	in        kind = iota // unicast frames for this member: to the shared MAC; or to the NIC's own, for a VIP
	out                   // unicast frames of this member: from the shared MAC, or from a VIP
	neighbour             // ARP, neighbour discovery and broadcasts of a VIP, both ways
)

// The most addresses of one NIC that programs know; frames of further ones count by the shared MAC only. A program has at most
// 4,096 instructions (BPF_MAXINSNS).
const (
	max4 = 256
	max6 = 64
)

// Offsets in frames, and types.
const (
	offType       = 12
	offNextHeader = 14 + 6 // of IPv6
	offICMPv6Type = 14 + 40
)

var (
	accept = bpf.RetConstant{Val: 1} // no byte is copied: one would do for a count
	reject = bpf.RetConstant{Val: 0}
)

// program makes the filter for one NIC.
func program(k kind, shared net.HardwareAddr, vips []netip.Addr) []bpf.Instruction {
	var p []bpf.Instruction
	add := func(ins ...bpf.Instruction) { p = append(p, ins...) }
	// A frame of a VLAN counts on the VLAN's own device.
	add(bpf.LoadExtension{Num: bpf.ExtVLANTagPresent}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1}, reject)
	switch k {
	case in:
		add(bpf.LoadExtension{Num: bpf.ExtType}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OUTGOING, SkipTrue: 1}, reject)
	case out:
		add(bpf.LoadExtension{Num: bpf.ExtType}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OUTGOING, SkipTrue: 1}, reject)
	}
	return append(p, classify(k, shared, vips)...)
}

// classify is the part of a program that goes by the frame.
func classify(k kind, shared net.HardwareAddr, vips []netip.Addr) []bpf.Instruction {
	var p []bpf.Instruction
	add := func(ins ...bpf.Instruction) { p = append(p, ins...) }
	// What speaks for addresses, or goes to all, gets to the first of the instructions behind; all else to the second.
	add(
		bpf.LoadAbsolute{Off: offType, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_ARP, SkipTrue: 9},
		bpf.LoadAbsolute{Off: 0, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 1, SkipTrue: 7},
		bpf.LoadAbsolute{Off: offType, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IPV6, SkipTrue: 6},
		bpf.LoadAbsolute{Off: offNextHeader, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 4},
		bpf.LoadAbsolute{Off: offICMPv6Type, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: 133, SkipTrue: 2}, // RFC 4861: 133 to 137
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: 137, SkipTrue: 1},
	)
	if k == neighbour {
		add(bpf.Jump{Skip: 1}, reject)
	} else {
		add(reject)
	}
	mac := func(offset uint32) {
		add(
			bpf.LoadAbsolute{Off: offset, Size: 4}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(shared[:4]), SkipTrue: 3},
			bpf.LoadAbsolute{Off: offset + 4, Size: 2}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(binary.BigEndian.Uint16(shared[4:])), SkipTrue: 1}, accept,
		)
	}
	if len(shared) == 6 && k != out {
		mac(0)
	}
	if len(shared) == 6 && k != in {
		mac(6)
	}
	if k == in { // with another address of this member's: only if it is for this member
		add(bpf.LoadExtension{Num: bpf.ExtType}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_HOST, SkipTrue: 1}, reject)
	}
	var four, six []netip.Addr
	for _, v := range vips {
		if v.Is4() && len(four) < max4 {
			four = append(four, v)
		} else if !v.Is4() && len(six) < max6 {
			six = append(six, v)
		}
	}
	for _, of := range []struct {
		etherType, source, target uint32
		list                      []netip.Addr
	}{{unix.ETH_P_IP, 26, 30, four}, {unix.ETH_P_ARP, 28, 38, four}, {unix.ETH_P_IPV6, 22, 38, six}} {
		var block []bpf.Instruction
		if k != in {
			block = append(block, anyOf(of.source, of.list)...)
		}
		if k != out {
			block = append(block, anyOf(of.target, of.list)...)
		}
		add(bpf.LoadAbsolute{Off: offType, Size: 2}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: of.etherType, SkipTrue: 1}, bpf.Jump{Skip: uint32(len(block))})
		add(block...)
	}
	add(reject)
	return p
}

// anyOf accepts when the address at an offset is one of the list; else it goes on behind.
func anyOf(offset uint32, list []netip.Addr) (p []bpf.Instruction) {
	for i, a := range list {
		if a.Is4() {
			if i == 0 {
				p = append(p, bpf.LoadAbsolute{Off: offset, Size: 4})
			}
			p = append(p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(a.AsSlice()), SkipTrue: 1}, accept)
			continue
		}
		b := a.AsSlice()
		for word := range uint32(4) {
			p = append(p, bpf.LoadAbsolute{Off: offset + 4*word, Size: 4},
				bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(b[4*word:]), SkipTrue: uint8(2*(3-word) + 1)})
		}
		p = append(p, accept)
	}
	return p
}
