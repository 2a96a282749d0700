package main

import (
	"strings"
	"testing"
)

// TestLedger: a run that was interrupted goes on with what is left, and the report is of all.
func TestLedger(t *testing.T) {
	dir := t.TempDir()
	open := func(n int) *ledger {
		l, err := openLedger(dir, 5, n)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.close)
		return l
	}
	l := open(3)
	for _, want := range []int{0, 1, 2, -1} {
		if got := l.next(); got != want {
			t.Fatalf("%d, want %d", got, want)
		}
	}
	l.done(outcome{N: 2, Scene: "upgrade", Slot: "A"})
	l.done(outcome{N: 0, Scene: "first boot", Slot: "A"})
	if err := l.report(); err != nil {
		t.Error(err)
	}
	l = open(4)
	for _, want := range []int{1, 3, -1} {
		if got := l.next(); got != want {
			t.Errorf("%d, want %d", got, want)
		}
	}
	l.done(outcome{N: 3, Scene: "upgrade", Err: "it stands still"})
	if err := l.report(); err == nil || !strings.Contains(err.Error(), "cut 3 during upgrade: it stands still") {
		t.Error(err)
	}
	if n := len(open(9).all); n != 3 {
		t.Errorf("%d are kept, want 3", n)
	}
}
