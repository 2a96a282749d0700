package sshd

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/subnet"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestGuardConnections(t *testing.T) {
	g := newGuard()
	id := uint64(0)
	admit := func(a string) bool {
		id++
		_, why := g.admit(0, id, addr(a))
		return why == ""
	}
	for range maxPerSource {
		if !admit("10.0.0.1") {
			t.Fatal("refused below the limit of a source")
		}
	}
	if admit("10.0.0.1") {
		t.Error("one source has more than its share")
	}
	g.succeeded(1)
	if !admit("10.0.0.1") {
		t.Error("a login does not free its place")
	}
	mine := map[uint64]bool{}
	for id, v := range g.visitors {
		mine[id] = v.source == subnet.Of(addr("10.0.0.1"))
	}
	for i := range 50 { // each finds a place, at the cost of the others
		if !admit(fmt.Sprintf("10.0.1.%d", i)) {
			t.Errorf("stranger %d is refused", i)
		}
	}
	for id := range mine {
		if g.visitors[id] == nil {
			t.Error("strangers have driven out a connection of a source that has logged in before")
		}
	}
	if n := len(g.visitors); n != maxStrangers+1 {
		t.Errorf("%d connections, want %d strangers and one", n, maxStrangers)
	}
	for id := range g.visitors {
		g.succeeded(id)
	}
	for range 50 {
		if admit("10.0.2.1") {
			g.succeeded(id)
		}
	}
	if len(g.visitors) != maxConnections {
		t.Errorf("%d connections, want %d", len(g.visitors), maxConnections)
	}
	for id := range g.visitors {
		g.left(id)
	}
	if !admit("10.0.0.1") {
		t.Error("places are not given back")
	}
}

func refused(_ uint64, why string) string { return why }

func TestGuardFailures(t *testing.T) {
	g := newGuard()
	g.admit(0, 1, addr("10.0.0.1"))
	g.admit(0, 2, addr("10.0.0.2"))
	for i := range freeFailures - 1 {
		if block := g.failed(0, 1); block != 0 {
			t.Fatalf("failure %d shuts out for %v", i+1, block)
		}
	}
	now := time.Duration(0)
	for i, want := range []time.Duration{firstBlock, 2 * firstBlock, 4 * firstBlock, 8 * firstBlock, 16 * firstBlock, maxBlock, maxBlock} {
		if block := g.failed(now, 1); block != want {
			t.Errorf("block %d: %v, want %v", i, block, want)
		}
		if !g.shut(now, 1) || refused(g.admit(now, 3, addr("10.0.0.1"))) == "" {
			t.Error("not shut out")
		}
		if g.shut(now, 2) {
			t.Error("another source is shut out")
		}
		now += want
		if g.shut(now, 1) {
			t.Error("shut out for too long")
		}
	}
	if g.succeeded(1); g.failed(now, 1) != 0 {
		t.Error("a login does not clear the failures")
	}
	for range freeFailures {
		g.failed(now, 2)
	}
	now += 2 * forget
	if g.failed(now, 2) != 0 {
		t.Error("failures are never forgotten")
	}
}

// TestGuardBounded: whatever happens, the tables stay bounded, and the limits hold.
func TestGuardBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	g := newGuard()
	var now time.Duration
	for id := range uint64(20_000) {
		now += time.Duration(rng.IntN(1000)) * time.Millisecond
		a := netip.AddrFrom4([4]byte{10, byte(rng.IntN(4)), byte(rng.IntN(256)), byte(rng.IntN(256))})
		if refused(g.admit(now, id, a)) == "" {
			for range rng.IntN(8) {
				g.failed(now, id)
			}
			if rng.IntN(3) == 0 {
				g.succeeded(id)
			}
		}
		if rng.IntN(2) == 0 {
			for old := range g.visitors {
				g.left(old)
				break
			}
		}
		strangers := 0
		for _, v := range g.visitors {
			if !v.known {
				strangers++
			}
		}
		if len(g.visitors) > maxConnections || strangers > maxStrangers || len(g.sources) > maxSources {
			t.Fatalf("%d connections, %d strangers, %d sources", len(g.visitors), strangers, len(g.sources))
		}
	}
	if len(g.sources) < maxSources/2 {
		t.Fatalf("only %d sources: the test does not fill the table", len(g.sources))
	}
}
