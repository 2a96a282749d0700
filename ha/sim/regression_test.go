package sim

import (
	"os"
	"path/filepath"
	"testing"
)

// expectedFailing are histories of known defects of the core: they must fail until those are mended.
var expectedFailing = map[string]string{
	"at-once-handover-to-two.json": atOnce,
	"announce-after-thaw.json":     neverRead,
	"one-way-deaf.json":            "an active member that nobody hears goes on",
	"frozen-clock.json":            "nothing of a box whose clock stood still can know that time has passed",
}

// TestRegressions plays histories that failed once.
func TestRegressions(t *testing.T) {
	files, err := filepath.Glob("testdata/regressions/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no regressions found", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			h, err := ParseHistory(b)
			if err != nil {
				t.Fatal(err)
			}
			w := h.Play(nil)
			switch why := expectedFailing[filepath.Base(f)]; {
			case why == "" && w.Broken != 0:
				t.Error("\n" + h.Story())
			case why != "" && w.Broken == 0:
				t.Errorf("it no longer fails (%s): take it, and the defect if it is mended, off the lists", why)
			}
		})
	}
}
