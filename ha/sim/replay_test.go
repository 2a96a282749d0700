package sim

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// told is everything that happens in a history.
func told(h History) []string {
	var lines []string
	h.Play(func(s string) { lines = append(lines, s) })
	return lines
}

// TestSameHistoryTwice: a history is a value, and so is its story. Neither the way it was stored, nor how frames are
// signed, makes a difference.
func TestSameHistoryTwice(t *testing.T) {
	for seed := range uint64(40) {
		h := Generate(seed, 0)
		first := told(h)
		stored, err := ParseHistory([]byte(h.JSON()))
		if err != nil {
			t.Fatal(err)
		}
		signed := h
		signed.RealKey = !h.RealKey
		for name, again := range map[string]History{"generated": Generate(seed, 0), "stored": stored, "signed otherwise": signed} {
			if !slices.Equal(first, told(again)) {
				t.Errorf("seed %d, %s: another story", seed, name)
			}
		}
	}
}

// TestClocksAreNotCompared: it makes no difference what the members' clocks show, and there is no wall clock that
// could be stepped: the core knows nothing but the monotonic clock of its own box (ha/cluster/deps_test.go).
func TestClocksAreNotCompared(t *testing.T) {
	for seed := range uint64(40) {
		h := Generate(seed, 0)
		h.Jiffy = 0 // the phase of a kernel's tick does depend on its clock
		first := told(h)
		for i := range h.Clocks {
			h.Clocks[i] = Span(i) * Span(1000*time.Hour)
		}
		if !slices.Equal(first, told(h)) {
			t.Errorf("seed %d: another story with other clocks", seed)
		}
	}
}

// TestShrink: of a history that fails for one reason, only that reason is left.
func TestShrink(t *testing.T) {
	h := Generate(3, 4)
	h.Strict, h.DropAsleep = true, true
	for id := range uint8(4) { // one of them is active
		h.Faults = append(h.Faults, Fault{At: Span(h.End()) + 30*h.Dead, For: h.Dead * 10, Kind: Freeze, Member: id + 1})
	}
	if h.Play(nil).Broken == 0 {
		t.Fatal("frozen clocks break nothing")
	}
	short := Shrink(h)
	if len(short.Faults) > 2 {
		t.Errorf("not short: %s", short.JSON())
	}
	if s := short.Story(); !strings.Contains(s, "VIOLATION") || !strings.Contains(s, "-history") {
		t.Error(s)
	}
}

// TestFrozenBox: after a pause of the whole box in which its clock stood still, two gates can be open, for as long as
// a beat of the successor needs to arrive. Nothing inside the box could prevent it.
func TestFrozenBox(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		w := settled(t, 2)
		w.AllowDual = frozen
		w.Node(1).PauseBox(300*time.Millisecond, frozen)
		w.Run(290 * time.Millisecond)
		expect(t, w, "ACTIVE ACTIVE", 2) // the sleeper has not learnt yet that it lost the role
		w.Run(time.Second)
		expect(t, w, "STANDBY ACTIVE", 2) // whoever has served last stays, although the sleeper has the higher priority
		if w.Violation != "" || w.DualTime > timing.Lease || !frozen && w.DualTime > 0 {
			t.Errorf("clock frozen %v: two gates open for %v; %s", frozen, w.DualTime, w.Violation)
		}
		t.Logf("clock frozen %v: two gates open for %v", frozen, w.DualTime)
	}
}
