package stream

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/tools/lab/probe"
)

// Interval is the time between two datagrams: a lost one is a millisecond without service.
const Interval = time.Millisecond

// grace is how long after the last datagram replies are waited for.
const grace = 200 * time.Millisecond

// Namespace runs a function on a thread inside a network namespace.
type Namespace interface {
	Do(func() error) error
}

// Record is what became of one datagram.
type Record struct {
	Due    Time // when it had to leave
	Sent   Time
	Server Time // when the server had it
	Back   Time // when its echo had come back
	Port   uint16
}

// Stream is a running probe, in this process. Benches use Process.
type Stream struct {
	run            uint32
	records        []Record // each field written by one goroutine, read after all have ended
	client, server int      // sockets
	start          Time
	stop           atomic.Bool // set for all
	sent           atomic.Int64
	threads        sync.WaitGroup
	mu             sync.Mutex
	errs           []error
}

// Start opens a socket on each side and starts to send from client to the server's address. It stops by itself
// after duration; Wait must be called in any case.
func Start(client, server Namespace, target netip.AddrPort, duration time.Duration) (*Stream, error) {
	s := &Stream{run: rand.Uint32(), records: make([]Record, duration/Interval), client: -1, server: -1}
	err := server.Do(func() (err error) { s.server, err = open(target); return err })
	if err == nil {
		err = client.Do(func() (err error) { s.client, err = open(netip.AddrPortFrom(netip.IPv4Unspecified(), 0)); return err })
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("start the probe: %w", err)
	}
	s.start = Now() + Time(5*time.Millisecond)
	for i := range s.records {
		s.records[i].Due = s.start + Time(i)*Time(Interval)
	}
	for _, f := range []func() error{s.echo, s.receive, func() error { return s.send(target) }} {
		s.threads.Go(func() {
			if err := onThread(f); err != nil {
				s.stop.Store(true)
				s.mu.Lock()
				defer s.mu.Unlock()
				s.errs = append(s.errs, err)
			}
		})
	}
	return s, nil
}

// onThread runs f in real time. A panic becomes an error: the caller has namespaces to clean up.
func onThread(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in a probe: %v", r)
		}
	}()
	if err := realTime(); err != nil {
		return err
	}
	return f()
}

// Begun is when the first datagram is due.
func (s *Stream) Begun() Time { return s.start }

// send sends on absolute times: a late datagram does not shift those behind it. It never waits for the socket:
// datagrams that wait for a neighbour's address fill its buffer, and what does not fit is lost.
func (s *Stream) send(target netip.AddrPort) error {
	to := &unix.SockaddrInet4{Port: int(target.Port()), Addr: target.Addr().As4()}
	buf := make([]byte, 0, probe.MessageLen)
	for i := range s.records {
		r := &s.records[i]
		sleepUntil(r.Due)
		if s.stop.Load() {
			return nil
		}
		r.Sent = Now()
		buf = probe.Message{Run: s.run, Seq: uint64(i), Sent: int64(r.Sent)}.Append(buf[:0])
		if err := unix.Sendto(s.client, buf, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, to); err != nil && !transient(err) {
			return fmt.Errorf("send a probe: %w", err)
		}
		s.sent.Store(int64(i + 1))
	}
	return nil
}

func (s *Stream) receive() error {
	return s.each(s.client, func(m probe.Message, at Time, _ unix.Sockaddr) error {
		if r := &s.records[m.Seq]; m.Reply && r.Back == 0 {
			r.Back, r.Port = at, m.Seen.Port()
		}
		return nil
	})
}

func (s *Stream) echo() error {
	out := make([]byte, 0, probe.MessageLen)
	return s.each(s.server, func(m probe.Message, at Time, from unix.Sockaddr) error {
		source, ok := from.(*unix.SockaddrInet4)
		if m.Reply || !ok {
			return nil
		}
		if r := &s.records[m.Seq]; r.Server == 0 {
			r.Server = at
		}
		m.Reply, m.Seen = true, netip.AddrPortFrom(netip.AddrFrom4(source.Addr), uint16(source.Port))
		out = m.Append(out[:0])
		if err := unix.Sendto(s.server, out, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, from); err != nil && !transient(err) {
			return fmt.Errorf("echo a probe: %w", err)
		}
		return nil
	})
}

// each hands over the messages of this run, with the time of their arrival, until the stream has ended.
func (s *Stream) each(fd int, f func(probe.Message, Time, unix.Sockaddr) error) error {
	buf, stamp := make([]byte, 2*probe.MessageLen), make([]byte, stampLen)
	end := s.start + Time(time.Duration(len(s.records))*Interval+grace)
	for !s.stop.Load() && Now() < end {
		n, stamped, _, from, err := unix.Recvmsg(fd, buf, stamp, 0)
		if err != nil {
			if transient(err) {
				continue
			}
			return fmt.Errorf("receive a probe: %w", err)
		}
		m, err := probe.Parse(buf[:n])
		if err != nil || m.Run != s.run || m.Seq >= uint64(len(s.records)) {
			continue
		}
		if err := f(m, arrival(stamp[:stamped]), from); err != nil {
			return err
		}
	}
	return nil
}

// Wait waits for the end of the stream and its last echoes.
func (s *Stream) Wait() ([]Record, error) {
	s.threads.Wait()
	s.close()
	return s.records[:s.sent.Load()], errors.Join(s.errs...)
}

func (s *Stream) close() {
	for _, fd := range []*int{&s.client, &s.server} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// open makes a blocking UDP socket without the runtime's poller between kernel and thread.
func open(local netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open UDP socket: %w", err)
	}
	tv := unix.NsecToTimeval(int64(50 * time.Millisecond)) // how soon a loop sees that it should end
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Port: int(local.Port()), Addr: local.Addr().As4()}))
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind UDP socket to %v: %w", local, err)
	}
	return fd, nil
}

// transient reports errors that a probe must live through: nothing arrived in time, or an ICMP error about an
// earlier datagram.
func transient(err error) bool {
	switch err {
	case unix.EAGAIN, unix.EINTR, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN,
		unix.ENETDOWN, unix.ENOBUFS, unix.EPERM, unix.EADDRNOTAVAIL:
		return true
	}
	return false
}
