package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// TCPConfig describes a long-lived connection on which a small numbered message is exchanged.
type TCPConfig struct {
	Target   netip.AddrPort `json:"target"`
	Interval time.Duration  `json:"interval"` // ns between messages, at least 100 µs
	Duration time.Duration  `json:"duration"` // ns; the probe ends by itself
	// GiveUp closes a connection on which no reply came for so long; 20 s when zero.
	GiveUp time.Duration `json:"give_up,omitempty"`
}

// TCPReport is what a TCP probe saw. Times are ns.
type TCPReport struct {
	Elapsed   time.Duration `json:"elapsed"`
	Connected bool          `json:"connected"`
	Connects  int           `json:"connects"`   // connections made
	Refused   int           `json:"refused"`    // attempts that failed
	Resets    int           `json:"resets"`     // connections that ended by RST
	Closed    int           `json:"closed"`     // connections that the other side closed
	GivenUp   int           `json:"given_up"`   // connections without a reply for GiveUp
	Sent      int           `json:"sent"`       // messages
	Received  int           `json:"received"`   // replies
	BytesSent int64         `json:"bytes_sent"` // payload
	BytesGot  int64         `json:"bytes_got"`
	// Stall is the longest silence between two replies, over reconnects as well, with its start.
	Stall     time.Duration `json:"stall"`
	StallAt   time.Duration `json:"stall_at"`
	Sources   []Source      `json:"sources,omitempty"`
	LastError string        `json:"last_error,omitempty"`
}

// Reconnects is the number of connections made after the first.
func (r TCPReport) Reconnects() int { return max(0, r.Connects-1) }

// TCPProbe is a running probe. Its methods are safe for concurrent use.
type TCPProbe struct {
	cfg    TCPConfig
	run    uint32
	start  time.Time
	cancel context.CancelFunc
	done   chan struct{}

	mu        sync.Mutex
	rep       TCPReport
	lastReply time.Duration // -1: none yet
}

const redialAfter = 200 * time.Millisecond

// StartTCP starts to connect and returns at once.
func StartTCP(cfg TCPConfig) (*TCPProbe, error) {
	if _, err := probes(cfg.Interval, cfg.Duration); err != nil {
		return nil, fmt.Errorf("TCP probe: %w", err)
	}
	if !cfg.Target.IsValid() {
		return nil, errors.New("TCP probe: no target: want an address with a port")
	}
	if cfg.GiveUp <= 0 {
		cfg.GiveUp = 20 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), cfg.Duration)
	p := &TCPProbe{cfg: cfg, run: rand.Uint32(), start: time.Now(), cancel: cancel, done: make(chan struct{}), lastReply: -1}
	go p.loop(ctx)
	return p, nil
}

func (p *TCPProbe) loop(ctx context.Context) {
	defer close(p.done)
	seq := uint64(0)
	for ctx.Err() == nil {
		d := net.Dialer{Timeout: 5 * time.Second}
		conn, err := d.DialContext(ctx, "tcp", p.cfg.Target.String())
		if err != nil {
			p.update(func(r *TCPReport) { r.Refused++; r.LastError = err.Error() })
		} else {
			p.update(func(r *TCPReport) { r.Connects++; r.Connected = true })
			seq, err = p.converse(ctx, conn, seq)
			conn.Close()
			p.ended(ctx, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(redialAfter):
		}
	}
}

// converse exchanges messages until the connection fails or ctx ends; it returns the next number to send.
func (p *TCPProbe) converse(ctx context.Context, conn net.Conn, seq uint64) (uint64, error) {
	read := make(chan error, 1)
	go func() { read <- p.replies(conn) }()
	tick := time.NewTicker(p.cfg.Interval)
	defer tick.Stop()
	var buf []byte
	for {
		select {
		case <-ctx.Done():
			conn.Close()
			<-read
			return seq, nil
		case err := <-read:
			return seq, err
		case <-tick.C:
		}
		buf = Message{Run: p.run, Seq: seq, Sent: int64(time.Since(p.start))}.Append(buf[:0])
		if err := conn.SetWriteDeadline(time.Now().Add(p.cfg.GiveUp)); err != nil {
			return seq, errors.Join(err, conn.Close(), <-read)
		}
		if _, err := conn.Write(buf); err != nil {
			conn.Close()
			// The reader knows why the connection ended; the write only says that it did.
			if rerr := <-read; rerr != nil && !errors.Is(rerr, net.ErrClosed) {
				err = rerr
			}
			return seq, err
		}
		seq++
		p.update(func(r *TCPReport) { r.Sent++; r.BytesSent += MessageLen })
	}
}

func (p *TCPProbe) replies(conn net.Conn) error {
	var buf [MessageLen]byte
	for {
		if err := conn.SetReadDeadline(time.Now().Add(p.cfg.GiveUp)); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, buf[:]); err != nil {
			return err
		}
		m, err := Parse(buf[:])
		if err != nil || !m.Reply || m.Run != p.run {
			return fmt.Errorf("%v is not an echo server of the lab: %w", p.cfg.Target, ErrMessage)
		}
		p.reply(m)
	}
}

func (p *TCPProbe) reply(m Message) {
	at := time.Since(p.start)
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &p.rep
	r.Received++
	r.BytesGot += MessageLen
	if p.lastReply >= 0 && at-p.lastReply > r.Stall {
		r.Stall, r.StallAt = at-p.lastReply, p.lastReply
	}
	p.lastReply = at
	r.Sources = addSource(r.Sources, m.Seen, at)
}

// ended counts why a connection ended.
func (p *TCPProbe) ended(ctx context.Context, err error) {
	var timeout net.Error
	p.update(func(r *TCPReport) {
		r.Connected = false
		switch {
		case ctx.Err() != nil || err == nil:
			return // Stop or the end of Duration
		case errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
			r.Resets++
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			r.Closed++
		case errors.As(err, &timeout) && timeout.Timeout():
			r.GivenUp++
		}
		r.LastError = err.Error()
	})
}

func (p *TCPProbe) update(f func(*TCPReport)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.rep)
}

// Report says what was seen up to now. A silence that still lasts counts as a stall.
func (p *TCPProbe) Report() TCPReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.rep
	r.Elapsed = time.Since(p.start)
	select {
	case <-p.done:
	default:
		if open := r.Elapsed - p.lastReply; p.lastReply >= 0 && open > r.Stall {
			r.Stall, r.StallAt = open, p.lastReply
		}
	}
	r.Sources = append([]Source(nil), r.Sources...)
	return r
}

// Stop ends the probe and reports.
func (p *TCPProbe) Stop() TCPReport {
	r := p.Report() // before the connection is closed by us
	p.cancel()
	<-p.done
	return r
}

// Done is closed when the probe has ended.
func (p *TCPProbe) Done() <-chan struct{} { return p.done }

// TCPEcho is a running echo server for TCP probes.
type TCPEcho struct {
	l     net.Listener
	start time.Time

	mu    sync.Mutex
	rep   EchoReport
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

// maxConns bounds the connections that an echo server serves at a time.
const maxConns = 64

// ServeTCP listens on an address and answers probes until Close.
func ServeTCP(addr netip.AddrPort) (*TCPEcho, error) {
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		return nil, fmt.Errorf("TCP echo server: %w", err)
	}
	e := &TCPEcho{l: l, start: time.Now(), conns: map[net.Conn]struct{}{}}
	e.wg.Go(e.accept)
	return e, nil
}

// Addr is the address that the server listens on.
func (e *TCPEcho) Addr() netip.AddrPort { return e.l.Addr().(*net.TCPAddr).AddrPort() }

func (e *TCPEcho) accept() {
	for {
		conn, err := e.l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(redialAfter) // out of descriptors: wait for some to come back
			continue
		}
		e.mu.Lock()
		full := len(e.conns) >= maxConns
		if !full {
			e.conns[conn] = struct{}{}
		}
		e.mu.Unlock()
		if full {
			conn.Close()
			continue
		}
		e.wg.Go(func() { e.serve(conn) })
	}
}

func (e *TCPEcho) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		e.mu.Lock()
		delete(e.conns, conn)
		e.mu.Unlock()
	}()
	seen := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	seen = netip.AddrPortFrom(seen.Addr().Unmap(), seen.Port())
	var in [MessageLen]byte
	var out []byte
	for count := uint64(1); ; count++ {
		if _, err := io.ReadFull(conn, in[:]); err != nil {
			return
		}
		m, err := Parse(in[:])
		if err != nil || m.Reply {
			return
		}
		m.Reply, m.Count, m.Seen = true, count, seen
		out = m.Append(out[:0])
		if _, err := conn.Write(out); err != nil {
			return
		}
		e.mu.Lock()
		e.rep.Requests++
		e.rep.Sources = addSource(e.rep.Sources, seen, time.Since(e.start))
		e.mu.Unlock()
	}
}

// Report says what was seen up to now.
func (e *TCPEcho) Report() EchoReport {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.rep
	r.Local = e.Addr()
	r.Sources = append([]Source(nil), r.Sources...)
	return r
}

// Close ends the server and its connections.
func (e *TCPEcho) Close() error {
	err := e.l.Close()
	e.mu.Lock()
	for c := range e.conns {
		c.Close()
	}
	e.mu.Unlock()
	e.wg.Wait()
	return err
}
