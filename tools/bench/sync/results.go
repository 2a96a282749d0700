package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/twinkeep/twinkeep/tools/bench/stat"
)

// order of the parts.
var order = []string{"ceiling", "packets", "netlink", "churn", "join", "hold"}

// part is what was measured of one.
type part struct {
	Machine       []string // Twinkeep's version last
	Began         time.Time
	Took          time.Duration
	Before, After string // load average
	Seconds, N    int    // of load, of trials
	Ceiling       []float64
	Rates         []rateResult
	Joins         []joinResult
	Holds         []holdResult
}

// rateResult is one trial of a rate.
type rateResult struct {
	Name          string
	Offered       int
	Made          float64 // a second
	Missing       int     // on the standby at last
	Behind        int     // when the generator stopped
	Caught        time.Duration
	CPUA, CPUB    float64   // µs of the daemon for a flow
	Lag           []float64 // ms
	Busy          float64   // percent of the machine
	RSSA, RSSB    int
	Lost, Repairs uint64
}

// joinResult is one trial of a load.
type joinResult struct {
	Name       string
	Entries    int
	Raw        time.Duration // for the same by netlink alone
	Loaded     int
	Took       time.Duration // until the kernel's table has all
	InSync     time.Duration // until the daemon says so; 0 for conntrackd, which does not know
	CPU        time.Duration // of the standby's daemon
	RSSA, RSSB int
	Complete   bool
}

// holdResult is one trial of first packets.
type holdResult struct {
	Offered    int
	On         bool
	Arrived    float64 // a second
	Lost       int
	Took       stat.Summary // of a first packet, ms
	Held, Late uint64
	CPUA, CPUB float64 // µs of the daemon for a flow
	Busy       float64 // percent of the machine
}

// report has the parts by name.
type report map[string]*part

// load reads what was measured before.
func load(path string) (report, error) {
	r := report{}
	b, err := os.ReadFile(path)
	if path == "" || errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was measured before: %w (remove the file to begin anew)", err)
	}
	return r, nil
}

func (r report) save(path string) error {
	if path == "" {
		return nil
	}
	b, err := json.Marshal(r)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		return fmt.Errorf("keep what was measured: %w", err)
	}
	return nil
}
