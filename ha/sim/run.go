package sim

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Run is a number of random histories, played on all CPUs until one breaks an invariant.
type Run struct {
	First, Count uint64        // seeds First .. First+Count-1
	For          time.Duration // stop after this real time, 0: never
	Members      int           // of every cluster, 0: by chance
	Strict       bool          // see [World.Strict]
	Progress     func(Stats)   // told after every history, may be nil
}

// patient is of how many histories of a run one is played to its end although the cluster has come to rest. After that
// the others could show nothing but a defect that stirs by itself later than anything the core has reason for.
const patient = 8

// Stats is what a [Run] has done.
type Stats struct {
	Histories  uint64
	Simulated  time.Duration
	Real       time.Duration
	Violations int
	// Dual, OneWay and Thawed are how many histories had two gates open at once with an excuse, with the excuse that
	// one direction alone was deaf, and after a box had woken up with a frozen clock.
	Dual, OneWay, Thawed uint64
}

// String is one line.
func (s Stats) String() string {
	r := max(s.Real.Seconds(), 1e-9)
	return fmt.Sprintf("%d histories, %.0f/s, %.2f simulated hours/s, %d violations; excused: %d dual, %d of them one-way, %d frozen clock",
		s.Histories, float64(s.Histories)/r, s.Simulated.Hours()/r, s.Violations, s.Dual, s.OneWay, s.Thawed)
}

func (s *Stats) add(w *World) {
	count := func(n *uint64, is bool) {
		if is {
			*n++
		}
	}
	s.Histories++
	s.Simulated += time.Duration(w.Now)
	count(&s.Dual, w.DualTime > 0)
	count(&s.OneWay, w.OneWayTime > 0)
	count(&s.Thawed, w.ThawTime > 0)
	if w.Broken != 0 {
		s.Violations++
	}
}

// heap is how much memory a run may use before the garbage of its heartbeats is collected.
const heap = 256 << 20

// Play plays. It returns the first failing history, nil if there is none.
func (r Run) Play() (Stats, *History) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(heap))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var (
		mu     sync.Mutex
		wg     sync.WaitGroup
		s      Stats
		next   = r.First
		failed *History
		start  = time.Now()
	)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				seed := next
				next++
				done := failed != nil || seed-r.First >= r.Count || r.For > 0 && time.Since(start) > r.For
				mu.Unlock()
				if done {
					return
				}
				h := Generate(seed, r.Members)
				h.Strict = r.Strict
				w := h.play(nil, seed%patient != 0)
				mu.Lock()
				s.add(w)
				s.Real = time.Since(start)
				if w.Broken != 0 && failed == nil {
					failed = &h
				}
				if r.Progress != nil {
					r.Progress(s)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return s, failed
}

// Load finds a history: s is a seed, the JSON of one, or a file with it.
func Load(s string) (History, error) {
	if seed, err := strconv.ParseUint(s, 10, 64); err == nil {
		return Generate(seed, 0), nil
	}
	if strings.HasPrefix(s, "{") {
		return ParseHistory([]byte(s))
	}
	b, err := os.ReadFile(s)
	if err != nil {
		return History{}, fmt.Errorf("load history: %w", err)
	}
	return ParseHistory(b)
}
