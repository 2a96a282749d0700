package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/twinkeep/twinkeep/tools/bench/pair"
	"github.com/twinkeep/twinkeep/tools/bench/stream"
)

func TestReplaceSection(t *testing.T) {
	section := func(s string) string { return beginMark + "\n" + s + "\n" + endMark }
	tests := []struct{ name, page, want string }{
		{"no page", "", section("new") + "\n"},
		{"a page without it", "# Title\n", "# Title\n\n" + section("new") + "\n"},
		{"an older result", "# Title\n\n" + section("old") + "\nmore\n", "# Title\n\n" + section("new") + "\nmore\n"},
	}
	for _, tt := range tests {
		got, err := replaceSection(tt.page, "new\n")
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s:\n%s", tt.name, diff)
		}
		if again, err := replaceSection(got, "new"); err != nil || again != got {
			t.Errorf("%s: a second time changes the page: %v", tt.name, err)
		}
	}
	for _, bad := range []string{beginMark, endMark, endMark + beginMark} {
		if _, err := replaceSection(bad, "new"); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestWriteSectionMakesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "docs", "benchmarks.md")
	if err := writeSection(path, "text"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !strings.Contains(string(got), "text") {
		t.Errorf("%q, %v", got, err)
	}
}

func trial(e pair.Event, outage time.Duration, lost int, after uint16) Trial {
	return Trial{Event: e, Outage: stream.Outage{RoundTrip: outage, Forward: outage, Lost: lost, PortBefore: 5, PortAfter: after, Recovered: true}}
}

func TestMarkdown(t *testing.T) {
	all := contestants("")
	r := &Result{
		Options: options{n: 2, systems: []string{"keepalived", "twinkeep"}, events: []string{"death", "had"}, hogs: 16, siege: time.Minute},
		Machine: []string{"CPU of a test"},
		Systems: []*SystemResult{
			{contestant: all[0], Name: "peer", Setting: "p", Trials: []Trial{
				trial(pair.Death, 40*time.Millisecond, 40, 5), trial(pair.Death, 60*time.Millisecond, 60, 5)},
				Siege: &Siege{Hogs: 16, For: time.Minute, Takeovers: 74, Unexplained: 70, Busy: 99.6, Stalls: []stream.Stall{{For: 6 * time.Millisecond}, {For: 9 * time.Millisecond}}}},
			{contestant: all[1], Name: "ours", Setting: "o", Trials: []Trial{
				trial(pair.Death, 20*time.Millisecond, 20, 6), trial(pair.Daemon, 4*time.Millisecond, 3, 6),
				{Event: pair.Death, Flips: 2, Failed: true, Outage: stream.Outage{RoundTrip: 30 * time.Millisecond, Late: time.Millisecond}}}},
		},
	}
	got := r.Markdown()
	for _, want := range []string{
		"| death | peer | p | 2 | 50.0 / 60.0 / 60.0 (40.0) | 50.0 / 60.0 / 60.0 (40.0) | 50 / 60 | 2 of 2 | 0 | 0 | 0.0 | – |\n",
		"| death | ours | o | 2 | 25.0 / 30.0 / 30.0 (20.0) | 10.0 / 20.0 / 20.0 (0.0) | 10 / 20 | 0 of 1 | 2 | 1 | 1.0 | 0.50 |\n",
		"| had | ours | o | 1 | 4.0 / 4.0 / 4.0 (4.0) | 4.0 / 4.0 / 4.0 (4.0) | 3 / 3 | 0 of 1 | 0 | 0 | 0.0 | – |\n",
		"| peer | p | 16 | 1m0s | 74, 70 | 0 | 0.0 | 0.0 | 1 / 9.0 | 100 % |\n",
		"go run ./tools/bench/failover -n 2 -systems keepalived,twinkeep -events death,had -survival 0 -hogs 16 -for 1m0s`",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
	err := r.Verdict()
	if err == nil || !strings.Contains(err.Error(), "twinkeep: 1 of 3 takeovers did not happen") {
		t.Errorf("verdict: %v", err)
	}
	r.Systems = r.Systems[:1]
	if err := r.Verdict(); err != nil {
		t.Errorf("verdict on slow but complete takeovers: %v", err)
	}
}

// TestUnexplained: a role change has its reason in a core that stood still before it, for long enough and not long ago.
func TestUnexplained(t *testing.T) {
	at := func(d time.Duration) stream.Time { return stream.Time(10*time.Second + d) }
	stalls := []stream.Stall{{At: at(0), For: 20 * time.Millisecond}, {At: at(5 * time.Second), For: 7 * time.Millisecond}}
	for _, c := range []struct {
		change time.Duration
		want   int
	}{{-time.Millisecond, 1}, {30 * time.Millisecond, 0}, {time.Second, 0}, {1021 * time.Millisecond, 1}, {5020 * time.Millisecond, 1}} {
		if got := unexplained([]stream.Time{at(c.change)}, stalls); got != c.want {
			t.Errorf("a change %v after: %d unexplained, want %d", c.change, got, c.want)
		}
	}
	if got := unexplained(nil, stalls); got != 0 {
		t.Errorf("no change: %d unexplained", got)
	}
}

func TestParse(t *testing.T) {
	o, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.n < 10 || o.hogs != 16 || o.siege != time.Minute || len(o.systems) != 3 {
		t.Errorf("defaults: %+v", o)
	}
	for _, bad := range []string{"-systems=ucarp", "-events=flood", "-n=-1", "-hogs=1000", "-for=1ms", "more"} {
		if _, err := parse([]string{bad}); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	// The printed command repeats the run.
	again, err := parse(strings.Fields(strings.SplitN(o.command(), "./tools/bench/failover ", 2)[1]))
	if diff := cmp.Diff(o, again, cmp.AllowUnexported(options{})); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}
