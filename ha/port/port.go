// Package port moves heartbeat frames in and out of NICs as raw Ethernet (AF_PACKET), below the IP layer and
// the packet filter: a wrong checksum does not stop them, nor does a full connection table or a ruleset
// reload (reference/peers.md, fault 3). It also reports carriers.
package port

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// Port is a raw socket on one NIC that sees heartbeats and nothing else.
type Port struct {
	conn *packet.Conn
	dst  packet.Addr
}

// Open opens the NIC with the given kernel name. Every group address is received, not only the one with our
// NN: a peer whose NIC sits in another PCI place must be heard and named, not overlooked.
func Open(device string) (*Port, error) {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", device, err)
	}
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_IP, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("open %s for raw frames: %w", device, err)
	}
	if err := allMulticast(conn, ifi.Index); err != nil {
		conn.Close()
		return nil, fmt.Errorf("receive all multicast on %s: %w", device, err)
	}
	return &Port{conn: conn, dst: packet.Addr{HardwareAddr: net.HardwareAddr{0x11, 0, 0, 0, 0, 0}}}, nil
}

// Send sends one whole Ethernet frame.
func (p *Port) Send(frame []byte) error {
	_, err := p.conn.WriteTo(frame, &p.dst)
	return err
}

// Receive waits for one frame and returns its length. A frame longer than b is cut to it.
func (p *Port) Receive(b []byte) (int, error) {
	n, _, err := p.conn.ReadFrom(b)
	return n, err
}

// Close ends a waiting Receive.
func (p *Port) Close() error { return p.conn.Close() }

// filter lets only heartbeats in, whatever else the NIC carries: destination 11-00-00-00-xx-xx, UDP to
// port 999 without IP options. What a heartbeat looks like beyond that is for ha/wire to judge and count.
var filter = mustAssemble(
	bpf.LoadAbsolute{Off: 0, Size: 4},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0x11000000, SkipTrue: 6},
	bpf.LoadAbsolute{Off: 23, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 17, SkipTrue: 4},
	bpf.LoadAbsolute{Off: 36, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: wire.Port, SkipTrue: 2},
	bpf.RetConstant{Val: 1 << 16},
	bpf.RetConstant{Val: 0},
	bpf.RetConstant{Val: 0},
)

func mustAssemble(ins ...bpf.Instruction) []bpf.RawInstruction {
	raw, err := bpf.Assemble(ins)
	if err != nil {
		panic("port: " + err.Error()) // a constant program
	}
	return raw
}

func allMulticast(conn *packet.Conn, index int) error {
	rc, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var opErr error
	if err := rc.Control(func(fd uintptr) {
		opErr = unix.SetsockoptPacketMreq(int(fd), unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_ALLMULTI})
	}); err != nil {
		return err
	}
	return opErr
}

// SendOnce sends one frame on a device without keeping a socket: for the farewell of a process that is gone.
func SendOnce(device string, frame []byte) error {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return fmt.Errorf("send on %s: %w", device, err)
	}
	// Protocol 0: a socket that receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("send on %s: %w", device, err)
	}
	defer unix.Close(fd)
	// sll_protocol is in network byte order.
	proto := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_IP))
	if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: ifi.Index, Protocol: proto}); err != nil {
		return fmt.Errorf("send on %s: %w", device, err)
	}
	return nil
}
