package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// path carries heartbeats over routers between the members and a witness elsewhere: the same payload as on a link, in
// ordinary UDP with right checksums. The TTL says nothing here; the tag, the nonce and the echo prove who speaks and
// that it speaks now. A member has one path to each such witness; the witness has one for all members.
//
// Its fields belong to the machine's goroutine, but for the counters.
type path struct {
	number uint8
	name   string
	remote netip.AddrPort // of a member's path: the witness; not valid at the witness

	conn    *net.UDPConn // nil while there is none
	raw     syscall.RawConn
	only4   bool                          // the kernel has no IPv6
	guests  [cluster.MaxMembers + 1]guest // at the witness, by member ID
	problem string
	sent    atomic.Uint64
	failed  atomic.Uint64
}

// guest is where a witness finds a member. The address is learnt, so that a member may sit behind address translation.
type guest struct {
	at     netip.AddrPort
	echoed uint64 // the highest sequence of ours that it has echoed from there
	// knock is an address from which something with a right tag came that proves nothing yet. It is answered once for
	// each heartbeat, so that a recording sent from elsewhere draws no stream of heartbeats there.
	knock  netip.AddrPort
	credit bool
}

// paths are those a configuration asks for.
func (c *Config) paths() []*path {
	var out []*path
	for _, w := range c.Witnesses {
		if !w.Address.IsValid() {
			continue
		}
		p := &path{number: uint8(cluster.MaxInterfaces - (int(w.ID) - cluster.MaxMembers - 1)), name: "routed"}
		switch {
		case c.Self == w.ID:
			return []*path{p}
		case c.Self <= cluster.MaxMembers:
			p.remote = netip.AddrPortFrom(w.Address, wire.Port)
			p.name = "routed to " + w.Name
			out = append(out, p)
		}
	}
	return out
}

// where names the other ends.
func (p *path) where() string {
	if p.remote.IsValid() {
		return p.remote.String()
	}
	var out []string
	for id, g := range p.guests {
		if g.at.IsValid() {
			out = append(out, fmt.Sprintf("%d at %s", id, netip.AddrPortFrom(g.at.Addr().Unmap(), g.at.Port())))
		}
	}
	return strings.Join(out, ", ")
}

// open makes the path's socket.
func (p *path) open() (*net.UDPConn, error) {
	// Two paths may have the same local port: being connected tells them apart.
	control := func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, 0xC0) // as on a link (ha/internal/udp4); harmless where it fails
		})
	}
	if !p.remote.IsValid() {
		c, err := (&net.ListenConfig{Control: control}).ListenPacket(context.Background(), "udp", fmt.Sprintf(":%d", wire.Port))
		if err != nil {
			return nil, err
		}
		return c.(*net.UDPConn), nil
	}
	c, err := (&net.Dialer{Control: control, LocalAddr: &net.UDPAddr{Port: wire.Port}}).Dial("udp", p.remote.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// send sends one heartbeat. It never waits: what the kernel does not take at once is lost, as on a link.
func (p *path) send(payload []byte) {
	if p.conn == nil {
		return
	}
	if p.remote.IsValid() {
		p.sendTo(netip.AddrPort{}, payload)
		return
	}
	for i := range p.guests {
		g := &p.guests[i]
		if g.at.IsValid() {
			p.sendTo(g.at, payload)
		}
		if g.credit {
			g.credit = false
			p.sendTo(g.knock, payload)
		}
	}
}

func (p *path) sendTo(to netip.AddrPort, payload []byte) {
	var err error
	controlErr := p.raw.Control(func(fd uintptr) {
		var sa unix.Sockaddr
		if to.IsValid() {
			if sa = (&unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}); p.only4 {
				sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().Unmap().As4()}
			}
		}
		err = unix.Sendmsg(int(fd), payload, nil, sa, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	})
	if errors.Join(err, controlErr) != nil {
		p.failed.Add(1)
		return
	}
	p.sent.Add(1)
}

// Heartbeats over routers that are read in a second and at once. What exceeds this stays in the socket's buffer and is
// dropped there by the kernel: strangers must not be able to use up the real-time process's share of the CPU.
const (
	travelRate  = 4000
	travelBurst = 400
)

// travel keeps a path's socket open and hands over what arrives, until the member is done.
func (m *Member) travel(p *path) {
	index := len(m.ports) + slices.Index(m.paths, p)
	for {
		conn, err := p.open()
		if err == nil {
			var raw syscall.RawConn
			if raw, err = conn.SyscallConn(); err == nil {
				stop := make(chan struct{})
				go func() {
					select {
					case <-m.stop:
					case <-stop:
					}
					conn.Close()
				}()
				only4 := conn.LocalAddr().(*net.UDPAddr).IP.To4() != nil
				if m.do(func() { p.conn, p.raw, p.only4, p.problem = conn, raw, only4, "" }) {
					err = m.readPath(index, conn)
				}
				close(stop)
			}
		}
		if !m.do(func() {
			p.conn = nil
			if err != nil {
				p.problem = err.Error()
			}
		}) {
			return
		}
		select {
		case <-m.stop:
			return
		case <-time.After(time.Second): // there may be no route yet
		}
	}
}

// readPath hands datagrams over until the socket fails for good.
func (m *Member) readPath(index int, conn *net.UDPConn) error {
	f := received{iface: index}
	tokens, last := float64(travelBurst), time.Now()
	for {
		n, from, err := conn.ReadFromUDPAddrPort(f.data[:])
		switch {
		case errors.Is(err, unix.ECONNREFUSED): // ICMP: the witness's host is there, the witness is not
			time.Sleep(10 * time.Millisecond)
			continue
		case err != nil:
			return err
		}
		now := time.Now()
		tokens, last = min(travelBurst, tokens+now.Sub(last).Seconds()*travelRate), now
		if tokens--; tokens < 1 {
			time.Sleep(time.Second / travelRate * 20)
		}
		f.n, f.from = n, from
		select {
		case m.frames <- f:
		case <-m.stop:
			return nil
		}
	}
}

// welcome judges a datagram whose tag was right before the machine does: it must have left by the same path, and at the
// witness it tells where its sender is found.
func (m *Member) welcome(index int, from netip.AddrPort, b *wire.Beat) bool {
	p := m.paths[index-len(m.ports)]
	if b.Interface != p.number || b.Cluster != m.cfg.ClusterID {
		return false // e.g. a broadcast on a link with valid checksums, which every socket on the port gets
	}
	if p.remote.IsValid() || int(b.Member) >= len(p.guests) {
		return true
	}
	g := &p.guests[b.Member]
	echo := uint64(0)
	for _, h := range b.Heard {
		if h.Member == m.cfg.Self && h.Nonce == m.nonce {
			echo = h.Seq
		}
	}
	switch {
	case echo > g.echoed: // no recording can echo what was not sent then
		g.at, g.echoed, g.knock, g.credit = from, echo, netip.AddrPort{}, false
	case from != g.at:
		g.knock, g.credit = from, true
	}
	return true
}

// sendTo sends one datagram without keeping a socket: the farewell of a process that is gone.
func sendTo(address string, payload []byte) error {
	c, err := net.Dial("udp", address)
	if err != nil {
		return fmt.Errorf("send to %s: %w", address, err)
	}
	defer c.Close()
	if _, err := c.Write(payload); err != nil {
		return fmt.Errorf("send to %s: %w", address, err)
	}
	return nil
}
