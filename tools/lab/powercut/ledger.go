package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// outcome is what came of one cut.
type outcome struct {
	N       int     `json:"n"`
	Scene   string  `json:"scene"`
	At      int     `json:"at"` // writes and flushes before it
	Of      int     `json:"of"`
	Sectors int     `json:"sectors"` // in the cache at that moment
	Lost    int     `json:"lost"`    // of them
	Slot    string  `json:"slot,omitempty"`
	Err     string  `json:"err,omitempty"`
	Seconds float64 `json:"seconds"`
}

// ledger keeps outcomes in a file, a line each, so that a run that was interrupted goes on with the cuts that are left.
type ledger struct {
	mu    sync.Mutex
	file  *os.File
	all   map[int]outcome
	n     int // wanted: numbers 0 to n-1
	begun int // numbers below it were given out, or were done before
	now   int // done by this process
}

func openLedger(dir string, seed uint64, n int) (*ledger, error) {
	name := filepath.Join(dir, fmt.Sprintf("cuts-%d.jsonl", seed))
	l := &ledger{all: make(map[int]outcome), n: n}
	old, err := os.Open(name)
	if err == nil {
		defer old.Close()
		s := bufio.NewScanner(old)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			var o outcome
			if err := json.Unmarshal(s.Bytes(), &o); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			l.all[o.N] = o
		}
		err = s.Err()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l.file, err = os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return l, err
}

func (l *ledger) close() { l.file.Close() }

// next gives out the next number, -1 when there is none.
func (l *ledger) next() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ; l.begun < l.n; l.begun++ {
		if _, ok := l.all[l.begun]; !ok {
			l.begun++
			return l.begun - 1
		}
	}
	return -1
}

func (l *ledger) done(o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all[o.N] = o
	l.now++
	line, err := json.Marshal(o)
	if err == nil {
		_, err = l.file.Write(append(line, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "powercut:", err)
	}
	word := "back in slot " + o.Slot
	if o.Err != "" {
		word = "FAILED: " + o.Err
	}
	fmt.Printf("cut %d during %s (write %d of %d, %d of %d cached sectors lost): %s, %.0f s\n", o.N, o.Scene, o.At, o.Of, o.Lost, o.Sectors, word, o.Seconds)
}

// report sums up all that was done with this seed, by this process and by those before it.
func (l *ledger) report() error {
	scenes, slots := make(map[string]int), make(map[string]int)
	sectors, lost := 0, 0
	var failures []string
	for _, n := range slices.Sorted(maps.Keys(l.all)) {
		o := l.all[n]
		scenes[o.Scene]++
		sectors += o.Sectors
		lost += o.Lost
		if o.Err != "" {
			failures = append(failures, fmt.Sprintf("cut %d during %s: %s", n, o.Scene, o.Err))
		} else {
			slots[o.Slot]++
		}
	}
	fmt.Printf("%d power cuts, each followed by a boot (%d of them just now): %s\n", len(l.all), l.now, counts(scenes))
	fmt.Printf("write cache: %d sectors at the moments of the cuts, %d of them lost\n", sectors, lost)
	fmt.Printf("came back in slot: %s\n", counts(slots))
	if len(failures) > 0 {
		return fmt.Errorf("%d did not come back as they should:\n%s", len(failures), strings.Join(failures, "\n"))
	}
	fmt.Printf("all %d came back with a slot that works and with all that was acknowledged\n", len(l.all))
	return nil
}

func counts(m map[string]int) string {
	var words []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		words = append(words, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(words, ", ")
}
