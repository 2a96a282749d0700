package vswitch

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/capture"
	"github.com/twinkeep/twinkeep/tools/lab/ether"
)

// Config describes a switch.
type Config struct {
	Name string // e.g. "lan"
	// Seed makes the random choices of the rules repeatable. Each port and direction draws from its own stream,
	// so that traffic on one port does not change what happens on another.
	Seed uint64
	Age  time.Duration // ageing time of the table, DefaultAge when zero
	// Queue is the number of frames that wait at most at each port and direction; 1024 when zero.
	Queue int
	// OnFrame observes every frame at every port, see Frame. It is called on the path of the frame and must
	// return quickly; it must not call the switch.
	OnFrame func(Frame)
}

// Frame is one frame as seen at one port: In when it arrived from the station, before the rules; Out when it is
// handed to the station, after the rules. Data is shared and must not be written to.
type Frame struct {
	Switch, Port string
	Dir          capture.Direction
	Time         time.Time
	Data         []byte
}

// Event is something that happened to the switch. Kind is "link up", "link down", "move", "rules", "split",
// "join" or "capture".
type Event struct {
	Time time.Time `json:"time"`
	Port string    `json:"port"`
	Kind string    `json:"kind"`
	MAC  ether.MAC `json:"mac,omitzero"`   // of a move
	From string    `json:"from,omitempty"` // of a move: the port where the station was before
	Text string    `json:"text"`
}

// Stats are the counters of one port since the start.
type Stats struct {
	Up                  bool
	InFrames, OutFrames uint64
	InBytes, OutBytes   uint64
	Lost                map[Loss]uint64 // both directions, by reason
	Refused             map[Verdict]uint64
}

const maxEvents = 1024 // kept by a switch, the oldest go first

// ErrPort is returned for a port that the switch does not have.
var ErrPort = errors.New("no such port")

// Switch is a running switch. All methods are safe for concurrent use.
type Switch struct {
	cfg   Config
	epoch time.Time

	mu     sync.Mutex
	whole  *island // the ports that no Split took away
	ports  []*port
	events []Event
	closed bool
	wg     sync.WaitGroup
}

// New makes a switch without ports.
func New(cfg Config) *Switch {
	if cfg.Queue <= 0 {
		cfg.Queue = 1024
	}
	return &Switch{cfg: cfg, epoch: time.Now(), whole: newIsland(cfg)}
}

// Name returns the name of the switch.
func (s *Switch) Name() string { return s.cfg.Name }

// now reads a clock that is wall time at the start and monotonic from then on: a step of the wall clock must not
// reorder a capture.
func (s *Switch) now() time.Time { return s.epoch.Add(time.Since(s.epoch)) }

// AddPort adds a port without a station. Give it one with Listen or Attach.
func (s *Switch) AddPort(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.find(name) != nil {
		return fmt.Errorf("switch %s: port %q exists already", s.cfg.Name, name)
	}
	n := len(s.ports)
	s.ports = append(s.ports, &port{
		sw: s, name: name, number: n, island: s.whole,
		in: newQueue(s.cfg.Queue), out: newQueue(s.cfg.Queue),
		rngIn:  rand.New(rand.NewPCG(s.cfg.Seed, uint64(2*n))),
		rngOut: rand.New(rand.NewPCG(s.cfg.Seed, uint64(2*n+1))),
		stats:  Stats{Lost: map[Loss]uint64{}, Refused: map[Verdict]uint64{}},
	})
	return nil
}

func (s *Switch) find(name string) *port {
	for _, p := range s.ports {
		if p.name == name {
			return p
		}
	}
	return nil
}

// port looks a port up; the error lists the ports there are.
func (s *Switch) port(name string) (*port, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.find(name); p != nil {
		return p, nil
	}
	var have []string
	for _, p := range s.ports {
		have = append(have, p.name)
	}
	return nil, fmt.Errorf("switch %s: %w: %q, there are %q", s.cfg.Name, ErrPort, name, have)
}

// SetRules replaces the rules of a port. Frames that wait already keep their due time.
func (s *Switch) SetRules(name string, r Rules) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("switch %s port %s: %w", s.cfg.Name, name, err)
	}
	p, err := s.port(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	mirror := s.find(r.Mirror)
	if r.Mirror != "" && (mirror == nil || mirror == p) {
		return fmt.Errorf("switch %s port %s: mirror to %q: want the name of another port", s.cfg.Name, name, r.Mirror)
	}
	p.rules, p.mirror = r, mirror
	s.event(Event{Port: name, Kind: "rules", Text: fmt.Sprintf("port %s: %+v", name, r)})
	return nil
}

// Capture records both directions of a port from now on until Close. Every frame is one Write.
func (s *Switch) Capture(name string, w io.Writer) error {
	p, err := s.port(name)
	if err != nil {
		return err
	}
	cw, err := capture.NewWriter(w, name)
	if err != nil {
		return fmt.Errorf("switch %s port %s: %w", s.cfg.Name, name, err)
	}
	p.capMu.Lock()
	defer p.capMu.Unlock()
	p.cap = cw
	return nil
}

// Stats returns the counters of a port.
func (s *Switch) Stats(name string) (Stats, error) {
	p, err := s.port(name)
	if err != nil {
		return Stats{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := p.stats
	st.Up = p.conn != nil
	st.Lost, st.Refused = map[Loss]uint64{}, map[Verdict]uint64{}
	for k, v := range p.stats.Lost {
		st.Lost[k] = v
	}
	for k, v := range p.stats.Refused {
		st.Refused[k] = v
	}
	return st, nil
}

// Events returns the last events, oldest first.
func (s *Switch) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// event records an event; s.mu is held.
func (s *Switch) event(e Event) {
	if e.Time.IsZero() {
		e.Time = s.now()
	}
	if len(s.events) >= maxEvents {
		s.events = slices.Delete(s.events, 0, maxEvents/4)
	}
	s.events = append(s.events, e)
}

// forward sends a frame that came through the rules of its port to where the table says.
func (s *Switch) forward(p *port, frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	d := p.island.table.Forward(frame, p.number, p.island.up, now)
	if d.Move != nil {
		from := s.ports[d.Move.From].name
		s.event(Event{Time: now, Port: p.name, Kind: "move", MAC: d.Move.MAC, From: from,
			Text: fmt.Sprintf("%v moved from port %s to port %s", d.Move.MAC, from, p.name)})
	}
	switch d.Verdict {
	case Runt, BadSource, Reserved:
		p.stats.Refused[d.Verdict]++
	}
	for _, n := range d.Out {
		s.ports[n].enqueue(frame, now)
	}
}

// Close ends every port and waits until its goroutines are gone.
func (s *Switch) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for _, p := range s.ports {
		if p.conn != nil {
			p.conn.Close()
		}
		if p.listener != nil {
			p.listener.Close()
		}
	}
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}
