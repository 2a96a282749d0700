package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/box"
	"github.com/twinkeep/twinkeep/tools/lab/ether"
	"github.com/twinkeep/twinkeep/tools/lab/vswitch"
)

// Addresses of the networks; 192.0.2.0/24 is for documentation (RFC 5737).
var (
	lanVIP  = netip.MustParseAddr("10.1.0.1")
	wanVIP  = netip.MustParseAddr("192.0.2.1")
	client  = netip.MustParseAddrPort("10.1.0.10:5000")
	server  = netip.MustParseAddrPort("192.0.2.254:7000")
	clientM = ether.MAC{0x52, 0x54, 0, 0, 0x10, 1}
	serverM = ether.MAC{0x52, 0x54, 0, 0, 0x20, 1}
)

// node is a member whose peer is not there. Beat, lease and dead time are ten times the
// product's, because a machine under emulation stands still for tens of
// milliseconds at any time; it listens for 0.7 s before it takes the role.
var node = box.Node("{beat: 100ms, lease: 450ms, dead: 700ms, silence: 1400ms}", `  - {name: G3, sync: true, address: 169.254.77.1/30}
routes:
  - {to: 0.0.0.0/0, via: 192.0.2.254}
nat:
  - {from: [10.1.0.0/24], out: G2, to: vip, ports: keep}
`)

// stations are a client in the LAN and a server in the WAN, made of code: no
// other machine takes the processors from the one that boots.
type stations struct {
	paths     [3]string // sockets of G1, G2, G3
	forwarded chan time.Time

	listeners []net.Listener
	stop      chan struct{}
	wg        sync.WaitGroup
	mu        sync.Mutex
	conns     []net.Conn
	once      sync.Once
}

func newStations(dir string) (*stations, error) {
	s := &stations{forwarded: make(chan time.Time, 1), stop: make(chan struct{})}
	for i, run := range []func(net.Conn){s.lan, s.wan, func(c net.Conn) { io.Copy(io.Discard, c) }} {
		s.paths[i] = filepath.Join(dir, "g"+string(rune('1'+i)))
		if err := os.Remove(s.paths[i]); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, errors.Join(err, s.close())
		}
		l, err := net.Listen("unix", s.paths[i])
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.listeners = append(s.listeners, l)
		s.wg.Go(func() {
			c, err := l.Accept()
			if err != nil {
				return // closed before QEMU came
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			run(c)
		})
	}
	return s, nil
}

// close ends the stations; QEMU must have ended, or it complains.
func (s *stations) close() error {
	s.once.Do(func() { close(s.stop) })
	var errs []error
	for _, l := range s.listeners {
		errs = append(errs, l.Close())
	}
	s.mu.Lock()
	for _, c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return errors.Join(errs...)
}

// interval of the client's packets: the resolution of what is measured.
const interval = 20 * time.Millisecond

// lan asks for the gateway's VIP until it is answered, and sends to the server
// from then on.
func (s *stations) lan(c net.Conn) {
	gateway := make(chan ether.MAC, 1)
	s.wg.Go(func() {
		for {
			frame, err := vswitch.ReadFrame(c)
			if err != nil {
				return
			}
			if a, ok := ether.ParseARP(frame); ok && a.Op == 2 && a.SenderIP == lanVIP {
				select {
				case gateway <- a.SenderMAC:
				default:
				}
			}
		}
	})
	next := ether.ARP{Op: 1, SenderMAC: clientM, SenderIP: client.Addr(), TargetIP: lanVIP}.Frame(clientM)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case mac := <-gateway:
			next = ether.Datagram{Dst: mac, Src: clientM, From: client, To: server, TTL: 64, Payload: []byte("through?")}.Frame()
		case <-tick.C:
			if vswitch.WriteFrame(c, next) != nil {
				return
			}
		}
	}
}

// wan answers for the server's address and waits for the client's packet, with
// its source translated.
func (s *stations) wan(c net.Conn) {
	for {
		frame, err := vswitch.ReadFrame(c)
		if err != nil {
			return
		}
		if a, ok := ether.ParseARP(frame); ok && a.Op == 1 && a.TargetIP == server.Addr() {
			reply := ether.ARP{Op: 2, SenderMAC: serverM, SenderIP: server.Addr(), TargetIP: a.SenderIP}
			if vswitch.WriteFrame(c, reply.Frame(serverM)) != nil {
				return
			}
		}
		if u, ok := ether.ParseUDP(frame); ok && u.IP.Src == wanVIP && u.IP.Dst == server.Addr() && u.DstPort == server.Port() {
			select {
			case s.forwarded <- time.Now():
			default:
			}
		}
	}
}
