package sim

import (
	"testing"

	"github.com/twinkeep/twinkeep/ha/cluster"
)

// TestRollOut: histories with other settings exist in good number, and at their end every member that runs has them.
func TestRollOut(t *testing.T) {
	rolled, times := 0, 0
	for seed := range uint64(200) {
		h := Generate(seed, 0)
		if h.Other == nil {
			continue
		}
		rolled++
		if h.Other.Dead != 0 {
			times++
		}
		w := h.Play(nil)
		if w.Broken != 0 {
			t.Errorf("seed %d breaks invariant %d", seed, w.Broken)
		}
		for _, n := range w.Nodes[:w.members] {
			if want := h.Other.PrimaryUp; n.Machine != nil && (n.Config.Mode == cluster.PrimaryUp) != want {
				t.Errorf("seed %d: %s is in mode %v after the change", seed, gw(n.ID), n.Config.Mode)
			}
			if o := h.Other; o.Dead != 0 && n.Machine != nil && Span(n.Config.Timing.Dead) != o.Dead {
				t.Errorf("seed %d: %s has a dead time of %v", seed, gw(n.ID), n.Config.Timing.Dead)
			}
		}
	}
	if rolled < 10 || times == 0 {
		t.Errorf("%d of 200 histories change settings, %d of them times", rolled, times)
	}
}
