package cluster

import (
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// TestEchoFits: in the largest cluster a heartbeat names all that is heard, and a boot that wants to prove itself in the place of a
// silent one; recordings beside members that are heard push nobody out.
func TestEchoFits(t *testing.T) {
	c := testConfig()
	c.Timing.Dead, c.Timing.Silence = 100*time.Millisecond, 300*time.Millisecond
	c.Members = nil
	for id := uint8(1); id <= MaxMembers; id++ {
		c.Members = append(c.Members, Member{ID: id, Name: "gw"})
	}
	for id := uint8(MaxMembers + 1); id <= MaxID; id++ {
		c.Witnesses = append(c.Witnesses, Member{ID: id, Name: "w"})
	}
	m := machine(t, c)
	m.Step(0, Tick{})
	from := func(id uint8, nonce, echo uint64) {
		state := wire.Standby
		if id > MaxMembers {
			state = wire.Witness
		}
		m.Step(m.now+1, BeatReceived{Beat: wire.Beat{Version: 1, Cluster: 7, Member: id, State: state, Interface: 1, NN: 1, Nonce: nonce, Seq: 1,
			Heard: []wire.Heard{{Member: 1, Nonce: m.cfg.Nonce, Seq: echo}}}})
	}
	for id := uint8(2); id <= MaxID; id++ {
		from(id, 100+uint64(id), m.seq) // believed
		from(id, 200+uint64(id), 0)     // not
	}
	check := func(want uint64) {
		t.Helper()
		told := m.echo(1)
		if len(told) > wire.MaxHeard {
			t.Errorf("%d entries, there is room for %d", len(told), wire.MaxHeard)
		}
		seen := map[uint8]uint64{}
		for _, h := range told {
			seen[h.Member] = h.Nonce
		}
		for id := uint8(2); id <= MaxID; id++ {
			if got := seen[id]; got != want+uint64(id) {
				t.Errorf("member %d is told that boot %d is heard, want %d", id, got, want+uint64(id))
			}
		}
	}
	check(100)
	m.Step(m.now.Add(2*c.Timing.Dead), Tick{}) // this member slept: nobody is silent yet
	for range 100 {
		m.Step(m.now.Add(time.Millisecond), Tick{})
	}
	for id := uint8(2); id <= MaxID; id++ {
		from(id, 200+uint64(id), 0)
	}
	check(200)
}

// TestHeardTooLateToProve: a boot that speaks in the last moment of listening, and has not proved itself, puts the end of it off, but once; then the role
// is taken with a term above the one it has said.
func TestHeardTooLateToProve(t *testing.T) {
	m := machine(t, testConfig())
	tm := m.cfg.Timing
	last := Instant(tm.Silence - tm.Beat)
	m.Step(0, Tick{})
	for now, seq := Instant(0), uint64(1); now < Instant(2*tm.Silence) && !m.active(); now, seq = max(m.Deadline(), now+1), seq+1 {
		switch {
		case now >= last.Add(tm.Beat+tm.Dead+3*tm.Beat): // long enough for the bid of one that is alone
			t.Fatalf("%v: %v, %s", time.Duration(now), m.state, m.reason)
		case now >= last:
			hear(m, now, seq, func(b *wire.Beat) { b.Term, b.Heard = 41, nil })
		default:
			m.Step(now, Tick{})
		}
		if m.active() && now < Instant(tm.Silence+tm.Dead) {
			t.Fatalf("the role was taken at %v, a boot had no time to prove itself", time.Duration(now))
		}
	}
	if !m.active() || m.term != 42 {
		t.Errorf("state %v with term %d, want the role with term 42", m.state, m.term)
	}
}
