package probe

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// UDPConfig describes a stream of numbered datagrams to an echo server.
type UDPConfig struct {
	Target   netip.AddrPort `json:"target"`
	Local    netip.AddrPort `json:"local,omitzero"` // source to bind to; any when zero
	Interval time.Duration  `json:"interval"`       // ns between datagrams, at least 100 µs
	Duration time.Duration  `json:"duration"`       // ns; the probe ends by itself
	// Threshold is the silence from which on a gap is listed; three intervals when zero.
	Threshold time.Duration `json:"threshold,omitempty"`
	Priority
}

// UDPProbe is a running stream. Its methods are safe for concurrent use.
type UDPProbe struct {
	cfg    UDPConfig
	sock   udpSocket
	local  netip.AddrPort
	run    uint32
	start  int64
	sentAt []atomic.Int64 // ns since start, plus one; 0 not sent
	gotAt  []atomic.Int64 // ns since start, plus one; 0 not received
	stop   chan struct{}
	once   sync.Once
	done   chan struct{}

	mu         sync.Mutex
	duplicates int
	sendErrors int
	lastError  string
	sources    []Source
}

// StartUDP opens the socket and starts to send.
func StartUDP(cfg UDPConfig) (*UDPProbe, error) {
	n, err := probes(cfg.Interval, cfg.Duration)
	if err == nil {
		err = cfg.Priority.validate()
	}
	if err == nil && !cfg.Target.IsValid() {
		err = fmt.Errorf("no target: want an address with a port")
	}
	if err != nil {
		return nil, fmt.Errorf("UDP probe: %w", err)
	}
	if cfg.Threshold <= 0 {
		cfg.Threshold = 3 * cfg.Interval
	}
	sock, err := openUDP(cfg.Target.Addr())
	if err != nil {
		return nil, fmt.Errorf("UDP probe: %w", err)
	}
	if !cfg.Local.IsValid() {
		cfg.Local = netip.AddrPortFrom(unspecified(cfg.Target.Addr()), 0)
	}
	if err := sock.bind(cfg.Local); err != nil {
		sock.close()
		return nil, fmt.Errorf("UDP probe: %w", err)
	}
	p := &UDPProbe{
		cfg: cfg, sock: sock, local: sock.local(), run: rand.Uint32(), start: now(),
		sentAt: make([]atomic.Int64, n), gotAt: make([]atomic.Int64, n),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	var wg sync.WaitGroup
	sent := make(chan struct{})
	wg.Go(func() { p.send(); close(sent) })
	wg.Go(func() { p.receive(sent) })
	go func() {
		wg.Wait()
		sock.close()
		close(p.done)
	}()
	return p, nil
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Unmap().Is6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// send sends on absolute times: a late datagram does not shift those behind it.
func (p *UDPProbe) send() {
	if err := p.cfg.Priority.enter(); err != nil {
		p.note(err.Error())
	}
	to := sockaddr(p.cfg.Target)
	buf := make([]byte, 0, MessageLen)
	for seq := range p.sentAt {
		sleepUntil(p.start + int64(seq)*int64(p.cfg.Interval))
		select {
		case <-p.stop:
			return
		default:
		}
		t := now()
		p.sentAt[seq].Store(t - p.start + 1)
		buf = Message{Run: p.run, Seq: uint64(seq), Sent: t}.Append(buf[:0])
		if err := sendto(p.sock.fd, buf, to); err != nil {
			p.mu.Lock()
			p.sendErrors++
			p.lastError = err.Error()
			p.mu.Unlock()
			if !transient(err) {
				return
			}
		}
	}
}

// receive takes replies until some time after the last datagram was sent.
func (p *UDPProbe) receive(sent <-chan struct{}) {
	if err := p.cfg.Priority.enter(); err != nil {
		p.note(err.Error())
	}
	buf := make([]byte, 2*MessageLen)
	grace := int64(0)
	for {
		n, _, err := recvfrom(p.sock.fd, buf)
		t := now()
		select {
		case <-sent:
			if grace == 0 {
				grace = t + int64(min(time.Second, p.cfg.Duration))
			}
			if t >= grace || (err != nil && p.stopped()) {
				return
			}
		default:
		}
		if err != nil {
			if !transient(err) {
				p.note("receive: " + err.Error())
				return
			}
			continue
		}
		p.take(buf[:n], t)
	}
}

func (p *UDPProbe) take(b []byte, t int64) {
	m, err := Parse(b)
	if err != nil || !m.Reply || m.Run != p.run || m.Seq >= uint64(len(p.gotAt)) {
		return
	}
	if !p.gotAt[m.Seq].CompareAndSwap(0, t-p.start+1) {
		p.mu.Lock()
		p.duplicates++
		p.mu.Unlock()
		return
	}
	p.mu.Lock()
	p.sources = addSource(p.sources, m.Seen, time.Duration(t-p.start))
	p.mu.Unlock()
}

func (p *UDPProbe) note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastError = text
}

func (p *UDPProbe) stopped() bool {
	select {
	case <-p.stop:
		return true
	default:
		return false
	}
}

// Stop ends the probe, waits for late replies for a tenth of a second, and reports.
func (p *UDPProbe) Stop() UDPReport {
	p.once.Do(func() { close(p.stop) })
	<-p.done
	return p.Report()
}

// Done is closed when the probe has ended.
func (p *UDPProbe) Done() <-chan struct{} { return p.done }

// Report says what was seen up to now.
func (p *UDPProbe) Report() UDPReport {
	sent := make([]time.Duration, 0, len(p.sentAt))
	got := make([]time.Duration, 0, len(p.gotAt))
	for i := range p.sentAt {
		s := p.sentAt[i].Load()
		if s == 0 {
			break
		}
		sent, got = append(sent, time.Duration(s-1)), append(got, time.Duration(p.gotAt[i].Load()-1))
	}
	r := analyse(sent, got, p.cfg.Threshold)
	r.Late = late(sent, p.cfg.Interval)
	p.mu.Lock()
	defer p.mu.Unlock()
	r.Local = p.local
	r.Interval, r.Elapsed = p.cfg.Interval, time.Duration(now()-p.start)
	r.Duplicates, r.SendErrors, r.LastError = p.duplicates, p.sendErrors, p.lastError
	r.Sources = append([]Source(nil), p.sources...)
	return r
}
