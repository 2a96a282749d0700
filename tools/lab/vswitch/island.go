package vswitch

import (
	"fmt"
	"slices"
	"strings"
)

// island is a set of ports that reach each other, with a table of its own: a switch, when the cable between two
// switches is cut. Its fields are guarded by the mutex of the switch.
type island struct {
	table *Table
	up    []int // numbers of the ports that have a station, ascending
}

func newIsland(cfg Config) *island { return &island{table: NewTable(cfg.Age, 0)} }

func (i *island) connect(port int) {
	i.up = append(i.up, port)
	slices.Sort(i.up)
}

func (i *island) disconnect(port int) {
	i.up = slices.DeleteFunc(i.up, func(n int) bool { return n == port })
	i.table.Flush(port)
}

// Split cuts the switch in two: the ports named reach only each other, the rest likewise. Carriers stay up. It replaces
// a Split before it.
func (s *Switch) Split(names ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var away []*port
	for _, n := range names {
		p := s.find(n)
		if p == nil {
			return fmt.Errorf("switch %s: %w: %q", s.cfg.Name, ErrPort, n)
		}
		away = append(away, p)
	}
	s.join()
	other := newIsland(s.cfg)
	for _, p := range away {
		s.move(p, other)
	}
	s.event(Event{Kind: "split", Text: "split off: " + strings.Join(names, ", ")})
	return nil
}

// Join ends a Split.
func (s *Switch) Join() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.join()
	s.event(Event{Kind: "join", Text: "joined again"})
}

func (s *Switch) join() {
	for _, p := range s.ports {
		if p.island != s.whole {
			s.move(p, s.whole)
		}
	}
}

// move takes a port to another island; s.mu is held.
func (s *Switch) move(p *port, to *island) {
	if p.conn != nil {
		p.island.disconnect(p.number)
		to.connect(p.number)
	}
	p.island = to
}
