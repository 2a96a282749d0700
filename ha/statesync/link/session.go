package link

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/ha/statesync"
)

// Times of a session.
const (
	// Handshake is how long the other end has for TLS and its hello.
	Handshake = 3 * time.Second
	// Silence ends a session: members say how they are every second.
	Silence = 5 * time.Second
)

// QueueLimit is how many bytes wait for a peer at most; what comes then is dropped, and found missing by the peer.
const QueueLimit = 32 << 20

// Session is a connection whose other end has shown that it is a member.
type Session struct {
	Peer  statesync.Hello
	Via   string // interface of the node file
	Dials bool   // this end has dialled

	conn *tls.Conn
	in   *bufio.Reader

	mu      sync.Mutex
	wake    sync.Cond
	queue   [][]byte
	waiting int // bytes queued or being written
	peak    int
	sent    uint64
	closed  bool
	err     error
}

// Open makes a session of a fresh TCP connection: TLS, then a hello in each direction.
func Open(raw net.Conn, cfg *tls.Config, dials bool, own statesync.Hello, check func(*statesync.Hello) error) (*Session, error) {
	conn := tls.Server(raw, cfg)
	if dials {
		conn = tls.Client(raw, cfg)
	}
	s := &Session{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), Dials: dials}
	s.wake.L = &s.mu
	err := s.greet(own, check)
	if err != nil {
		raw.Close()
		return nil, err
	}
	go s.write()
	return s, nil
}

func (s *Session) greet(own statesync.Hello, check func(*statesync.Hello) error) error {
	s.conn.SetDeadline(time.Now().Add(Handshake))
	if err := s.conn.Handshake(); err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	if _, err := s.conn.Write(own.Append(nil)); err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	t, payload, err := s.read()
	if err != nil {
		return fmt.Errorf("hear the hello: %w", err)
	}
	if t != statesync.TypeHello {
		return statesync.OutOfOrder
	}
	if s.Peer, err = statesync.ParseHello(payload); err != nil {
		return err
	}
	s.conn.SetDeadline(time.Time{})
	return check(&s.Peer)
}

// Read gives the next frame. The payload is the caller's.
func (s *Session) Read() (statesync.Type, []byte, error) {
	s.conn.SetReadDeadline(time.Now().Add(Silence))
	return s.read()
}

func (s *Session) read() (t statesync.Type, payload []byte, err error) {
	var head [statesync.FrameHeader]byte
	if _, err = io.ReadFull(s.in, head[:]); err != nil {
		return 0, nil, err
	}
	t, n, err := statesync.ParseHeader(head)
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(s.in, payload)
	return t, payload, err
}

// Send queues a frame; false when the queue is full or the session over.
func (s *Session) Send(frame []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.waiting+len(frame) > QueueLimit {
		return false
	}
	s.queue = append(s.queue, frame)
	s.waiting += len(frame)
	s.peak = max(s.peak, s.waiting)
	s.wake.Signal()
	return true
}

// Backlog is how many bytes wait now, how many did at most, and how many were sent.
func (s *Session) Backlog() (now, peak int, sent uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting, s.peak, s.sent
}

// write sends what is queued, many small frames in one TLS record.
func (s *Session) write() {
	out := bufio.NewWriterSize(s.conn, 16<<10)
	for {
		s.mu.Lock()
		for len(s.queue) == 0 && !s.closed {
			s.wake.Wait()
		}
		frames := s.queue
		s.queue = nil
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return
		}
		n := 0
		var err error
		for _, f := range frames {
			s.conn.SetWriteDeadline(time.Now().Add(Silence))
			if _, err = out.Write(f); err != nil {
				break
			}
			n += len(f)
			s.done(len(f))
		}
		if err == nil {
			err = out.Flush()
		}
		if err != nil {
			s.Close(fmt.Errorf("send: %w", err))
			return
		}
	}
}

func (s *Session) done(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting -= n
	s.sent += uint64(n)
}

// Close ends the session for a reason; the first one counts.
func (s *Session) Close(why error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed, s.err, s.queue = true, why, nil
	s.wake.Broadcast()
	s.mu.Unlock()
	s.conn.NetConn().Close() // not TLS's own farewell, which could wait
}

// Err is why the session has ended.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Remote is the peer's address.
func (s *Session) Remote() net.Addr { return s.conn.RemoteAddr() }

// ReasonOf turns the end of a session into the key of a counter.
func ReasonOf(err error) statesync.Reason {
	var r statesync.Reason
	var op *net.OpError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, ErrWrongKey), errors.As(err, &op) && op.Op == "remote error": // its certificate check, or ours
		return "wrong_key"
	case errors.As(err, &record):
		return "not_tls"
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return "closed"
	}
	var n net.Error
	if errors.As(err, &n) && n.Timeout() {
		return "timeout"
	}
	return "connection"
}
