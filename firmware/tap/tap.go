package tap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Device is one NIC that carries virtual addresses.
type Device struct {
	Name   string // kernel name
	Shared net.HardwareAddr
	VIPs   []netip.Addr
}

// Count is what was seen of the virtual addresses of one NIC, in frames as the kernel hands them over: what it has put together
// (GRO) is one.
type Count struct {
	In, Out   uint64 // unicast, for this member and from it
	Neighbour uint64 // ARP, neighbour discovery, broadcasts
	Err       error  // the NIC could not be watched
}

// Watch counts for a time, in the network namespace of the calling thread. It ends early with ctx, and gives its error then.
func Watch(ctx context.Context, devices []Device, length time.Duration) (map[string]Count, error) {
	counts := make(map[string]Count, len(devices))
	open := make(map[string][]*packet.Conn, len(devices))
	defer func() {
		for _, conns := range open {
			for _, c := range conns {
				c.Close()
			}
		}
	}()
	for _, d := range devices {
		for _, k := range []kind{in, out, neighbour} {
			c, err := listen(d, k)
			if err != nil {
				counts[d.Name] = Count{Err: err}
				break
			}
			open[d.Name] = append(open[d.Name], c)
		}
	}
	for _, conns := range open {
		for _, c := range conns {
			c.Stats() // begins anew
		}
	}
	t := time.NewTimer(length)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.C:
	}
	for _, d := range devices {
		if counts[d.Name].Err != nil {
			continue
		}
		var n Count
		for i, field := range []*uint64{&n.In, &n.Out, &n.Neighbour} {
			s, err := open[d.Name][i].Stats()
			if err != nil {
				n.Err = errors.Join(n.Err, fmt.Errorf("watch %s: %w", d.Name, err))
				continue
			}
			*field = uint64(s.Packets)
		}
		counts[d.Name] = n
	}
	return counts, nil
}

// listen opens a socket that counts and keeps next to nothing.
func listen(d Device, k kind) (*packet.Conn, error) {
	ifi, err := net.InterfaceByName(d.Name)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", d.Name, err)
	}
	filter, err := bpf.Assemble(program(k, d.Shared, d.VIPs))
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", d.Name, err)
	}
	c, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", d.Name, err)
	}
	rc, err := c.SyscallConn()
	if err == nil {
		err = rc.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 0) // the kernel's least; what does not fit is counted all the same
		})
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("watch %s: %w", d.Name, err)
	}
	return c, nil
}
