package crowd

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// who is a server that answers every line and datagram with the address it came from, and remembers under which
// identifier requests of ICMP arrive.
type who struct {
	ln   net.Listener
	pc   net.PacketConn
	icmp *icmp.PacketConn

	mu    sync.Mutex
	seen  map[uint32]string // ICMP: by tag
	conns []net.Conn
}

func serve(at netip.Addr) (*who, error) {
	s := &who{seen: map[uint32]string{}}
	address := netip.AddrPortFrom(at, Port).String()
	var err error
	if s.ln, err = net.Listen("tcp4", address); err != nil {
		return nil, err
	}
	if s.pc, err = net.ListenPacket("udp4", address); err != nil {
		return nil, err
	}
	if s.icmp, err = icmp.ListenPacket("ip4:icmp", at.String()); err != nil {
		return nil, err
	}
	go s.accept()
	go s.datagrams()
	go s.requests()
	return s, nil
}

func (s *who) close() {
	s.ln.Close()
	s.pc.Close()
	s.icmp.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
}

func (s *who) accept() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns = append(s.conns, c)
		s.mu.Unlock()
		go func() {
			for in := bufio.NewScanner(c); in.Scan(); {
				fmt.Fprintln(c, in.Text(), c.RemoteAddr())
			}
		}()
	}
}

func (s *who) datagrams() {
	buf := make([]byte, 256)
	for {
		n, from, err := s.pc.ReadFrom(buf)
		if err != nil {
			return
		}
		s.pc.WriteTo(fmt.Appendln(nil, strings.TrimSpace(string(buf[:n])), from), from)
	}
}

// requests sees those of ICMP; the kernel answers them.
func (s *who) requests() {
	buf := make([]byte, 256)
	for {
		n, from, err := s.icmp.ReadFrom(buf)
		if err != nil {
			return
		}
		m, err := icmp.ParseMessage(1, buf[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEcho {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && len(e.Data) >= 4 {
			s.mu.Lock()
			s.seen[binary.BigEndian.Uint32(e.Data)] = fmt.Sprint(from, " id ", e.ID)
			s.mu.Unlock()
		}
	}
}

// talk is a connection to it.
type talk struct {
	conn net.Conn
	n    int
}

// ask exchanges a line; a datagram is sent again when nothing comes.
func (t *talk) ask(until time.Time) (string, error) {
	t.n++
	line := fmt.Sprint("n", t.n)
	_, udp := t.conn.(*net.UDPConn)
	t.conn.SetWriteDeadline(until)
	for {
		if _, err := fmt.Fprintln(t.conn, line); err != nil {
			return "", err
		}
		wait := until
		if udp {
			wait = time.Now().Add(200 * time.Millisecond)
		}
		t.conn.SetReadDeadline(wait)
		buf := make([]byte, 256)
		for {
			n, err := t.conn.Read(buf)
			if err != nil {
				if udp && time.Now().Before(until) {
					break // sent again
				}
				return "", err
			}
			if got, seen, _ := strings.Cut(strings.TrimSpace(string(buf[:n])), " "); got == line {
				return seen, nil
			}
		}
	}
}

// echo is a ping with an identifier of its own.
type echo struct {
	conn   *icmp.PacketConn
	to     *net.UDPAddr
	tag    uint32
	server *who
	n      int
}

func newEcho(to netip.Addr, i int, s *who) (*echo, error) {
	conn, err := icmp.ListenPacket("udp4", "0.0.0.0")
	if err != nil {
		return nil, fmt.Errorf("open a ping socket: %w (see net.ipv4.ping_group_range)", err)
	}
	return &echo{conn: conn, to: &net.UDPAddr{IP: to.AsSlice()}, tag: uint32(i), server: s}, nil
}

func (e *echo) close() { e.conn.Close() }

// arrived is how the server saw the request that the kernel there has answered already.
func (e *echo) arrived() string {
	for range 100 {
		e.server.mu.Lock()
		seen := e.server.seen[e.tag]
		e.server.mu.Unlock()
		if seen != "" {
			return seen
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ""
}

func (e *echo) ask(until time.Time) (string, error) {
	for {
		e.n++
		m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{Seq: e.n & 0xffff, Data: binary.BigEndian.AppendUint32(nil, e.tag)}}
		b, err := m.Marshal(nil)
		if err != nil {
			return "", err
		}
		e.server.mu.Lock()
		delete(e.server.seen, e.tag)
		e.server.mu.Unlock()
		if _, err := e.conn.WriteTo(b, e.to); err != nil && err != unix.ENOBUFS {
			return "", err
		}
		e.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		buf := make([]byte, 256)
		if _, _, err = e.conn.ReadFrom(buf); err == nil {
			if seen := e.arrived(); seen != "" {
				return seen, nil
			}
		}
		if time.Now().After(until) {
			return "", err
		}
	}
}
