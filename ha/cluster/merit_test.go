package cluster

import (
	"math/rand/v2"
	"testing"
)

func TestMagnitude(t *testing.T) {
	for _, c := range []struct {
		connections uint32
		want        int
	}{{0, 0}, {63, 0}, {64, 1}, {511, 7}, {512, 8}, {575, 8}, {576, 9}, {1023, 15}, {1024, 16}, {1151, 16}, {1152, 17}, {2048, 24}, {1<<32 - 1, 191}} {
		if got := magnitude(c.connections); got != c.want {
			t.Errorf("magnitude(%d) = %d, want %d", c.connections, got, c.want)
		}
	}
	for c := range uint32(1 << 20) { // every step is one, and at most an eighth, but 64 at first
		if d := magnitude(c+1) - magnitude(c); d < 0 || d > 1 {
			t.Fatalf("from %d to %d connections: %d steps", c, c+1, d)
		}
		if more := c + max(64, c/8); magnitude(more) == magnitude(c) {
			t.Fatalf("%d and %d connections count the same", c, more)
		}
	}
}

// TestMeritOrder: of any members exactly one is the best, whatever is compared; a ring would leave the role vacant.
func TestMeritOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(id uint8) merit {
		return merit{demotion: uint16(rng.IntN(2)), inSync: rng.IntN(2) == 0, connections: uint32(rng.IntN(200)) << rng.IntN(12), priority: uint8(rng.IntN(3)), serial: uint64(rng.IntN(2)), id: id}
	}
	for range 200000 {
		a, b, c := random(1), random(2), random(3)
		if a.compare(b) != -b.compare(a) || a.compare(b) == 0 {
			t.Fatalf("%+v and %+v: %d one way, %d the other", a, b, a.compare(b), b.compare(a))
		}
		if a.compare(b) > 0 && b.compare(c) > 0 && a.compare(c) < 0 {
			t.Fatalf("a ring: %+v, %+v, %+v", a, b, c)
		}
	}
}
