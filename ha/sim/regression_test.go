package sim

import (
	"os"
	"path/filepath"
	"testing"
)

// inherent are histories that fail under the strict rules, and why no mending can change that.
var inherent = map[string]string{
	"frozen-clock.json": "nothing of a box whose clock stood still can know that time has passed",
}

// TestRegressions plays histories that failed once, or fail with a seeded defect that random ones hardly find.
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
			switch why := inherent[filepath.Base(f)]; {
			case why == "" && w.Broken != 0:
				t.Error("\n" + h.Story())
			case why != "" && w.Broken == 0:
				t.Errorf("it does not fail (%s): take it off the list", why)
			}
		})
	}
}
