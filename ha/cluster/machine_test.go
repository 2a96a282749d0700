package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

func testConfig() Config {
	return Config{
		Cluster: 7, Self: 1, Nonce: 1, Timing: DefaultTiming,
		Members:    []Member{{ID: 1, Name: "gw-a", Priority: 120}, {ID: 2, Name: "gw-b", Priority: 100}},
		Interfaces: []Interface{{Number: 1, Name: "G1", NN: 1, Heartbeat: true}, {Number: 2, Name: "G2", NN: 2, Heartbeat: true}, {Number: 3, Name: "G3", NN: 3, Heartbeat: true, Sync: true}},
	}
}

func machine(t testing.TB, cfg Config) *Machine {
	t.Helper()
	m, err := New(cfg, 0)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTimingValidate(t *testing.T) {
	ms := time.Millisecond
	for _, c := range []struct {
		name string
		t    Timing
		ok   bool
	}{
		{"default", DefaultTiming, true},
		{"fast", Timing{4 * ms, 16 * ms, 24 * ms, 200 * ms}, true},
		{"lease not shorter than dead", Timing{10 * ms, 60 * ms, 60 * ms, 500 * ms}, false},
		{"lease + beat not shorter than dead", Timing{10 * ms, 50 * ms, 60 * ms, 500 * ms}, false},
		{"lease of one beat", Timing{30 * ms, 40 * ms, 90 * ms, 500 * ms}, false},
		{"lease below the kernel's tick", Timing{2 * ms, 8 * ms, 24 * ms, 500 * ms}, false},
		{"beat 0", Timing{0, 40 * ms, 60 * ms, 500 * ms}, false},
		{"silence shorter than dead", Timing{10 * ms, 40 * ms, 60 * ms, 50 * ms}, false},
	} {
		if err := c.t.Validate(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestSchedule: every normal interface once a beat, sync at least twice as often as any other (DESIGN §5).
func TestSchedule(t *testing.T) {
	for n := range 6 {
		cfg := testConfig()
		cfg.Interfaces = []Interface{{Number: 1, Name: "sync", Sync: true, Heartbeat: true}}
		for i := range n {
			cfg.Interfaces = append(cfg.Interfaces, Interface{Number: uint8(i + 2), Name: "G", Heartbeat: true})
		}
		m := machine(t, cfg)
		sent := make([]int, len(cfg.Interfaces))
		for now := Instant(0); now < Instant(100*cfg.Timing.Beat); now = m.Deadline() {
			for _, a := range m.Step(now, Tick{}) {
				if s, ok := a.(Send); ok {
					sent[s.Interface]++
				}
			}
		}
		for i := 1; i <= n; i++ {
			if sent[i] < 98 || sent[i] > 104 { // news leave at once, on all
				t.Errorf("%d normal interfaces: %d heartbeats in 100 beats on number %d", n, sent[i], i)
			}
			if sent[0] < 2*sent[i]-6 {
				t.Errorf("%d normal interfaces: %d heartbeats on sync, %d on number %d", n, sent[0], sent[i], i)
			}
		}
		if sent[0] < 195 {
			t.Errorf("%d normal interfaces: %d heartbeats in 100 beats on sync", n, sent[0])
		}
	}
}

// hears a fresh, proven heartbeat of member 2.
func hear(m *Machine, now Instant, seq uint64, change func(*wire.Beat)) []Action {
	b := wire.Beat{Version: 1, Cluster: 7, Member: 2, State: wire.Standby, Interface: 1, NN: 1, Nonce: 22, Seq: seq, Flags: wire.InSync,
		Heard: []wire.Heard{{Member: 1, Nonce: m.cfg.Nonce, Seq: m.seq}}}
	if change != nil {
		change(&b)
	}
	return m.Step(now, BeatReceived{Interface: 0, Beat: b})
}

func refused(m *Machine, r wire.Reason) uint64 { return m.View().Refused[r] }

func TestRefusedHeartbeatsChangeNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*wire.Beat)
		want   wire.Reason
	}{
		{"foreign cluster", func(b *wire.Beat) { b.Cluster = 8 }, wire.Foreign},
		{"myself", func(b *wire.Beat) { b.Member = 1 }, wire.Myself},
		{"unknown member", func(b *wire.Beat) { b.Member = 3 }, wire.Unknown},
		{"no echo", func(b *wire.Beat) { b.Heard = nil }, wire.Unproven},
		{"echo of another boot", func(b *wire.Beat) { b.Heard[0].Nonce = 99 }, wire.Unproven},
		{"echo from the future", func(b *wire.Beat) { b.Heard[0].Seq += 1 }, wire.Unproven},
		{"farewell of an unknown boot", func(b *wire.Beat) { b.Flags |= wire.Farewell; b.Seq = wire.FinalSeq }, wire.Replay},
		{"bad state", func(b *wire.Beat) { b.State = 77 }, wire.Malformed},
		{"bad interface", func(b *wire.Beat) { b.Interface = 200 }, wire.Malformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := machine(t, testConfig())
			m.Step(0, Tick{})
			hear(m, 1, 5, func(b *wire.Beat) {
				b.Flags |= wire.Holder // would keep us on standby for ever
				b.State, b.Term = wire.Active, 1000
				c.change(b)
			})
			if n := refused(m, c.want); n != 1 {
				t.Errorf("counted %d as %s: %v", n, c.want, m.View().Refused)
			}
			v := m.View()
			if v.Term != 0 || v.Holder != 0 || v.Peers[0].Alive || v.State != wire.Init {
				t.Errorf("it changed the state: %+v", v)
			}
		})
	}
}

func TestReplay(t *testing.T) {
	m := machine(t, testConfig())
	m.Step(0, Tick{})
	hear(m, 1, 10, nil)
	if !m.View().Peers[0].Alive {
		t.Fatal("a proven heartbeat did not make the peer alive")
	}
	hear(m, 2, 10, nil)
	hear(m, 3, 9, nil)
	if n := refused(m, wire.Replay); n != 2 {
		t.Errorf("%d replays counted, want 2", n)
	}
	// A new boot of the peer, then the old boot again: its time is over, however new its sequence.
	hear(m, 4, 1, func(b *wire.Beat) { b.Nonce = 23 }) // a recording: it echoes nothing that was sent since the old boot was heard
	if n := refused(m, wire.Unproven); n != 1 {
		t.Errorf("a boot was believed beside one that is heard")
	}
	later := Instant(20 * time.Millisecond)
	m.Step(later, Tick{})
	hear(m, later+1, 1, func(b *wire.Beat) { b.Nonce = 23 })
	hear(m, later+2, 11, nil)
	if n := refused(m, wire.Replay); n != 3 {
		t.Errorf("%d replays counted, want 3", n)
	}
	// An echo that is too old proves nothing.
	for now := Instant(0); now < Instant(time.Second); now = m.Deadline() {
		m.Step(now, Tick{})
	}
	hear(m, m.now, 1, func(b *wire.Beat) { b.Nonce = 24; b.Heard[0].Seq = 1 })
	if n := refused(m, wire.Unproven); n != 2 {
		t.Errorf("an old echo was believed")
	}
}

// TestRefusalsAreLoggedSparsely: a flood of bad frames must not flood the journal.
func TestRefusalsAreLoggedSparsely(t *testing.T) {
	m := machine(t, testConfig())
	logs := 0
	for i := range 100000 {
		for _, a := range m.Step(Instant(i)*Instant(time.Millisecond), Refused{Interface: 0, Reason: wire.BadTag}) {
			if l, ok := a.(Log); ok && l.Name == EvRefused {
				logs++
			}
		}
	}
	if n := refused(m, wire.BadTag); n != 100000 {
		t.Errorf("%d counted", n)
	}
	if logs < 2 || logs > 5 {
		t.Errorf("%d log lines in 100 s of flood", logs)
	}
}

// TestOvertakenBeat: an older heartbeat that arrives later on another interface does not undo the newer.
func TestOvertakenBeat(t *testing.T) {
	m := machine(t, testConfig())
	m.Step(0, Tick{})
	hear(m, 1, 10, func(b *wire.Beat) { b.Flags |= wire.Holder; b.State = wire.Active; b.Term = 1 })
	if m.View().Holder != 2 {
		t.Fatal("the peer does not hold the role")
	}
	b := wire.Beat{Version: 1, Cluster: 7, Member: 2, State: wire.Standby, Interface: 2, NN: 2, Nonce: 22, Seq: 9, Flags: wire.InSync}
	m.Step(2, BeatReceived{Interface: 1, Beat: b})
	if m.View().Holder != 2 {
		t.Error("an overtaken heartbeat took the role from the peer")
	}
}

// FuzzStep: no sequence of inputs makes the core panic, its term go back, its beats contradict its state, a member in
// lockdown or without a majority serve, or the driver spin.
func FuzzStep(f *testing.F) {
	f.Add([]byte{0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 200, 30})
	f.Add([]byte{7, 200, 0, 0, 0, 10, 11, 1, 1, 10, 12, 3, 4, 50, 15, 1, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) == 0 {
			return
		}
		cfg := testConfig()
		cfg.Timing.Dead = 100 * time.Millisecond
		cfg.Safety, cfg.Lock, cfg.Barrier = script[0]&1 != 0, script[0]&4 != 0, script[0]&8 != 0
		if script[0]&2 != 0 {
			cfg.Witnesses = []Member{{ID: 9}}
		}
		m, err := New(cfg, 0)
		if err != nil {
			t.Fatal(err)
		}
		script = script[1:]
		now, term, seq := Instant(0), uint64(0), uint64(0)
		for i := 0; i+3 < len(script); i += 4 {
			now += Instant(script[i]) * Instant(time.Millisecond)
			x, y := script[i+2], script[i+3]
			seq++
			for _, a := range m.Step(now, fuzzed(m, script[i+1], x, y, seq)) {
				s, ok := a.(Send)
				switch {
				case !ok:
				case (s.Beat.Order == wire.Keep || s.Beat.Order == wire.Open) != s.Beat.Has(wire.Holder):
					t.Fatalf("order %d in a beat with flags %b", s.Beat.Order, s.Beat.Flags)
				case s.Beat.Has(wire.Holder) && s.By < m.now:
					t.Fatalf("a holder's beat at %v that may leave until %v only", m.now, s.By)
				}
			}
			v := m.View()
			if v.Term < term {
				t.Fatalf("term went from %d to %d", term, v.Term)
			}
			if term = v.Term; m.Holds() && v.Demotion == wire.Ineligible {
				t.Fatal("a member in lockdown holds the role")
			}
			for n := 0; m.Deadline() <= m.now; n++ {
				if m.Step(m.now, Tick{}); n > 20 {
					t.Fatalf("its deadline %v stays in the past at %v", m.Deadline(), m.now)
				}
			}
		}
	})
}

// fuzzed is an input made of four bytes.
func fuzzed(m *Machine, kind, x, y byte, seq uint64) Input {
	switch kind % 17 {
	case 1, 2, 3:
		b := wire.Beat{Version: 1, Cluster: 7, Member: 2 + x>>6*7%8, State: wire.State(x % 10), Interface: 1 + y%3, NN: 1 + y%3, Nonce: 22 + uint64(x>>5), Seq: seq + uint64(x%3),
			Flags: wire.Flags(y), Term: uint64(y), Demotion: uint16(x), Vote: y % 10, Successor: x % 9,
			Heard: []wire.Heard{{Member: 1, Nonce: m.cfg.Nonce, Seq: m.seq - min(m.seq, uint64(y>>6))}, {Member: 3, Nonce: uint64(x), Seq: seq}}}
		return BeatReceived{Interface: int(y % 3), Beat: b}
	case 4:
		return Link{Interface: int(x) - 3, Up: y&1 == 0, Missing: y&2 == 0}
	case 5:
		return Device{Name: string(rune('a' + x%3)), State: DeviceState(y % 4), Timeout: time.Duration(x) * time.Millisecond}
	case 6:
		return Connections(uint32(x) * uint32(y))
	case 7:
		return Activate{Force: x&1 != 0}
	case 8:
		return Deactivate{To: x % 10, For: time.Duration(y) * time.Millisecond}
	case 9:
		return GateLost{Why: "fuzz"}
	case 10:
		return Refused{Interface: int(x), Reason: wire.BadTag}
	case 11:
		return SyncState{InSync: x&1 != 0}
	case 12:
		return Watch{Interface: int(x) - 1, Heartbeat: y&1 != 0, Monitored: y&2 != 0}
	case 13:
		return Busy(x&1 != 0)
	case 14:
		return ClearLock{}
	case 15:
		return BarrierPassed{}
	case 16:
		return Unregister{Name: string(rune('a' + x%3))}
	}
	return Tick{}
}

// logsOf collects the events of a name.
func logsOf(actions []Action, name string) (texts []string) {
	for _, a := range actions {
		if l, ok := a.(Log); ok && l.Name == name {
			texts = append(texts, l.Text)
		}
	}
	return texts
}

// TestCablingIsNamed: what makes two actives elsewhere (seed 004, Solution-3) is said by name here, and the heartbeat
// counts all the same.
func TestCablingIsNamed(t *testing.T) {
	for _, c := range []struct {
		name    string
		arrived int // interface index
		change  func(*wire.Beat)
		event   string
		words   []string
	}{
		{"the sync NIC sits in another PCI place", 2, func(b *wire.Beat) { b.Interface, b.NN = 3, 0x55 }, EvSyncIface, []string{"G3", "55", "03", "hardware"}},
		{"a LAN NIC sits in another PCI place", 0, func(b *wire.Beat) { b.Interface, b.NN = 1, 0x55 }, EvHardware, []string{"G1", "55", "01", "hardware"}},
		{"a LAN cable in the sync port", 2, func(b *wire.Beat) { b.Interface, b.NN = 1, 1 }, EvSyncIface, []string{"interface 1", "G3", "cables"}},
		{"the sync cable in a LAN port", 0, func(b *wire.Beat) { b.Interface, b.NN = 3, 3 }, EvNonSyncIface, []string{"interface 3", "G1", "cables"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := machine(t, testConfig())
			m.Step(0, Tick{})
			b := wire.Beat{Version: 1, Cluster: 7, Member: 2, State: wire.Standby, Nonce: 22, Seq: 1, Flags: wire.InSync, Heard: []wire.Heard{{Member: 1, Nonce: 1, Seq: m.seq}}}
			c.change(&b)
			texts := logsOf(m.Step(1, BeatReceived{Interface: c.arrived, Beat: b}), c.event)
			if len(texts) != 1 {
				t.Fatalf("%d events %s", len(texts), c.event)
			}
			for _, w := range c.words {
				if !strings.Contains(texts[0], w) {
					t.Errorf("%q does not say %q", texts[0], w)
				}
			}
			if !m.View().Peers[0].Alive {
				t.Error("the heartbeat did not count")
			}
			b.Seq++
			if again := m.Step(2, BeatReceived{Interface: c.arrived, Beat: b}); len(logsOf(again, c.event)) != 0 {
				t.Error("said again at once")
			}
		})
	}
}
