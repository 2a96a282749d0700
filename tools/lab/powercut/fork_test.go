package main

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/twinkeep/twinkeep/tools/lab/nbd"
)

type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

// TestCrash: what was flushed is there, what was not may be lost by sectors.
func TestCrash(t *testing.T) {
	sector := func(b byte) []byte { return bytes.Repeat([]byte{b}, nbd.Sector) }
	records := []nbd.Record{{Off: 0, Data: sector(1)}, {Flush: true}, {Off: nbd.Sector, Data: append(sector(2), sector(3)...)}, {Off: 0, Data: sector(4), FUA: true}}
	r := rand.New(rand.NewPCG(1, 1))
	for at, want := range [][]byte{{0, 0, 0}, {0, 0, 0}, {1, 0, 0}, {1, 0, 0}, {4, 0, 0}} {
		m := make(memory, 3*nbd.Sector)
		sectors, lost, err := crash(m, records[:at], r, 0)
		if err != nil || sectors != lost || m[0] != want[0] || m[nbd.Sector] != want[1] || m[2*nbd.Sector] != want[2] {
			t.Errorf("after %d: %d %d %d, %d of %d lost, %v", at, m[0], m[nbd.Sector], m[2*nbd.Sector], lost, sectors, err)
		}
	}
	m := make(memory, 3*nbd.Sector)
	if _, lost, _ := crash(m, records, r, 1); lost != 0 || m[2*nbd.Sector] != 3 {
		t.Errorf("%d lost", lost)
	}
}

func TestBounds(t *testing.T) {
	marks := []mark{{Value: 1, Begun: 0, Kept: 10}, {Value: 2, Begun: 12, Kept: 20}}
	reset := []mark{{Value: 5, MayBeLost: 1, MustBeLost: 30}}
	for _, tt := range []struct {
		marks       []mark
		at          int
		least, most int
	}{{marks, 5, 0, 1}, {marks, 10, 1, 1}, {marks, 15, 1, 2}, {marks, 20, 2, 2}, {reset, 0, 5, 5}, {reset, 7, 0, 5}, {reset, 30, 0, 0}, {nil, 3, 0, 0}} {
		if least, most := bounds(tt.marks, tt.at); least != tt.least || most != tt.most {
			t.Errorf("%v at %d: %d to %d, want %d to %d", tt.marks, tt.at, least, most, tt.least, tt.most)
		}
	}
}
