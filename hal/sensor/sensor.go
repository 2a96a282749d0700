// Package sensor reads temperatures from the kernel's hwmon class (Documentation/hwmon/sysfs-interface.rst) and judges
// them. [Judge] is pure; [Read] looks into sysfs.
package sensor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Level is how warm it is.
type Level string

// Levels.
const (
	OK       Level = "ok"
	Warm     Level = "warm"     // from the warning limit on: an event
	Critical Level = "critical" // from the critical limit on: the member may be unfit
)

// Hysteresis is by how much it has to cool below a limit before the level falls, in degrees Celsius.
const Hysteresis = 5

// margin is how far below the critical limit the warning is where nobody says.
const margin = 10

// confirm is how many readings in a row it takes for critical: a single one may be a glitch on the bus.
const confirm = 2

// Limits in degrees Celsius. A limit of 0 is none.
type Limits struct{ Warn, Critical float64 }

// Or fills limits that are not set: critical with the chip's own, warn with 10 below critical.
func (l Limits) Or(own float64) Limits {
	if l.Critical == 0 {
		l.Critical = own
	}
	if l.Warn == 0 && l.Critical > margin {
		l.Warn = l.Critical - margin
	}
	return l
}

// Judge follows one sensor. The zero value has level OK.
type Judge struct {
	level Level
	above int // readings in a row at or above critical
}

// Level is the level now.
func (j *Judge) Level() Level {
	if j.level == "" {
		return OK
	}
	return j.level
}

// Step takes a reading in degrees Celsius and tells whether the level changed.
func (j *Judge) Step(celsius float64, l Limits) (changed bool) {
	before := j.Level()
	at := func(limit float64, holds bool) bool {
		if holds {
			limit -= Hysteresis
		}
		return limit > 0 && celsius >= limit
	}
	if l.Critical > 0 && celsius >= l.Critical {
		j.above++
	} else {
		j.above = 0
	}
	switch {
	case j.above >= confirm, before == Critical && at(l.Critical, true):
		j.level = Critical
	case at(l.Warn, before != OK), j.above > 0:
		j.level = Warm
	default:
		j.level = OK
	}
	return j.level != before
}

// Reading is what a sensor says.
type Reading struct {
	Celsius float64
	// Own is the chip's own critical limit, 0 if it has none that makes sense.
	Own float64
}

// ErrAbsent says that there is no such chip.
var ErrAbsent = errors.New("no such hwmon chip: is its driver loaded?")

// Read reads input ("temp1") of the first chip of that name, in the sysfs mounted at root ("/sys").
func Read(root, chip, input string) (Reading, error) {
	names, err := filepath.Glob(filepath.Join(root, "class/hwmon/hwmon*/name"))
	if err != nil {
		return Reading{}, err
	}
	for _, file := range names {
		name, err := os.ReadFile(file)
		if err != nil || strings.TrimSpace(string(name)) != chip {
			continue
		}
		dir := filepath.Dir(file)
		celsius, err := millidegrees(filepath.Join(dir, input+"_input"))
		if err != nil {
			return Reading{}, fmt.Errorf("sensor %s %s: %w", chip, input, err)
		}
		r := Reading{Celsius: celsius}
		if own, err := millidegrees(filepath.Join(dir, input+"_crit")); err == nil && own > 20 && own < 150 {
			r.Own = own
		}
		return r, nil
	}
	return Reading{}, fmt.Errorf("sensor %s: %w", chip, ErrAbsent)
}

func millidegrees(file string) (float64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return float64(n) / 1000, nil
}
