package port

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Control is a raw socket on one NIC that sees the Cluster Control Protocol and nothing else. It is apart from the
// heartbeats' socket, so that a flood of the one fills no queue of the other.
type Control struct {
	Port
	group int // socket that is a member of the multicast group
}

// OpenControl opens the NIC for frames to a UDP port, and joins the IPv4 multicast group there: the NIC must take its
// frames, and the kernel tells switches that snoop IGMP (RFC 4541) that somebody wants them.
func OpenControl(device string, udp uint16, group netip.Addr) (*Control, error) {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", device, err)
	}
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_IP, &packet.Config{Filter: udpFilter(udp)})
	if err != nil {
		return nil, fmt.Errorf("open %s for UDP %d: %w", device, udp, err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		if err = unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(ifi.Index)}); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("join %s on %s: %w", group, device, err)
	}
	return &Control{Port: Port{conn: conn, dst: packet.Addr{HardwareAddr: make(net.HardwareAddr, 6)}}, group: fd}, nil
}

// Close ends a waiting Receive and leaves the group.
func (c *Control) Close() error {
	unix.Close(c.group)
	return c.Port.Close()
}

// Dropped is how many frames the kernel dropped since the last call because nobody had fetched them in time.
func (c *Control) Dropped() uint64 {
	s, err := c.conn.Stats()
	if err != nil {
		return 0
	}
	return uint64(s.Drops)
}

// udpFilter lets UDP over IPv4 without options to one port in.
func udpFilter(port uint16) []bpf.RawInstruction {
	return mustAssemble(
		bpf.LoadAbsolute{Off: 14, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0x45, SkipTrue: 5},
		bpf.LoadAbsolute{Off: 23, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 17, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 36, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(port), SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	)
}
