// Package capture takes frames from one interface as they come in and leave, with a packet socket and a filter in the kernel.
//
// What it sees lies outside of the gate and the ruleset on the way in, and inside on the way out: a frame that a shut gate refuses is seen coming
// in, and never leaving (packet sockets stand in front of the ingress hook and behind the egress hook).
package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/capture/filter"
	"github.com/twinkeep/twinkeep/firmware/capture/pcapng"
)

// buffer is how much the kernel keeps for a reader that is late, in bytes; what does not fit is counted as dropped.
const buffer = 4 << 20

// Config of a capture.
type Config struct {
	Device string // kernel name of the interface
	Filter string // in tcpdump's syntax; empty: everything
	// Snaplen is how many bytes of a frame are kept; 0: all.
	Snaplen uint32
	// Promiscuous asks the NIC for frames to other addresses, too, while the capture lasts.
	Promiscuous bool
}

// Capture is one that runs. Its methods must be called from one goroutine, but for Close.
type Capture struct {
	conn   *socket.Conn
	config Config
	buf    []byte
	oob    []byte
	total  pcapng.Statistics
}

// Open begins a capture. An error of the filter is a *filter.Error.
func Open(c Config) (*Capture, error) {
	program, err := filter.Compile(c.Filter, filter.Options{Snaplen: c.Snaplen, Live: true})
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("capture on %s: the filter: %w", c.Device, err)
	}
	ifi, err := net.InterfaceByName(c.Device)
	if err != nil {
		return nil, fmt.Errorf("capture on %s: %w", c.Device, err)
	}
	// Protocol 0: the socket gets nothing before it has its filter and its interface.
	conn, err := socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "capture", nil)
	if err != nil {
		return nil, fmt.Errorf("capture on %s: %w", c.Device, err)
	}
	if err := prepare(conn, c, ifi.Index, raw); err != nil {
		conn.Close()
		return nil, fmt.Errorf("capture on %s: %w", c.Device, err)
	}
	keep := uint32(filter.MaxSnaplen)
	if c.Snaplen > 0 {
		keep = min(keep, c.Snaplen)
	}
	return &Capture{conn: conn, config: c, buf: make([]byte, tagLen+keep), oob: make([]byte, 256)}, nil
}

func prepare(conn *socket.Conn, c Config, index int, program []bpf.RawInstruction) error {
	var errs []error
	errs = append(errs, conn.SetBPF(program), conn.SetReadBuffer(buffer))
	for _, o := range []struct{ level, name int }{{unix.SOL_PACKET, unix.PACKET_AUXDATA}, {unix.SOL_SOCKET, unix.SO_TIMESTAMPNS}} {
		errs = append(errs, conn.SetsockoptInt(o.level, o.name, 1))
	}
	if c.Promiscuous { // it ends with the socket
		errs = append(errs, conn.SetsockoptPacketMreq(unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	return conn.Bind(&unix.SockaddrLinklayer{Protocol: all, Ifindex: index})
}

// Close ends the capture; a waiting Next returns.
func (c *Capture) Close() error { return c.conn.Close() }

// ErrGone says that the interface does not exist any more.
var ErrGone = errors.New("the interface is gone")

// Next gives the next frame, whose data is good until the next call. At the deadline it returns os.ErrDeadlineExceeded; the zero time means none. An
// interface that goes down is waited for; one that is removed is ErrGone, at the deadline at the latest: the kernel tells of both as one.
func (c *Capture) Next(deadline time.Time) (pcapng.Packet, error) {
	if err := c.conn.SetReadDeadline(deadline); err != nil {
		return pcapng.Packet{}, err
	}
	for {
		// Room for a tag is left in front.
		n, oobn, _, from, err := c.conn.Recvmsg(context.Background(), c.buf[tagLen:], c.oob, 0)
		switch {
		case (errors.Is(err, unix.ENETDOWN) || errors.Is(err, os.ErrDeadlineExceeded)) && c.gone():
			return pcapng.Packet{}, ErrGone
		case errors.Is(err, unix.ENETDOWN):
			continue // the error is told once; when the interface is up again frames come
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return pcapng.Packet{}, err
		}
		direction := pcapng.Inbound
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			direction = pcapng.Outbound
		}
		return frame(c.buf[:tagLen+n], c.oob[:oobn], direction), nil
	}
}

// gone reports whether the kernel has taken the interface from the socket.
func (c *Capture) gone() bool {
	a, err := c.conn.Getsockname()
	ll, ok := a.(*unix.SockaddrLinklayer)
	return err != nil || !ok || ll.Ifindex <= 0
}

// Statistics are those since the capture began.
func (c *Capture) Statistics() (pcapng.Statistics, error) {
	s, err := c.conn.GetsockoptTpacketStats(unix.SOL_PACKET, unix.PACKET_STATISTICS) // since it was asked last
	if err != nil {
		return c.total, fmt.Errorf("capture on %s: %w", c.config.Device, err)
	}
	c.total.Received += uint64(s.Packets)
	c.total.Dropped += uint64(s.Drops)
	c.total.Time = time.Now()
	return c.total, nil
}
