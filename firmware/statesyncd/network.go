package statesyncd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/ha/statesync/link"
)

// Times of finding and keeping peers.
const (
	beaconEvery = time.Second
	// beaconFresh is how long a peer is believed to be where its beacon came from.
	beaconFresh = 4 * time.Second
	dialEvery   = 250 * time.Millisecond
	dialTimeout = 2 * time.Second
	// betterAfter is how long a better way must have been there before a connection moves to it.
	betterAfter = 5 * time.Second
)

// sighting is where a member's beacon came from.
type sighting struct {
	addr  netip.Addr
	first time.Time
	last  time.Time
}

// way is an interface that state sync may use, the sync interface first.
type way struct {
	node.Interface
	rank int
}

func ways(n *node.Node) (out []way) {
	for _, f := range n.Interfaces {
		if f.Address.IsValid() {
			w := way{Interface: f, rank: len(out) + 2}
			if f.Sync {
				w.rank = 1
			}
			out = append(out, w)
		}
	}
	slices.SortStableFunc(out, func(a, b way) int { return a.rank - b.rank })
	return out
}

// network listens, finds peers and dials them until ctx ends.
func (c *core) network(ctx context.Context, wg *sync.WaitGroup) {
	c.netMu.Lock()
	c.seen, c.via, c.dialNow = map[uint8]map[string]sighting{}, map[uint8]string{}, map[uint8]chan struct{}{}
	for _, m := range c.node.Cluster.Members {
		if m.ID > c.node.Cluster.Member {
			c.dialNow[m.ID] = make(chan struct{}, 1) // the lower ID dials
		}
	}
	c.netMu.Unlock()
	for _, w := range ways(c.node) {
		wg.Go(func() { c.listen(ctx, wg, w) })
		wg.Go(func() { c.beacons(ctx, w) })
	}
	for id, now := range c.dialNow {
		wg.Go(func() { c.dial(ctx, wg, id, now) })
	}
}

// bound makes sockets belong to one interface: what comes from elsewhere does not reach them.
func bound(device string) func(_, _ string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = errors.Join(
				unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, device),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			)
		})
		return errors.Join(err, failed)
	}
}

// again calls f until ctx ends, with a pause, because a NIC or its address may not be there yet or go away.
func (c *core) again(ctx context.Context, what string, f func() error) {
	said := ""
	for ctx.Err() == nil {
		err := f()
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			c.Options.Log.Warn(what+" does not work; tried again every second", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (c *core) listen(ctx context.Context, wg *sync.WaitGroup, w way) {
	waiting := &strangers{from: map[netip.Addr]int{}}
	lc := net.ListenConfig{Control: bound(w.Device), KeepAlive: -1}
	c.again(ctx, "listening on "+w.Name, func() error {
		ln, err := lc.Listen(ctx, "tcp4", netip.AddrPortFrom(w.Address.Addr(), link.Port).String())
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { ln.Close() })
		defer stop()
		defer ln.Close()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return err
			}
			from := addressOf(conn)
			if !waiting.enter(from, c.expects(w, from)) {
				conn.Close()
				c.refuse(ctx, conn.RemoteAddr(), w, errTooMany)
				continue
			}
			wg.Go(func() { c.session(ctx, conn, w, false, func() { waiting.leave(from) }) })
		}
	})
}

// session authenticates a connection and reads from it until it ends.
func (c *core) session(ctx context.Context, conn net.Conn, w way, dials bool, known func()) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if t, ok := conn.(*net.TCPConn); ok {
		t.SetNoDelay(true)
		t.SetWriteBuffer(1 << 20)
	}
	s, err := link.Open(conn, c.tls, dials, c.machine.Hello(), func(h *statesync.Hello) error { return c.machine.CheckHello(h) })
	if err != nil {
		known()
		c.refuse(ctx, conn.RemoteAddr(), w, err)
		return
	}
	s.Via = w.Name
	up := make(chan bool, 1)
	admitted := c.hand(ctx, frame{session: s, up: up}) && <-up
	known()
	if !admitted {
		s.Close(net.ErrClosed)
		return
	}
	for {
		t, payload, err := s.Read()
		if err != nil {
			s.Close(err)
			break
		}
		if !c.hand(ctx, frame{session: s, t: t, payload: payload}) {
			break
		}
	}
	s.Close(net.ErrClosed)
	c.hand(ctx, frame{session: s, down: true})
}

// hand gives a frame to the core.
func (c *core) hand(ctx context.Context, f frame) bool {
	select {
	case c.frames <- f:
		return true
	case <-ctx.Done():
	case <-c.ended:
	}
	return false
}

// beacons says where this member is, and hears where others are.
func (c *core) beacons(ctx context.Context, w way) {
	lc := net.ListenConfig{Control: bound(w.Device)}
	to := &net.UDPAddr{IP: broadcast(w.Address).AsSlice(), Port: link.Port}
	c.again(ctx, "finding members on "+w.Name, func() error {
		codec, err := link.NewCodec(c.node.Cluster.Key[:])
		if err != nil {
			return err
		}
		hello := c.machine.Hello()
		mine := codec.Append(nil, link.Beacon{Cluster: hello.Cluster, Member: hello.Member, Nonce: hello.Nonce})
		if _, err := net.InterfaceByName(w.Device); err != nil {
			return fmt.Errorf("interface %s: %w", w.Name, err)
		}
		pc, err := lc.ListenPacket(ctx, "udp4", ":"+strconv.Itoa(link.Port))
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { pc.Close() })
		defer stop()
		defer pc.Close()
		buf := make([]byte, 512)
		next := time.Now()
		for {
			if time.Now().After(next) {
				pc.WriteTo(mine, to) // a NIC that is down is up again some time
				next = time.Now().Add(beaconEvery)
			}
			pc.SetReadDeadline(next.Add(time.Millisecond))
			n, from, err := pc.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) || err == nil && n == 0 {
				return err
			}
			if err != nil {
				if e := net.Error(nil); errors.As(err, &e) && e.Timeout() {
					continue
				}
				return err
			}
			if b, err := codec.Parse(buf[:n]); err == nil && b.Cluster == hello.Cluster && b.Member != hello.Member {
				c.sighted(b.Member, w, from)
			}
		}
	})
}

func (c *core) sighted(member uint8, w way, from net.Addr) {
	u, ok := from.(*net.UDPAddr)
	if !ok || c.names[member] == "" {
		return
	}
	addr := u.AddrPort().Addr().Unmap()
	if !w.Address.Contains(addr) {
		return
	}
	now := time.Now()
	c.netMu.Lock()
	defer c.netMu.Unlock()
	if c.seen[member] == nil {
		c.seen[member] = map[string]sighting{}
	}
	s := c.seen[member][w.Name]
	if s.addr != addr || now.Sub(s.last) > beaconFresh {
		s.first = now
	}
	s.addr, s.last = addr, now
	c.seen[member][w.Name] = s
	if c.via[member] == "" && c.dialNow[member] != nil {
		poke(c.dialNow[member])
	}
}

func (c *core) setVia(member uint8, name string) {
	c.netMu.Lock()
	defer c.netMu.Unlock()
	c.via[member] = name
}

// candidates are the ways to a member that are better than the one in use, best first.
func (c *core) candidates(member uint8) (out []way, to []netip.Addr) {
	c.netMu.Lock()
	defer c.netMu.Unlock()
	for _, w := range ways(c.node) {
		if c.via[member] == w.Name {
			break // no way from here on is better
		}
		s, ok := c.seen[member][w.Name]
		if ok && time.Since(s.last) < beaconFresh && (c.via[member] == "" || time.Since(s.first) > betterAfter) {
			out, to = append(out, w), append(to, s.addr)
		}
	}
	return out, to
}

// dial keeps a connection to a member with a higher ID, by the best way there is.
func (c *core) dial(ctx context.Context, wg *sync.WaitGroup, member uint8, now <-chan struct{}) {
	t := time.NewTicker(dialEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-now:
		}
		ways, to := c.candidates(member)
		for i, w := range ways {
			d := net.Dialer{Timeout: dialTimeout, Control: bound(w.Device), LocalAddr: &net.TCPAddr{IP: w.Address.Addr().AsSlice()}, KeepAlive: -1}
			conn, err := d.DialContext(ctx, "tcp4", netip.AddrPortFrom(to[i], link.Port).String())
			if err != nil {
				c.Options.Log.Debug("dial", "member", c.name(member), "via", w.Name, "err", err)
				continue
			}
			settled := make(chan struct{})
			wg.Go(func() { c.session(ctx, conn, w, true, func() { close(settled) }) })
			<-settled
			break
		}
	}
}
