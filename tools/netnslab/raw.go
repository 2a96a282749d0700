package netnslab

import (
	"encoding/binary"
	"net"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Raw opens a NIC of the namespace for whole frames. It receives what comes in, not what others send out.
func (n *NS) Raw(device string) *packet.Conn {
	n.t.Helper()
	var conn *packet.Conn
	n.Do(func() {
		ifi, err := net.InterfaceByName(device)
		if err == nil {
			conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: incoming})
		}
		if err != nil {
			n.t.Errorf("open %s: %v", device, err)
		}
	})
	if conn == nil {
		n.t.FailNow()
	}
	return conn
}

// incoming refuses frames that leave by the NIC (PACKET_OUTGOING).
var incoming = func() []bpf.RawInstruction {
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OUTGOING, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		panic("netnslab: " + err.Error()) // a constant program
	}
	return raw
}()

// MAC of a NIC of the namespace.
func (n *NS) MAC(device string) (mac net.HardwareAddr) {
	n.t.Helper()
	n.Do(func() {
		if ifi, err := net.InterfaceByName(device); err == nil {
			mac = ifi.HardwareAddr
		}
	})
	return mac
}

// To is where a frame sent with [NS.Raw] goes.
func To(mac net.HardwareAddr) *packet.Addr { return &packet.Addr{HardwareAddr: mac} }

// Index of a NIC of the namespace.
func (n *NS) Index(device string) (index int) {
	n.t.Helper()
	n.Do(func() {
		if ifi, err := net.InterfaceByName(device); err == nil {
			index = ifi.Index
		}
	})
	return index
}

// AllNICs receives what comes in on every NIC of a namespace, in the kernel's order.
type AllNICs struct{ fd int }

// RawAll opens all NICs of the namespace.
func (n *NS) RawAll() *AllNICs {
	n.t.Helper()
	a := &AllNICs{fd: -1}
	n.Do(func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))))
		if err == nil {
			err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50000})
		}
		if err != nil {
			n.t.Errorf("open all NICs: %v", err)
		}
		a.fd = fd
	})
	return a
}

// Receive gives the next frame and the index of the NIC it came in on. It returns at the latest after 50 ms, then with
// an error.
func (a *AllNICs) Receive(b []byte) (n, index int, err error) {
	for {
		n, from, err := unix.Recvfrom(a.fd, b, 0)
		if err != nil {
			return 0, 0, err
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING {
			return n, ll.Ifindex, nil
		}
	}
}

// Close closes the socket.
func (a *AllNICs) Close() error { return unix.Close(a.fd) }

// ReceiveNow is Receive without waiting: it returns an error when there is no frame.
func (a *AllNICs) ReceiveNow(b []byte) (n, index int, err error) {
	for {
		n, from, err := unix.Recvfrom(a.fd, b, unix.MSG_DONTWAIT)
		if err != nil {
			return 0, 0, err
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING {
			return n, ll.Ifindex, nil
		}
	}
}
