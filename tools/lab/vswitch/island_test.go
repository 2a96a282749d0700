package vswitch

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// TestSplit: ports reach only those of their side, by tables of their own; afterwards everybody again.
func TestSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{})
		defer b.Close()
		b.listen("a", "b", "c")
		b.send("a", frame(bcast, macA)) // the table knows where a is
		synctest.Wait()
		if err := b.Split("c"); err != nil {
			t.Fatal(err)
		}
		b.send("a", frame(bcast, macA))
		b.send("c", frame(macA, macB))  // unknown on its side, and nobody is there
		b.send("c", frame(bcast, macA)) // a station with the same address on the other side moves nothing on this one
		b.send("b", frame(macA, macB))
		if diff := cmp.Diff(map[string]int{"a": 1, "b": 2, "c": 1}, b.counts()); diff != "" {
			t.Error(diff)
		}
		b.Join()
		b.send("c", frame(bcast, macB))
		if diff := cmp.Diff(map[string]int{"a": 2, "b": 3, "c": 1}, b.counts()); diff != "" {
			t.Error(diff)
		}
		if err := b.Split("z"); !errors.Is(err, ErrPort) {
			t.Errorf("a port that is not there: %v", err)
		}
	})
}
