package nic

import (
	"errors"
	"strings"
	"testing"
)

func TestNN(t *testing.T) {
	tests := []struct {
		place Place
		want  uint8
	}{
		{Place{}, 0b000_000_00},
		{Place{Bus: 1}, 0b001_000_00},
		{Place{Slot: 5}, 0b000_101_00},
		{Place{Port: 3}, 0b000_000_11},
		{Place{Bus: 7, Slot: 7, Port: 3}, 0xff},
		{Place{Bus: 2, Slot: 3, Port: 1}, 0b010_011_01},
		{Place{Domain: 0x10000, Bus: 0xe1, Slot: 8, Port: 4}, 0b001_000_00}, // only the low bits count
	}
	for _, tt := range tests {
		if got := NN(tt.place); got != tt.want {
			t.Errorf("NN(%v) = %08b, want %08b", tt.place, got, tt.want)
		}
	}
}

func TestSharedMAC(t *testing.T) {
	if got, want := SharedMAC(0x4d, 255).String(), "10:00:00:00:4d:ff"; got != want {
		t.Errorf("SharedMAC = %s, want %s", got, want)
	}
}

func TestCollisions(t *testing.T) {
	id := func(name string, p Place) Identity { return Identity{name, p, NN(p)} }
	g1, g2, g9 := id("G1", Place{Bus: 1}), id("G2", Place{Bus: 2}), id("G9", Place{Bus: 9})

	if err := Collisions([]Identity{g1, g2}); err != nil {
		t.Errorf("different NN: %v", err)
	}
	err := Collisions([]Identity{g1, g2, g9, {"X1", Place{Bus: 17}, 0x20}})
	var c *CollisionError
	if !errors.As(err, &c) || c.A != g1 || c.B != g9 {
		t.Fatalf("G1 and G9: got %v", err)
	}
	want := "interfaces G1 (0000:01:00.0) and G9 (0000:09:00.0) both have NN 0x20 and so the same shared MAC: " +
		"set a different `nn:` for G9 in the node files of all members\n" +
		"interfaces G1 (0000:01:00.0) and X1 (0000:11:00.0) both have NN 0x20 and so the same shared MAC: " +
		"set a different `nn:` for X1 in the node files of all members"
	if err.Error() != want {
		t.Errorf("error\n%v\nwant\n%s", err, want)
	}
	g9.NN = 0x40
	if err := Collisions([]Identity{g1, g9}); err != nil {
		t.Errorf("set by hand: %v", err)
	}
	if err := Collisions([]Identity{g2, g9}); err == nil || !strings.Contains(err.Error(), "0x40") {
		t.Errorf("set by hand to one in use: %v", err)
	}
}
