package gate

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// In the rules, everything is matched by its offset in the frame (link-layer base): in the egress hook
// of an AF_PACKET frame that needs no help from the IP layer, which would stumble over the wrong checksums.
const (
	offEtherDst  = 0
	offEtherSrc  = 6
	offEtherType = 12
	offUDPDst    = 36
	offARPSender = 28 // sender protocol address

	offNextHeader = 14 + 6 // of IPv6
	offICMPv6Type = 14 + 40
	offMagic      = wire.OffsetPayload + wire.OffsetMagic
	offIDs        = wire.OffsetPayload + wire.OffsetIDs
	offOrder      = wire.OffsetPayload + wire.OffsetOrder
)

func ingress(set *nftables.Set, d Device) [][]expr.Any {
	to := match(offEtherDst, d.Shared[:])
	return [][]expr.Any{
		slices.Concat(match(offEtherDst, []byte{0x11, 0, 0, 0}), overFlood(), drop()),
		slices.Concat(to, has(set, keyLease), hasNot(set, keyShut), counted(), accept()),
		slices.Concat(to, has(set, keyDrain), counted(), accept()),
		slices.Concat(to, drop()),
	}
}

// egress are the rules of what leaves. vips holds the IPv4 addresses of the device's VIPs; own is the device's own MAC.
func egress(set, vips *nftables.Set, d Device, own []byte, cfg Config) [][]expr.Any {
	ours := slices.Concat(
		match(offEtherDst, []byte{0x11, 0, 0, 0}),
		match(offUDPDst, binary.BigEndian.AppendUint16(nil, wire.Port)),
		match(offMagic, binary.BigEndian.AppendUint16(nil, wire.Magic)),
		match(offIDs, []byte{cfg.Cluster, cfg.Member}),
	)
	order := func(o wire.Order) []expr.Any { return slices.Concat(ours, match(offOrder, []byte{byte(o)})) }
	from := match(offEtherSrc, d.Shared[:])
	rules := [][]expr.Any{
		slices.Concat(order(wire.Keep), has(set, keyLease), hasNot(set, keyShut), put(set, keyLease, cfg.Lease), accept()),
		slices.Concat(order(wire.Keep), drop()),
		slices.Concat(order(wire.Open), put(set, keyLease, cfg.Lease), accept()),
		slices.Concat(order(wire.Shut), put(set, keyShut, cfg.Lease), accept()),
		slices.Concat(order(wire.Drain), put(set, keyDrain, cfg.Drain), put(set, keyShut, cfg.Lease), accept()),
		slices.Concat(from, has(set, keyLease), hasNot(set, keyShut), accept()),
	}
	// What came in while the gate drains is forwarded. A flow of a flowtable leaves by the macvlan, from the shared MAC, which would draw the switches back to
	// this member: it leaves from the NIC's own. ARP and neighbour discovery (RFC 4861) speak for the addresses and do not leave.
	draining := slices.Concat(from, has(set, keyDrain))
	rules = append(rules,
		slices.Concat(draining, match(offEtherType, []byte{0x08, 0x00}), setSource(own), accept()),
		slices.Concat(draining, match(offEtherType, []byte{0x86, 0xdd}), match(offNextHeader, []byte{58}), between(offICMPv6Type, 133, 137), drop()),
		slices.Concat(draining, match(offEtherType, []byte{0x86, 0xdd}), setSource(own), accept()),
		slices.Concat(from, drop()),
	)
	return append(rules, slices.Concat(match(offEtherType, []byte{0x08, 0x06}), in(vips, offARPSender, 4), drop()))
}

// vipSet is the set of a device's IPv4 VIPs with its elements. With one rule for each of 250 VIPs every frame would pass
// them all.
func vipSet(t *nftables.Table, device string, vips []netip.Addr) (*nftables.Set, []nftables.SetElement) {
	var elems []nftables.SetElement
	for _, v := range vips {
		if v.Is4() {
			elems = append(elems, nftables.SetElement{Key: v.AsSlice()})
		}
	}
	return &nftables.Set{Table: t, Name: "vips-" + device, KeyType: nftables.TypeIPAddr}, elems
}

// Heartbeats that may come in on one NIC, in frames a second and at once. Seven peers at the fastest timing send
// 7,000. What exceeds this is dropped before it costs the real-time process anything: a stranger on one LAN
// must not be able to use up its share of the CPU (kernel.sched_rt_runtime_us) and with it the role. Peers are
// heard on the other NICs meanwhile.
const (
	floodRate  = 10000
	floodBurst = 1000
)

func overFlood() []expr.Any {
	return []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: floodRate, Unit: expr.LimitTimeSecond, Burst: floodBurst, Over: true}}
}

func match(offset uint32, want []byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: offset, Len: uint32(len(want))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: want},
	}
}

// between matches one byte in a range.
func between(offset uint32, from, to byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: offset, Len: 1},
		&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: []byte{from}, ToData: []byte{to}},
	}
}

// setSource rewrites the source MAC.
func setSource(mac []byte) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: mac},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: offEtherSrc, Len: uint32(len(mac))},
	}
}

func in(set *nftables.Set, offset, length uint32) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: offset, Len: length},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
	}
}

func key(k uint32) expr.Any {
	return &expr.Immediate{Register: 1, Data: binary.NativeEndian.AppendUint32(nil, k)}
}

func has(set *nftables.Set, k uint32) []expr.Any {
	return []expr.Any{key(k), &expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID}}
}

func hasNot(set *nftables.Set, k uint32) []expr.Any {
	return []expr.Any{key(k), &expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: true}}
}

func put(set *nftables.Set, k uint32, d time.Duration) []expr.Any {
	return []expr.Any{key(k), &expr.Dynset{SrcRegKey: 1, SetName: set.Name, SetID: set.ID, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: d}}
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

func counted() []expr.Any { return []expr.Any{&expr.Counter{}} }

func drop() []expr.Any {
	return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}
}
