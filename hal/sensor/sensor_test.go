package sensor

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	l := Limits{Warn: 80, Critical: 95}
	var j Judge
	for i, s := range []struct {
		celsius float64
		want    Level
	}{
		{20, OK}, {79.9, OK}, {80, Warm}, {76, Warm}, {74.9, OK}, // falls by the hysteresis only
		{96, Warm}, {80, Warm}, {96, Warm}, {96, Critical}, // one reading alone is not critical
		{91, Critical}, {89.9, Warm}, {60, OK},
		{150, Warm}, {150, Critical}, {20, OK},
	} {
		before := j.Level()
		if changed := j.Step(s.celsius, l); j.Level() != s.want || changed != (before != s.want) {
			t.Errorf("%d: at %v: %s, changed %t; want %s", i, s.celsius, j.Level(), changed, s.want)
		}
	}
}

func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		set  Limits
		own  float64
		want Limits
	}{
		{Limits{}, 0, Limits{}},
		{Limits{}, 100, Limits{90, 100}},
		{Limits{Critical: 95}, 100, Limits{85, 95}},
		{Limits{Warn: 70}, 100, Limits{70, 100}},
		{Limits{Warn: 70}, 0, Limits{Warn: 70}},
	} {
		if got := tt.set.Or(tt.own); got != tt.want {
			t.Errorf("%+v.Or(%v) = %+v, want %+v", tt.set, tt.own, got, tt.want)
		}
	}
	var j Judge
	for range 5 {
		if j.Step(500, Limits{}) {
			t.Fatal("a sensor without limits has a level")
		}
	}
}

// A temperature that wavers by less than the hysteresis changes the level at most once.
func TestNoFlapping(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		var j Judge
		centre := 60 + 50*rng.Float64()
		changes := 0
		for i := range 200 {
			if j.Step(centre+4.9*rng.Float64(), Limits{80, 100}) && i > confirm {
				changes++
			}
		}
		if changes > 2 {
			t.Fatalf("%d changes around %v", changes, centre)
		}
	}
}

func TestRead(t *testing.T) {
	root := t.TempDir()
	for file, text := range map[string]string{
		"hwmon0/name": "acpitz\n", "hwmon0/temp1_input": "27800\n",
		"hwmon1/name": "coretemp\n", "hwmon1/temp1_input": "61000\n", "hwmon1/temp1_crit": "105000\n",
		"hwmon2/name": "odd\n", "hwmon2/temp1_input": "warm\n", "hwmon2/temp2_input": "-5500\n", "hwmon2/temp2_crit": "65261850\n",
	} {
		path := filepath.Join(root, "class/hwmon", file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := Read(root, "coretemp", "temp1"); err != nil || r != (Reading{61, 105}) {
		t.Error(r, err)
	}
	if r, err := Read(root, "odd", "temp2"); err != nil || r != (Reading{Celsius: -5.5}) {
		t.Error("a limit that makes no sense is none:", r, err)
	}
	if _, err := Read(root, "odd", "temp1"); err == nil || !strings.Contains(err.Error(), "sensor odd temp1") {
		t.Error(err)
	}
	if _, err := Read(root, "odd", "temp3"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Read(root, "k10temp", "temp1"); !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
}
