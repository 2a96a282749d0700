package hold

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Lease is how long frames are held after the last Renew.
const Lease = 300 * time.Millisecond

// maxHeld bounds the frames that are taken at a time, holdBuffer (in bytes, as the kernel counts them: some 768 for a small frame) those
// that wait on one NIC; further ones are lost, as in any full queue.
const (
	maxHeld    = 512
	holdBuffer = 4 << 20
)

// vnetHeader is struct virtio_net_hdr, which a packet socket puts before each frame: what is left to do to its checksum, and
// how to cut it.
const vnetHeader = 10

// frameSize fits a segment that is cut only by the NIC.
const frameSize = vnetHeader + 14 + 64<<10

// Hold is the hold on some NICs.
type Hold struct{ ports []*port }

// port is one NIC with the veth pair of its held frames.
type port struct {
	nic    string
	in     *os.File // the end of the pair that frames arrive at
	conn   syscall.RawConn
	out    int // sends out of the NIC
	frames [][]byte
	buf    []byte
}

// names of the veth pair of the i-th NIC.
func names(i int) (into, from string) { return fmt.Sprintf("hold%d", i), fmt.Sprintf("held%d", i) }

// Open puts the hold into the kernel. Nothing is held until Renew.
func Open(nics []string) (*Hold, error) {
	h := &Hold{}
	for i, nic := range nics {
		p, err := openPort(i, nic)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("hold the first packets of %s: %w", nic, err), h.Close())
		}
		h.ports = append(h.ports, p)
	}
	if err := install(nics); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func openPort(i int, nic string) (*port, error) {
	into, from := names(i)
	if old, err := netlink.LinkByName(into); err == nil {
		if err := netlink.LinkDel(old); err != nil { // of a process that was killed
			return nil, fmt.Errorf("remove %s: %w", into, err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = into
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: from}); err != nil {
		return nil, fmt.Errorf("make the pair %s, %s: %w", into, from, err)
	}
	for _, name := range []string{into, from} {
		// Nothing but held frames is to be seen there.
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0) // not there without IPv6
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = errors.Join(netlink.LinkSetARPOff(link), netlink.LinkSetUp(link))
		}
		if err != nil {
			return nil, fmt.Errorf("bring up %s: %w", name, err)
		}
	}
	in, err := packetSocket(from, unix.ETH_P_ALL, unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, err
	}
	out, err := packetSocket(nic, 0, 0)
	if err != nil {
		unix.Close(in)
		return nil, err
	}
	if err := unix.SetsockoptInt(in, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, holdBuffer); err != nil {
		unix.Close(in)
		unix.Close(out)
		return nil, fmt.Errorf("size the buffer of %s: %w", from, err)
	}
	p := &port{nic: nic, in: os.NewFile(uintptr(in), from), out: out, buf: make([]byte, frameSize)}
	p.conn, err = p.in.SyscallConn()
	return p, err
}

// packetSocket opens one that gives and takes frames with their virtio_net_hdr.
func packetSocket(nic string, protocol uint16, flags int) (int, error) {
	ifi, err := net.InterfaceByName(nic)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		return -1, fmt.Errorf("open a packet socket: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8, Ifindex: ifi.Index})
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind a packet socket to %s: %w", nic, err)
	}
	return fd, nil
}

// Ports is the number of NICs.
func (h *Hold) Ports() int { return len(h.ports) }

// Wait waits until frames are held on a NIC, and takes them; an error when the hold was closed.
func (h *Hold) Wait(i int) (int, error) {
	p := h.ports[i]
	p.frames = p.frames[:0]
	var failed error
	err := p.conn.Read(func(fd uintptr) bool {
		for len(p.frames) < maxHeld {
			n, from, err := unix.Recvfrom(int(fd), p.buf, 0)
			switch {
			case errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.EAGAIN):
				return len(p.frames) > 0
			case err != nil:
				failed = err
				return true
			default:
				if sa, ok := from.(*unix.SockaddrLinklayer); ok && sa.Pkttype != unix.PACKET_OUTGOING && n > vnetHeader+14 {
					p.frames = append(p.frames, append([]byte(nil), p.buf[:n]...))
				}
			}
		}
		return true
	})
	return len(p.frames), errors.Join(err, failed)
}

// Dropped is how many frames were lost on a NIC since the last call, for want of room.
func (h *Hold) Dropped(i int) (n uint64) {
	_ = h.ports[i].conn.Control(func(fd uintptr) {
		if s, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			n = uint64(s.Drops)
		}
	})
	return n
}

// Release sends what Wait has taken. A frame that its NIC does not take is lost, like any other.
func (h *Hold) Release(i int) {
	p := h.ports[i]
	for _, f := range p.frames {
		_, _ = unix.Write(p.out, f)
	}
	p.frames = p.frames[:0]
}

// Stop removes the rules and ends every Wait.
func (h *Hold) Stop() error {
	err := remove()
	for _, p := range h.ports {
		p.in.Close()
	}
	return err
}

// Close removes everything, when nobody uses the hold any more.
func (h *Hold) Close() error {
	err := h.Stop()
	for i, p := range h.ports {
		unix.Close(p.out)
		into, _ := names(i)
		if link, e := netlink.LinkByName(into); e == nil {
			err = errors.Join(err, netlink.LinkDel(link))
		}
	}
	return err
}
