package trial

import (
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	j := Judge{For: 10 * time.Second}
	for _, s := range []struct {
		at      int
		healthy bool
		want    bool
	}{{1, false, false}, {5, true, false}, {14, true, false}, {14, false, false}, {15, true, false}, {24, true, false}, {25, true, true}} {
		if got := j.Step(time.Duration(s.at)*time.Second, s.healthy); got != s.want {
			t.Errorf("at %d s: %t, want %t", s.at, got, s.want)
		}
	}
}

func TestFit(t *testing.T) {
	for _, tt := range []struct {
		state, config string
		problems      []string
		want          bool
		why           string
	}{
		{"ACTIVE", "", nil, true, "the member is ACTIVE"},
		{"STANDBY", "", nil, true, "the member is STANDBY"},
		{"ACTIVE!", "", nil, false, "the member is ACTIVE!"},
		{"INIT", "", nil, false, "the member is INIT"},
		{"ACTIVE", "", []string{"interface G1: no carrier"}, false, "interface G1: no carrier"},
		{"DOWN", "line 3: no such key", nil, false, "line 3: no such key"},
	} {
		if ok, why := Fit(tt.state, tt.config, tt.problems); ok != tt.want || why != tt.why {
			t.Errorf("%s: %t, %q", tt.state, ok, why)
		}
	}
}
