package trial

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/upgrade/esp/esptest"
	"github.com/twinkeep/twinkeep/firmware/upgrade/source"
	"github.com/twinkeep/twinkeep/ha/member"
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
	good := func(state string) member.Status {
		return member.Status{State: state, InSync: true, Devices: []member.DeviceStatus{{Name: "Policy", State: "ok"}}}
	}
	with := func(change func(*member.Status)) member.Status {
		s := good("STANDBY")
		change(&s)
		return s
	}
	for _, tt := range []struct {
		s    member.Status
		want bool
		why  string
	}{
		{good("ACTIVE"), true, "the member is ACTIVE and in sync"},
		{good("STANDBY"), true, "the member is STANDBY and in sync"},
		{good("ACTIVE!"), false, "the member is ACTIVE!"},
		{good("INIT"), false, "the member is INIT"},
		{with(func(s *member.Status) { s.Problems = []string{"interface G1: no carrier"} }), false, "interface G1: no carrier"},
		{with(func(s *member.Status) { s.ConfigError = "line 3: no such key" }), false, "line 3: no such key"},
		{with(func(s *member.Status) { s.InSync = false }), false, "the member is STANDBY and not in sync"},
		{with(func(s *member.Status) { s.Devices[0].State, s.Devices[0].Text = "init", "revision 7 is fetched" }), false, "Policy: init: revision 7 is fetched"},
		{with(func(s *member.Status) { s.Devices[0].State = "problem" }), false, "Policy: problem"},
	} {
		if ok, why := Fit(tt.s); ok != tt.want || why != tt.why {
			t.Errorf("%+v: %t, %q", tt.s, ok, why)
		}
	}
}

// TestConfirm: the image of a folder that stands for a box is kept, and PID 1 is told.
func TestConfirm(t *testing.T) {
	f := esptest.New(t, t.TempDir(), esptest.Release(1))
	b := Box{Place: f.Place(), RunDir: t.TempDir()}
	if on, err := b.OnTrial(); on || err != nil {
		t.Fatal(on, err)
	}
	sys, err := b.Place.Open()
	if err != nil {
		t.Fatal(err)
	}
	file := esptest.Bundle(t, esptest.Release(2), 0)
	if _, err := sys.Install(&source.Source{ReadCloser: io.NopCloser(bytes.NewReader(file)), Size: int64(len(file))}, false, nil); err != nil {
		t.Fatal(err)
	}
	sys.Close()
	f.Start()
	if on, err := b.OnTrial(); !on || err != nil {
		t.Fatal(on, err)
	}
	if err := b.Confirm(t.Logf); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(b.RunDir, ConfirmedFile)); err != nil {
		t.Error(err)
	}
	if r := f.Start(); r != esptest.Release(2) {
		t.Errorf("%v", r)
	}
	if list := f.List(); !strings.Contains(list, "failsafe-b.conf") {
		t.Errorf("no failsafe entry:\n%s", list)
	}
}
