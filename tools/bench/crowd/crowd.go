package crowd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Namespace is where sockets are opened.
type Namespace interface{ Do(func() error) error }

// Plan says how many connections of each kind there are, and where to.
type Plan struct {
	Direct, Forwarded netip.Addr // the server itself, and the address whose Ports are translated to it
	TCPIdle, TCPBusy  int        // half of each through Forwarded
	UDP               int        // half of it through Forwarded
	ICMP              int
	FTP               bool
}

// Ports of the server, and of the address that is translated to it.
const (
	Port          = 7771
	ForwardedPort = 7781
)

// Patience is how long a connection may take to answer after an event.
const Patience = 10 * time.Second

// BusyEvery is the time between two lines of a busy connection.
const BusyEvery = 250 * time.Millisecond

// flow is one connection.
type flow struct {
	kind, path string
	// ask sends something and waits for the answer: where the connection comes out.
	ask     func(until time.Time) (string, error)
	outside string // at first
	end     error  // why it does not count any more
	close   func()
	mu      sync.Mutex // busy ones are asked all the time
}

// Crowd is all of them.
type Crowd struct {
	flows  []*flow
	ftp    *ftp
	closes []func()
	wg     sync.WaitGroup
	stop   context.CancelFunc
}

// Open opens all connections.
func Open(client, server Namespace, p Plan) (*Crowd, error) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &Crowd{stop: cancel}
	if err := c.open(client, server, p); err != nil {
		c.Close()
		return nil, err
	}
	for _, f := range c.flows {
		if f.kind == TCPBusy {
			c.wg.Go(func() { f.chatter(ctx) })
		}
	}
	return c, nil
}

func (c *Crowd) open(client, server Namespace, p Plan) error {
	var s *who
	if err := server.Do(func() (err error) { s, err = serve(p.Direct); return err }); err != nil {
		return err
	}
	c.closes = append(c.closes, s.close)
	if err := client.Do(func() error { return c.dial(p, s) }); err != nil {
		return err
	}
	if p.FTP {
		f, err := openFTP(client, server, p.Direct)
		if err != nil {
			return err
		}
		c.ftp, c.closes = f, append(c.closes, f.close)
	}
	errs := make([]error, len(c.flows))
	c.each(c.flows, func(i int, f *flow) { f.outside, errs[i] = f.ask(time.Now().Add(Patience)) })
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the first answers: %w", err)
	}
	return nil
}

// Kinds of connections.
const (
	TCPIdle = "TCP, idle"
	TCPBusy = "TCP, busy"
	UDP     = "UDP"
	ICMP    = "ICMP"
)

// Paths through the gateways.
const (
	SNAT = "SNAT"
	DNAT = "DNAT + SNAT"
)

func (c *Crowd) dial(p Plan, s *who) error {
	for _, k := range []struct {
		kind, network string
		n             int
	}{{TCPIdle, "tcp4", p.TCPIdle}, {TCPBusy, "tcp4", p.TCPBusy}, {UDP, "udp4", p.UDP}} {
		for i := range k.n {
			to, path := netip.AddrPortFrom(p.Direct, Port), SNAT
			if i%2 == 1 {
				to, path = netip.AddrPortFrom(p.Forwarded, ForwardedPort), DNAT
			}
			conn, err := net.DialTimeout(k.network, to.String(), Patience)
			if err != nil {
				return fmt.Errorf("%s connection %d through %s: %w", k.kind, i, path, err)
			}
			t := &talk{conn: conn}
			c.flows = append(c.flows, &flow{kind: k.kind, path: path, ask: t.ask, close: func() { conn.Close() }})
		}
	}
	for i := range p.ICMP {
		e, err := newEcho(p.Direct, i, s)
		if err != nil {
			return err
		}
		c.flows = append(c.flows, &flow{kind: ICMP, path: SNAT, ask: e.ask, close: e.close})
	}
	return nil
}

// Close ends everything.
func (c *Crowd) Close() {
	c.stop()
	for _, f := range c.flows {
		f.close()
	}
	c.wg.Wait()
	for _, f := range c.closes {
		f()
	}
}

// chatter keeps a busy connection busy: a line, an answer, a pause.
func (f *flow) chatter(ctx context.Context) {
	for {
		f.mu.Lock()
		if f.end == nil {
			if seen, err := f.ask(time.Now().Add(Patience)); err != nil {
				f.end = err
			} else if seen != f.outside {
				f.end = errMoved
			}
		}
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(BusyEvery):
		}
	}
}

var errMoved = errors.New("another outside port")

// Line is what became of the connections of one kind and path.
type Line struct {
	Kind, Path string
	Before     int // alive before the event
	Alive      int // answered after it, from the same outside address and port
	Moved      int // answered from another one
	Reset      int
	Silent     int
	// Why is an example of what was not expected.
	Why string
}

// Check asks every connection that was alive, and tells what became of it. Those that were lost do not count again.
func (c *Crowd) Check() []Line {
	var asked []*flow
	for _, f := range c.flows {
		f.mu.Lock()
		alive := f.end == nil || f.kind == TCPBusy && !f.counted()
		f.mu.Unlock()
		if alive {
			asked = append(asked, f)
		}
	}
	c.each(asked, func(_ int, f *flow) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.end != nil {
			return
		}
		if seen, err := f.ask(time.Now().Add(Patience)); err != nil {
			f.end = err
		} else if seen != f.outside {
			f.end = fmt.Errorf("%w: %s, was %s", errMoved, seen, f.outside)
		}
	})
	var out []Line
	for _, f := range asked {
		i := slices.IndexFunc(out, func(l Line) bool { return l.Kind == f.kind && l.Path == f.path })
		if i < 0 {
			i, out = len(out), append(out, Line{Kind: f.kind, Path: f.path})
		}
		out[i].add(f.end)
		if f.end != nil {
			f.end = lost{f.end}
		}
	}
	return out
}

// lost is an end that was told of.
type lost struct{ error }

func (f *flow) counted() bool { _, yes := f.end.(lost); return yes }

func (l *Line) add(err error) {
	l.Before++
	switch {
	case err == nil:
		l.Alive++
		return
	case errors.Is(err, errMoved):
		l.Moved++
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNREFUSED):
		l.Reset++
	default:
		l.Silent++
	}
	if l.Why == "" {
		l.Why = err.Error()
	}
}

// each does something for many flows at a time.
func (c *Crowd) each(list []*flow, do func(int, *flow)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 200)
	for i, f := range list {
		slots <- struct{}{}
		wg.Go(func() { do(i, f); <-slots })
	}
	wg.Wait()
}

// FTP tells what became of the transfers; nil without them.
func (c *Crowd) FTP() *FTPResult {
	if c.ftp == nil {
		return nil
	}
	return c.ftp.result()
}

// Prepare is called before each event: what the kernel forgets within seconds, UDP and ICMP, is asked once more, and where
// it comes out then is what counts; transfers of FTP begin that the event is to hit.
func (c *Crowd) Prepare() error {
	var list []*flow
	for _, f := range c.flows {
		if (f.kind == UDP || f.kind == ICMP) && f.end == nil {
			list = append(list, f)
		}
	}
	errs := make([]error, len(list))
	c.each(list, func(i int, f *flow) { f.outside, errs[i] = f.ask(time.Now().Add(Patience)) })
	if err := errors.Join(errs...); err != nil || c.ftp == nil {
		return err
	}
	return c.ftp.begin()
}

// String is for a log.
func (l Line) String() string {
	return fmt.Sprintf("%s, %s: %d of %d alive, %d moved, %d reset, %d silent %s", l.Kind, l.Path, l.Alive, l.Before, l.Moved, l.Reset, l.Silent, l.Why)
}
