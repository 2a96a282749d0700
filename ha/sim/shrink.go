package sim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// shrinkPlays bounds how often a failing history is played while it is made shorter.
const shrinkPlays = 600

// Shrink returns the shortest history it finds that breaks the same invariant as h, which must break one.
func Shrink(h History) History {
	s := shrinker{best: h, want: h.Play(nil).Broken, left: shrinkPlays}
	for s.progress = true; s.progress && s.left > 0; {
		s.progress = false
		s.dropFaults()
		s.simplify()
		s.shorten()
	}
	return s.best
}

type shrinker struct {
	best     History
	want     int
	left     int
	progress bool
}

// try keeps a changed copy of the best history if it still fails.
func (s *shrinker) try(change func(*History)) bool {
	if s.left == 0 {
		return false
	}
	s.left--
	h := s.best
	h.Faults, h.Clocks = slices.Clone(h.Faults), slices.Clone(h.Clocks)
	change(&h)
	if h.Play(nil).Broken != s.want {
		return false
	}
	s.best, s.progress = h, true
	return true
}

// dropFaults leaves out as many at once as it can, then one after the other.
func (s *shrinker) dropFaults() {
	for size := len(s.best.Faults); size >= 1; size /= 2 {
		for i := 0; i+size <= len(s.best.Faults); {
			if !s.try(func(h *History) { h.Faults = slices.Delete(h.Faults, i, i+size) }) {
				i += size
			}
		}
	}
}

// simplify takes away what need not be there besides the faults.
func (s *shrinker) simplify() {
	b := &s.best
	for s.best.Members > 2 && s.best.needs(1, maxMember) < s.best.Members && s.try(func(h *History) { h.Members-- }) {
	}
	for s.best.Witnesses > 0 && s.best.needs(maxMember+1, maxID) < maxMember+s.best.Witnesses && s.try(func(h *History) { h.Witnesses-- }) {
	}
	for _, c := range []struct {
		is   bool
		away func(*History)
	}{
		{b.Normal > 1, (*History).oneNormal},
		{b.Duplicate > 0, func(h *History) { h.Duplicate = 0 }},
		{b.Jiffy > 0, func(h *History) { h.Jiffy = 0 }},
		{b.Jitter > 0, func(h *History) { h.Jitter = 0 }},
		{b.Clocks != nil, func(h *History) { h.Clocks = nil }},
		{b.RealKey, func(h *History) { h.RealKey = false }},
		{b.PrimaryUp, func(h *History) { h.PrimaryUp = false }},
		{b.Safety, func(h *History) { h.Safety = false }},
		{b.Lock, func(h *History) { h.Lock = false }},
		{b.Barrier, func(h *History) { h.Barrier = false }},
		{b.Other != nil, func(h *History) { h.Other = nil }},
		{b.Newer > 0, func(h *History) { h.Newer = 0 }},
		{b.DropAsleep, func(h *History) { h.DropAsleep = false }},
		{b.Seed > 9, func(h *History) { h.Seed = 1 }},
	} {
		if c.is {
			s.try(c.away)
		}
	}
}

// needs is the highest ID from a range that a fault names.
func (h *History) needs(from, to int) (id int) {
	for _, f := range h.Faults {
		for _, m := range append([]int{int(f.Member), int(f.Peer)}, f.Side...) {
			if from <= m && m <= to {
				id = max(id, m)
			}
		}
	}
	return id
}

// shorten makes faults weaker, and takes the time out between them.
func (s *shrinker) shorten() {
	for i := range s.best.Faults {
		f := s.best.Faults[i]
		if f.On != "" {
			_ = f.Member != 0 && s.try(func(h *History) { h.Faults[i].On, h.Faults[i].Lag = "", 0 }) ||
				f.Lag > 0 && s.try(func(h *History) { h.Faults[i].Lag = 0 })
		}
		if f.For > Span(ms) {
			_ = s.try(func(h *History) { h.Faults[i].For = (f.For / 2).round() }) ||
				f.For.round() != f.For && s.try(func(h *History) { h.Faults[i].For = f.For.round() })
		}
		before := Span(0)
		if i > 0 {
			before = s.best.Faults[i-1].At
		}
		if gap := f.At - before; gap > Span(ms) {
			cut := func(by Span) func(*History) {
				return func(h *History) {
					for j := i; j < len(h.Faults); j++ {
						h.Faults[j].At -= by
					}
				}
			}
			_ = s.try(cut(gap/2)) || f.At.round() != f.At && s.try(func(h *History) { h.Faults[i].At = f.At.round() })
		}
	}
}

func (s Span) round() Span { return Span(time.Duration(s).Round(ms)) }

// Story tells a history to a network engineer: what is set up, what goes wrong, what every member says, and how to
// play it again.
func (h *History) Story() string {
	var b strings.Builder
	if h.Note != "" {
		fmt.Fprintf(&b, "%s\n", h.Note)
	}
	what := ""
	if h.Witnesses > 0 {
		what = fmt.Sprintf(", %d witnesses", h.Witnesses)
	}
	if o := h.Other; o != nil {
		what += fmt.Sprintf(", rolled over to %+v", *o)
	}
	for i, on := range []bool{h.PrimaryUp, h.Safety, h.Lock, h.Barrier} {
		if on {
			what += []string{", mode primary-up", ", safety", ", lock", ", barrier"}[i]
		}
	}
	fmt.Fprintf(&b, "%d members%s, %d interfaces and sync; beat %v, lease %v, dead %v, silence %v; delay %v, jitter %v\n",
		h.Members, what, h.Normal, h.Beat, h.Lease, h.Dead, h.Silence, h.Delay, h.Jitter)
	w := h.Play(func(line string) { b.WriteString(line + "\n") })
	if w.Broken == 0 {
		b.WriteString("no invariant is broken\n")
	}
	fmt.Fprintf(&b, "states %s\nplay it again: go test ./ha/sim -run 'TestReplay$' -v -history '%s'\n", w.States(), h.JSON())
	return b.String()
}

// JSON is the history on one line.
func (h *History) JSON() string {
	b, err := json.Marshal(h)
	if err != nil {
		panic("sim: " + err.Error()) // no field can fail
	}
	return string(b)
}

// ParseHistory reads [History.JSON].
func ParseHistory(b []byte) (History, error) {
	var h History
	if err := json.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("read history: %w", err)
	}
	members, witnesses := h.needs(1, maxMember), h.needs(maxMember+1, 255)
	if h.Members < 1 || h.Members > maxMember || h.Normal < 0 || h.Normal >= maxIface || members > h.Members || h.Witnesses < 0 || maxMember+h.Witnesses > maxID || witnesses > maxMember+h.Witnesses {
		return h, fmt.Errorf("history: %d members (1..%d), %d witnesses (0..%d), %d interfaces besides sync (0..%d), faults name member %d and witness %d",
			h.Members, maxMember, h.Witnesses, maxID-maxMember, h.Normal, maxIface-1, members, witnesses)
	}
	for _, f := range h.Faults {
		if f.Member == 0 && f.On == "" && !f.anywhere() {
			return h, fmt.Errorf("history: %s of nobody", f.Kind)
		}
		if f.Interface < All || f.Interface > h.Normal {
			return h, fmt.Errorf("history: fault on interface %d of %d", f.Interface, h.Normal+1)
		}
	}
	return h, h.Timing().Validate()
}

// oneNormal leaves one interface besides the sync interface, which keeps its faults.
func (h *History) oneNormal() {
	for i, f := range h.Faults {
		if f.Interface == h.Normal {
			h.Faults[i].Interface = 1
		} else if f.Interface != All {
			h.Faults[i].Interface = 0
		}
	}
	h.Normal = 1
}
