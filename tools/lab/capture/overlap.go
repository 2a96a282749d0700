package capture

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/ether"
)

// Service is who served a shared MAC in the captures of one segment.
type Service struct {
	// Owners are the stations that used it, in the order of time, as sets: "a", "b", "a+b". Times in which nobody did
	// are left out, so that a takeover is a step from one to the next.
	Owners []string
	// Both is the time in which two stations used it at once, Times how often that happened: one frame alone takes no time.
	Both  time.Duration
	Times int
	// From and Until are the first and the last moment of that.
	From, Until time.Time
	Frames      map[string]int // from the shared MAC, by station
}

// Shared reports whether a frame is sent from a shared MAC of a cluster.
func Shared(frame []byte, cluster uint8) bool { return shared(ether.Src(frame), cluster) }

// Add puts what another segment shows to it: the worse counts. Owners stay.
func (s Service) Add(o Service) Service {
	if o.Times > 0 && (s.Times == 0 || o.From.Before(s.From)) {
		s.From = o.From
	}
	if o.Until.After(s.Until) {
		s.Until = o.Until
	}
	s.Both, s.Times = max(s.Both, o.Both), max(s.Times, o.Times)
	return s
}

// edge is the start (+1) or end (-1) of a span.
type edge struct {
	at      time.Time
	station string
	step    int
}

// Served tells from the captures of one segment which stations sent from shared MACs, and for how long two did at once.
// Frames of a station that follow each other within join belong together; with the lease for join no open gate is
// missed, for so long it may stay open without a sign. The answer is as exact as somebody asks for the address often.
func Served(traces []Trace, cluster uint8, join time.Duration) Service {
	out := Service{Frames: map[string]int{}}
	spans := spansOf(traces, join, usesShared(cluster))
	for _, mac := range slices.Sorted(maps.Keys(spans)) {
		var edges []edge
		for _, sp := range spans[mac] {
			out.Frames[sp.station] += sp.frames
			edges = append(edges, edge{sp.start, sp.station, 1}, edge{sp.end, sp.station, -1})
		}
		slices.SortStableFunc(edges, func(a, b edge) int { // at the same moment starts come first
			return cmp.Or(a.at.Compare(b.at), cmp.Compare(b.step, a.step))
		})
		out.sweep(edges)
	}
	return out
}

// sweep goes along the edges of one shared MAC.
func (s *Service) sweep(edges []edge) {
	var owners []string
	for i, e := range edges {
		if len(owners) > 1 {
			s.Both += e.at.Sub(edges[i-1].at)
			s.Until = e.at
		}
		if e.step < 0 {
			owners = slices.DeleteFunc(owners, func(o string) bool { return o == e.station })
		} else {
			owners = append(owners, e.station)
			slices.Sort(owners)
		}
		if len(owners) > 1 && e.step > 0 {
			if s.Times++; s.Times == 1 || e.at.Before(s.From) {
				s.From = e.at
			}
		}
		if set := strings.Join(owners, "+"); set != "" && (len(s.Owners) == 0 || s.Owners[len(s.Owners)-1] != set) {
			s.Owners = append(s.Owners, set)
		}
	}
}
