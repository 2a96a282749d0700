package power

import (
	"slices"
	"testing"
	"time"
)

func TestMonitor(t *testing.T) {
	var m Monitor
	for i, s := range []struct {
		at      float64
		failing bool
		want    []Action
	}{
		{1, false, nil},
		{2, true, []Action{LastGasp}},
		{2.1, true, nil},
		{3, false, nil}, // a dip
		{4, true, nil},  // one gasp for all of it
		{5, false, nil},
		{14.9, false, nil},
		{15, false, []Action{Back}},
		{16, false, nil},
		{17, true, []Action{LastGasp}},
	} {
		got := m.Step(time.Duration(s.at*float64(time.Second)), s.failing)
		if !slices.Equal(got, s.want) {
			t.Errorf("%d: %v, want %v", i, got, s.want)
		}
	}
	if !m.Failing() {
		t.Error("it is failing")
	}
	if _, ok := m.Deadline(); ok {
		t.Error("time does not bring the supply back")
	}
	m.Step(20*time.Second, false)
	at, ok := m.Deadline()
	if !ok || at != 30*time.Second || m.Tick(at-1) != nil || !slices.Equal(m.Tick(at), []Action{Back}) || m.Failing() {
		t.Errorf("deadline %v, %t", at, ok)
	}
}
