package cluster

import (
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// TestCompareClocks: who slept is read off how many heartbeats a peer has sent since it was heard last.
func TestCompareClocks(t *testing.T) {
	dead := testConfig().Timing.Dead
	for name, c := range map[string]struct {
		seq           uint64
		after         time.Duration
		slept, sleeps bool // this member, the peer
	}{
		"as many as there was time for": {seq: 1000 + 6*beats(t), after: 6 * testConfig().Timing.Beat},
		"far more":                      {seq: 1000 + 100*beats(t), after: time.Millisecond, slept: true},
		"next to none":                  {seq: 1001, after: 2 * dead, sleeps: true},
		"none, but heard soon again":    {seq: 1001, after: dead / 2},
		"an overtaken one":              {seq: 900, after: 2 * dead},
		"the most there can be":         {seq: wire.FinalSeq - 1, after: time.Millisecond, slept: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := machine(t, testConfig())
			m.now = Instant(time.Hour)
			p := m.others[0]
			p.lastOn, p.lastHeard, p.view.Nonce, p.view.Seq = 0, m.now, 5, 1000
			p.clocks = clocks{leapt: longAgo, slept: longAgo}
			m.now = m.now.Add(c.after)
			m.compareClocks(p, &wire.Beat{Nonce: 5, Seq: c.seq})
			if slept, sleeps := m.slept(p), p.clocks.slept == m.now; slept != c.slept || sleeps != c.sleeps {
				t.Errorf("this member slept: %v, want %v; the peer: %v, want %v", slept, c.slept, sleeps, c.sleeps)
			}
		})
	}
}

// beats is how many heartbeats a member sends in the time of one, on all its interfaces.
func beats(t *testing.T) uint64 { return uint64(len(machine(t, testConfig()).slots)) }
