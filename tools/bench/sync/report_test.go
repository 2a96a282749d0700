package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/bench/stat"
)

// TestReport: parts that were measured at different times are kept, and stand on one page.
func TestReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "build", "results.json")
	one := func(name string, p *part) {
		t.Helper()
		r, err := load(path)
		if err != nil {
			t.Fatal(err)
		}
		p.Machine, p.Began = []string{"CPU x", "Twinkeep abc"}, time.Unix(1e9, 0)
		r[name] = p
		if err := r.save(path); err != nil {
			t.Fatal(err)
		}
	}
	one("packets", &part{Rates: []rateResult{{Name: "conntrackd", Offered: 5, Missing: 3}, {Name: "conntrackd", Offered: 5, Made: 5, Lag: []float64{1, 2}}, {Name: "twinkeep", Offered: 5, Caught: 7 * time.Millisecond}}})
	one("join", &part{Joins: []joinResult{{Name: "conntrackd", Entries: 9, Loaded: 4}, {Name: "twinkeep", Entries: 9, Loaded: 9, Raw: time.Second, Took: 2 * time.Second, Complete: true, InSync: 3 * time.Second}}})
	one("hold", &part{Holds: []holdResult{{Offered: 6, On: true, Held: 24, Took: stat.Of([]float64{0.5})}}})
	r, err := load(path)
	if err != nil {
		t.Fatal(err)
	}
	page := r.markdown()
	for _, want := range []string{
		"- CPU x\n", "| 5 | conntrackd, FTFW, external cache disabled | 2 | 2 (0 to 3) | 0 | 0 |", "| 5 | Twinkeep statesyncd | 0 | 0 (0 to 0) | 0 | 7 |",
		"| 9 | 0.00 | conntrackd, FTFW, external cache disabled | – | – | 4 |", "| 9 | 1.00 | Twinkeep statesyncd | 2.00 (2.00 to 2.00) | 3.00 (3.00 to 3.00) | 9 |",
		"| 6 | on | 0 | 0 | 0.50 / 0.50 / 0.50 (0.50) | 24 | 0 |", "Measured 2001-09-09 01:46 UTC in 0s, Twinkeep abc",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	if t.Failed() {
		t.Log(page)
	}
}
