package vip

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// Claim is a foreign MAC that says it has one of our IPv4 addresses.
type Claim struct {
	Addr netip.Addr
	MAC  wire.MAC
}

// Claims watches one NIC for other hosts that use our addresses: a router with the shared address left on it, two members
// with one private address. It listens, and it asks, for whoever answers a neighbour directly is not heard otherwise.
type Claims struct {
	conn    *packet.Conn
	mac     net.HardwareAddr
	private netip.Addr
	addrs   []netip.Addr // IPv4, ours to watch
	rightly []wire.MAC
	buf     []byte
}

// OpenClaims watches the device. mac is the shared MAC; private is the NIC's own address, vips are the shared ones, of which
// the IPv4 ones count.
func OpenClaims(device string, mac wire.MAC, private netip.Addr, vips []netip.Addr) (*Claims, error) {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fmt.Errorf("watch addresses on %s: %w", device, err)
	}
	c := &Claims{mac: ifi.HardwareAddr, private: private, buf: make([]byte, 128)}
	for _, a := range append([]netip.Addr{private}, vips...) {
		if a.Is4() && len(c.addrs) < maxClaims {
			c.addrs = append(c.addrs, a)
		}
	}
	if len(ifi.HardwareAddr) != 6 || len(c.addrs) == 0 {
		return nil, fmt.Errorf("watch addresses on %s: no Ethernet address or nothing to watch", device)
	}
	c.rightly = []wire.MAC{mac, wire.MAC(ifi.HardwareAddr)}
	c.conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ARP, &packet.Config{Filter: claimFilter(c.addrs)})
	if err != nil {
		return nil, fmt.Errorf("watch addresses on %s: %w", device, err)
	}
	return c, nil
}

// maxClaims is how many addresses of one NIC are watched.
const maxClaims = 64

// Offsets in an ARP frame (RFC 826 over Ethernet).
const (
	offType      = 12
	offSenderMAC = 22
	offSenderIP  = 28
	arpLen       = 42
)

// claimFilter lets incoming ARP in whose sender says it has one of the addresses.
func claimFilter(addrs []netip.Addr) []bpf.RawInstruction {
	n := len(addrs)
	prog := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OUTGOING, SkipTrue: uint8(n + 3)},
		bpf.LoadAbsolute{Off: offType, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_ARP, SkipTrue: uint8(n + 1)},
		bpf.LoadAbsolute{Off: offSenderIP, Size: 4},
	}
	for i, a := range addrs {
		b := a.As4()
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), SkipTrue: uint8(n - i)})
	}
	raw, err := bpf.Assemble(append(prog, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: arpLen}))
	if err != nil {
		panic("vip: " + err.Error()) // the same for any addresses
	}
	return raw
}

// Receive waits for one frame. It reports false when that is no claim of somebody else.
func (c *Claims) Receive() (Claim, bool, error) {
	n, _, err := c.conn.ReadFrom(c.buf)
	if err != nil {
		return Claim{}, false, err
	}
	claim, ok := parseClaim(c.buf[:n])
	return claim, ok && !slices.Contains(c.rightly, claim.MAC) && slices.Contains(c.addrs, claim.Addr), nil
}

// parseClaim reads who says that it has which address.
func parseClaim(frame []byte) (Claim, bool) {
	if len(frame) < arpLen || !bytes.Equal(frame[offType:offType+8], []byte{0x08, 0x06, 0, 1, 8, 0, 6, 4}) {
		return Claim{}, false
	}
	a, _ := netip.AddrFromSlice(frame[offSenderIP : offSenderIP+4])
	return Claim{Addr: a, MAC: wire.MAC(frame[offSenderMAC : offSenderMAC+6])}, true
}

// Ask asks the LAN who has our addresses.
func (c *Claims) Ask() error {
	for _, a := range c.addrs {
		sender := c.private
		if a == c.private {
			sender = netip.IPv4Unspecified() // an ARP probe (RFC 5227 §2.1.1): it teaches nobody anything
		}
		p, err := arp.NewPacket(arp.OperationRequest, c.mac, sender, make(net.HardwareAddr, 6), a)
		if err != nil {
			return err
		}
		b, err := p.MarshalBinary()
		if err != nil {
			return err
		}
		f, err := (&ethernet.Frame{Destination: ethernet.Broadcast, Source: c.mac, EtherType: ethernet.EtherTypeARP, Payload: b}).MarshalBinary()
		if err != nil {
			return err
		}
		if _, err := c.conn.WriteTo(f, &packet.Addr{HardwareAddr: ethernet.Broadcast}); err != nil {
			return err
		}
	}
	return nil
}

// Close ends a waiting Receive.
func (c *Claims) Close() error { return c.conn.Close() }
