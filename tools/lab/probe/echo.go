package probe

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// UDPEcho is a running echo server for UDP probes.
type UDPEcho struct {
	sock  udpSocket
	local netip.AddrPort
	stop  chan struct{}
	once  sync.Once
	done  chan struct{}

	mu  sync.Mutex
	rep EchoReport
}

// EchoReport is what an echo server saw.
type EchoReport struct {
	Local    netip.AddrPort `json:"local"`
	Requests int            `json:"requests"`
	Sources  []Source       `json:"sources,omitempty"` // times are ns since the server's start
	Error    string         `json:"error,omitempty"`
}

// ServeUDP binds an address and answers probes until Close.
func ServeUDP(addr netip.AddrPort, prio Priority) (*UDPEcho, error) {
	if err := prio.validate(); err != nil {
		return nil, fmt.Errorf("UDP echo server: %w", err)
	}
	sock, err := openUDP(addr.Addr())
	if err != nil {
		return nil, fmt.Errorf("UDP echo server: %w", err)
	}
	if err := sock.bind(addr); err != nil {
		sock.close()
		return nil, fmt.Errorf("UDP echo server: %w", err)
	}
	e := &UDPEcho{sock: sock, local: sock.local(), stop: make(chan struct{}), done: make(chan struct{})}
	go e.run(prio)
	return e, nil
}

// Addr is the address that the server is bound to.
func (e *UDPEcho) Addr() netip.AddrPort { return e.local }

func (e *UDPEcho) run(prio Priority) {
	defer close(e.done)
	defer e.sock.close()
	if err := prio.enter(); err != nil {
		e.fail(err)
	}
	start := now()
	// Requests are counted a run, for the reply; an old run is forgotten when there are many.
	counts := map[uint32]uint64{}
	in, out := make([]byte, 2*MessageLen), make([]byte, 0, MessageLen)
	for {
		select {
		case <-e.stop:
			return
		default:
		}
		n, from, err := recvfrom(e.sock.fd, in)
		if err != nil {
			if transient(err) {
				continue
			}
			e.fail(fmt.Errorf("receive: %w", err))
			return
		}
		m, err := Parse(in[:n])
		if err != nil || m.Reply {
			continue
		}
		if len(counts) > maxSources {
			clear(counts)
		}
		counts[m.Run]++
		m.Reply, m.Count, m.Seen = true, counts[m.Run], addrPort(from)
		out = m.Append(out[:0])
		if err := sendto(e.sock.fd, out, from); err != nil && !transient(err) {
			e.fail(fmt.Errorf("send to %v: %w", m.Seen, err))
		}
		e.mu.Lock()
		e.rep.Requests++
		e.rep.Sources = addSource(e.rep.Sources, m.Seen, time.Duration(now()-start))
		e.mu.Unlock()
	}
}

func (e *UDPEcho) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rep.Error = err.Error()
}

// Report says what was seen up to now.
func (e *UDPEcho) Report() EchoReport {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.rep
	r.Local = e.local
	r.Sources = append([]Source(nil), r.Sources...)
	return r
}

// Close ends the server within a tenth of a second.
func (e *UDPEcho) Close() error {
	e.once.Do(func() { close(e.stop) })
	<-e.done
	return nil
}

func sendto(fd int, b []byte, to unix.Sockaddr) error {
	return unix.Sendto(fd, b, unix.MSG_NOSIGNAL, to)
}

func recvfrom(fd int, b []byte) (int, unix.Sockaddr, error) {
	return unix.Recvfrom(fd, b, 0)
}
