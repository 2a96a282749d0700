package vswitch

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/capture"
)

// port is one port; its fields are guarded by the mutex of the switch unless said otherwise.
type port struct {
	sw     *Switch
	name   string
	number int
	island *island

	conn     net.Conn // nil: no station
	listener net.Listener
	rules    Rules
	mirror   *port
	stats    Stats
	rngIn    *rand.Rand
	rngOut   *rand.Rand
	in       *queue // frames that a rule delays on their way in
	inWait   int    // frames in `in` or on their way from it to the table
	out      *queue

	capMu sync.Mutex
	cap   *capture.Writer
}

// Listen lets stations connect to a port through a Unix socket, one at a time. A second station is refused as
// long as the first is there. The path must be shorter than 108 bytes.
func (s *Switch) Listen(name, path string) error {
	p, err := s.port(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("switch %s port %s: remove old socket: %w", s.cfg.Name, name, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("switch %s port %s: %w", s.cfg.Name, name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || p.listener != nil {
		l.Close()
		return fmt.Errorf("switch %s port %s: closed, or it listens already", s.cfg.Name, name)
	}
	p.listener = l
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // only Close ends the listener
			}
			if err := s.Attach(name, conn); err != nil {
				conn.Close()
			}
		}
	})
	return nil
}

// Attach connects a station to a port. The switch closes the connection when it ends.
func (s *Switch) Attach(name string, conn net.Conn) error {
	p, err := s.port(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("switch %s port %s: %w", s.cfg.Name, name, net.ErrClosed)
	}
	if p.conn != nil {
		return fmt.Errorf("switch %s port %s: a station is connected already", s.cfg.Name, name)
	}
	p.conn = conn
	p.in, p.out, p.inWait = newQueue(s.cfg.Queue), newQueue(s.cfg.Queue), 0
	p.island.connect(p.number)
	s.event(Event{Port: name, Kind: "link up", Text: "port " + name + ": a station connected"})
	gone := make(chan struct{})
	in, out := p.in, p.out
	s.wg.Go(func() { p.write(conn, out, gone) })
	s.wg.Go(func() { p.release(in, gone) })
	s.wg.Go(func() {
		err := p.read(conn)
		p.detach(conn, err)
		close(gone)
	})
	return nil
}

// detach forgets the station of a port.
func (p *port) detach(conn net.Conn, err error) {
	s := p.sw
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	p.conn = nil
	p.island.disconnect(p.number)
	text := "port " + p.name + ": the station disconnected"
	if err != nil && !errors.Is(err, net.ErrClosed) {
		text += ": " + err.Error()
	}
	s.event(Event{Port: p.name, Kind: "link down", Text: text})
}

// read takes frames from the station until it goes; nil when it closed between two frames.
func (p *port) read(conn net.Conn) error {
	r := bufio.NewReaderSize(conn, 1<<16)
	for {
		frame, err := ReadFrame(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		p.observe(capture.In, frame)
		p.ingress(frame)
	}
}

// ingress applies the rules of the way in.
func (p *port) ingress(frame []byte) {
	s := p.sw
	s.mu.Lock()
	p.stats.InFrames++
	p.stats.InBytes += uint64(len(frame))
	now := s.now()
	if p.mirror != nil {
		p.mirror.copyOut(frame, now)
	}
	passes, lost := p.rules.In.plan(frame, p.rngIn)
	if lost != NotLost {
		p.stats.Lost[lost]++
		s.mu.Unlock()
		return
	}
	direct := p.inWait == 0 && len(passes) == 1 && passes[0].delay == 0
	if !direct {
		for _, ps := range passes {
			if p.in.put(item{frame: frame}, ps, now) {
				p.inWait++
			} else {
				p.stats.Lost[LostQueue]++
			}
		}
	}
	s.mu.Unlock()
	if direct {
		s.forward(p, frame)
	}
}

// release forwards the frames that a rule has delayed.
func (p *port) release(in *queue, gone <-chan struct{}) {
	for {
		it, ok := in.take(gone)
		if !ok {
			return
		}
		p.sw.forward(p, it.frame)
		p.sw.mu.Lock()
		if p.in == in {
			p.inWait--
		}
		p.sw.mu.Unlock()
	}
}

// enqueue applies the rules of the way out; the mutex of the switch is held.
func (p *port) enqueue(frame []byte, now time.Time) {
	passes, lost := p.rules.Out.plan(frame, p.rngOut)
	if lost != NotLost {
		p.stats.Lost[lost]++
	}
	for _, ps := range passes {
		if !p.out.put(item{frame: frame}, ps, now) {
			p.stats.Lost[LostQueue]++
		}
	}
}

// copyOut queues a mirrored copy; the mutex of the switch is held. Copies know no rules and are not mirrored
// again, so mirrors cannot form a loop.
func (p *port) copyOut(frame []byte, now time.Time) {
	if p.conn != nil && !p.out.put(item{frame: frame, mirrored: true}, pass{ordered: true}, now) {
		p.stats.Lost[LostQueue]++
	}
}

// write hands frames to the station until it goes. A station that does not read blocks only this goroutine.
func (p *port) write(conn net.Conn, out *queue, gone <-chan struct{}) {
	for {
		it, ok := out.take(gone)
		if !ok {
			return
		}
		p.observe(capture.Out, it.frame)
		if err := WriteFrame(conn, it.frame); err != nil {
			conn.Close() // the reader sees it and detaches the station
			return
		}
		s := p.sw
		s.mu.Lock()
		p.stats.OutFrames++
		p.stats.OutBytes += uint64(len(it.frame))
		if p.mirror != nil && !it.mirrored {
			p.mirror.copyOut(it.frame, s.now())
		}
		s.mu.Unlock()
	}
}

// observe shows a frame to the capture and the hook of the lab.
func (p *port) observe(dir capture.Direction, frame []byte) {
	p.capMu.Lock()
	now := p.sw.now() // under the lock, so that the times of a capture never go back
	if p.cap != nil {
		if err := p.cap.Write(capture.Frame{Time: now, Dir: dir, Data: frame}); err != nil {
			p.cap = nil // a full disk ends the capture, not the network
			p.sw.mu.Lock()
			p.sw.event(Event{Port: p.name, Kind: "capture", Text: "port " + p.name + ": capture ended: " + err.Error()})
			p.sw.mu.Unlock()
		}
	}
	p.capMu.Unlock()
	if p.sw.cfg.OnFrame != nil {
		p.sw.cfg.OnFrame(Frame{Switch: p.sw.cfg.Name, Port: p.name, Dir: dir, Time: now, Data: frame})
	}
}
