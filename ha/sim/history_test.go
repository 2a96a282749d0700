package sim

import (
	"flag"
	"testing"
)

var (
	budget = flag.Uint64("histories", 1200, "how many random histories TestHistories plays")
	first  = flag.Uint64("seed", 0, "seed of the first of them")
	shrink = flag.Bool("shrink", true, "make a story of a history that fails in TestHistories")
	replay = flag.String("history", "", "what TestReplay plays: a seed, a file, or a history as JSON")
)

// TestHistories plays random histories on all CPUs; a failing one is shrunk to a story.
func TestHistories(t *testing.T) {
	n := *budget
	if testing.Short() {
		n /= 10
	}
	s, failed := Run{First: *first, Count: n}.Play()
	t.Log(s)
	if failed != nil && !*shrink {
		t.Errorf("seed %d: %s", failed.Seed, failed.Play(nil).Violation)
	} else if failed != nil {
		short := Shrink(*failed)
		t.Errorf("seed %d fails; shrunk to:\n%s", failed.Seed, short.Story())
	}
}

// TestReplay tells the story of one history.
func TestReplay(t *testing.T) {
	if *replay == "" {
		t.Skip("no -history given")
	}
	h, err := Load(*replay)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + h.Story())
	if w := h.Play(nil); w.Broken != 0 {
		t.Error(w.Violation)
	}
}
