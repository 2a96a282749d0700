package gpio

import (
	"errors"
	"testing"
)

// A machine without the chip says so, and does not fall over. The lines themselves are tried under QEMU, whose ARM
// machine has a PL061: hal/halvm.
func TestAbsent(t *testing.T) {
	for _, r := range []Ref{{Chip: "no such chip", Line: 3}, {Chip: "*", Line: -1, Name: "no such line"}, {Chip: "[", Line: 0}} {
		if _, err := Out(r); !errors.Is(err, ErrAbsent) {
			t.Errorf("Out(%v): %v", r, err)
		}
		if _, err := In(r); !errors.Is(err, ErrAbsent) {
			t.Errorf("In(%v): %v", r, err)
		}
	}
	if s := (Ref{Chip: "c", Line: 3}).String(); s != "GPIO c line 3" {
		t.Error(s)
	}
	if s := (Ref{Chip: "c", Line: -1, Name: "n"}).String(); s != `GPIO c line "n"` {
		t.Error(s)
	}
}
