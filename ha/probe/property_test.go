package probe

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/ccp"
)

// seeds runs f with many seeds, each in a subtest only when it fails.
func seeds(t *testing.T, n int, f func(t testing.TB, r *rand.Rand)) {
	for seed := range uint64(n) {
		f(at{t, seed}, rand.New(rand.NewPCG(seed, 8116)))
		if t.Failed() {
			return
		}
	}
}

// at is a test that names its seed.
type at struct {
	testing.TB
	seed uint64
}

func (a at) Errorf(format string, args ...any) {
	a.TB.Helper()
	a.TB.Errorf("seed %d: "+format, append([]any{a.seed}, args...)...)
}

// unsteady makes CCP slow and lossy.
func (w *world) unsteady(r *rand.Rand) {
	lossy := r.Float64() * 0.4
	slow := time.Duration(r.Int64N(int64(3 * time.Second)))
	w.loss = func() bool { return randomly(r, lossy) }
	w.delay = func() time.Duration {
		if randomly(r, 0.5) {
			return 0
		}
		return time.Duration(r.Int64N(int64(slow) + 1))
	}
}

// TestNobodyIsBlamedForTheLAN: LANs die and come back, at any time, members too; CCP is late and lossy. No port has
// failed, so no member may say that its side has, not for a moment: each would cost a role.
func TestNobodyIsBlamedForTheLAN(t *testing.T) {
	seeds(t, 200, func(t testing.TB, r *rand.Rand) {
		w := newWorld(t, 2+r.IntN(3), 3, r.IntN(3))
		w.unsteady(r)
		for range 15 {
			w.run(time.Duration(r.Int64N(int64(30 * time.Second))))
			switch l := r.IntN(w.lans); r.IntN(4) {
			case 0, 1:
				w.lan[l].dead = !w.lan[l].dead
			case 2:
				w.lan[l].noise = !w.lan[l].noise
			case 3:
				id := 1 + r.IntN(w.n)
				w.dead[id] = !w.dead[id]
			}
		}
		for _, c := range w.changes {
			if c.v.Kind == Ours {
				t.Errorf("at %v %c says of LAN %d: %s", time.Duration(c.at), 'a'+c.member-1, c.v.Interface, c.v.Text)
			}
		}
	})
}

// TestOursIsTrue: ports fail in every way. Whoever takes a failure on itself has had one in the last seconds, and as long as
// ports fail one at a time, nobody else does.
func TestOursIsTrue(t *testing.T) {
	seeds(t, 200, func(t testing.TB, r *rand.Rand) {
		w := newWorld(t, 2+r.IntN(3), 3, 1+r.IntN(3))
		w.unsteady(r)
		failed := map[[2]int]Instant{} // member, LAN: failed last at
		kind := map[[2]int]Kind{}
		checked := 0
		for range 15 {
			l, id := r.IntN(w.lans), 1+r.IntN(w.n)
			p := &w.port[id][l]
			if p.noRX || p.noTX || p.down {
				p.noRX, p.noTX, p.down = false, false, false
			} else {
				*p = port{frames: p.frames, noRX: randomly(r, 0.5), noTX: randomly(r, 0.5), down: randomly(r, 0.2)}
			}
			for end := w.now.Add(time.Duration(r.Int64N(int64(40 * time.Second)))); w.now < end; {
				for id := 1; id <= w.n; id++ {
					for l, p := range w.port[id] {
						if p.noRX || p.noTX || p.down {
							failed[[2]int{id, l}] = w.now
						}
					}
				}
				w.run(time.Second)
				for _, c := range w.changes[checked:] {
					where := [2]int{int(c.member), c.v.Interface}
					at, ever := failed[where]
					begins := c.v.Kind == Ours && kind[where] != Ours
					kind[where] = c.v.Kind
					if begins && (!ever || c.at.Sub(at) > MaxRound) {
						t.Errorf("at %v %c says of LAN %d: %s; its port is good", time.Duration(c.at), 'a'+c.member-1, c.v.Interface, c.v.Text)
					}
				}
				checked = len(w.changes)
			}
		}
	})
}

// TestOursIsFound: one dead port, with somebody in the LAN to compare with, is found within 10 s, whoever it is.
func TestOursIsFound(t *testing.T) {
	seeds(t, 100, func(t testing.TB, r *rand.Rand) {
		members := 2 + r.IntN(3)
		w := newWorld(t, members, 2+r.IntN(3), r.IntN(2)+max(0, 3-members))
		w.run(time.Duration(r.Int64N(int64(time.Minute))))
		id, l := 1+r.IntN(w.n), r.IntN(w.lans)
		p := &w.port[id][l]
		p.noRX, p.noTX = true, randomly(r, 0.5)
		start := w.now
		w.run(10 * time.Second)
		if v := w.verdict(uint8(id), l); v.Kind != Ours {
			t.Errorf("%c, LAN %d of %d, %d hosts, port %+v: %v %s", 'a'+id-1, l, w.lans, w.lan[l].hosts, *p, v.Kind, v.Text)
		}
		for other := 1; other <= w.n; other++ {
			if v := w.verdict(uint8(other), l); other != id && (v.Kind == OK || v.Kind == Ours) {
				t.Errorf("port of %c is dead and %c says: %v %s", 'a'+id-1, 'a'+other-1, v.Kind, v.Text)
			}
		}
		// And it is over some time after the repair, not at once.
		p.noRX, p.noTX = false, false
		w.run(3 * time.Second)
		if v := w.verdict(uint8(id), l); v.Kind != Ours {
			t.Errorf("%v %s right after the repair", v.Kind, v.Text)
		}
		w.run(10 * time.Second)
		for other := 1; other <= w.n; other++ {
			if v := w.verdict(uint8(other), l); v.Kind != OK {
				t.Errorf("%c at %v, repaired at %v: %v %s", 'a'+other-1, time.Duration(w.now), time.Duration(start), v.Kind, v.Text)
			}
		}
	})
}

// TestPortThatComesAndGoes: for two hours a port fails and works again every few seconds. Whatever its rhythm, the fault
// begins and ends ever more rarely.
func TestPortThatComesAndGoes(t *testing.T) {
	seeds(t, 20, func(t testing.TB, r *rand.Rand) {
		w := newWorld(t, 2, 2, 1)
		period := time.Duration(r.Int64N(int64(40*time.Second))) + time.Second
		for w.now < Instant(2*time.Hour) {
			w.run(time.Duration(r.Int64N(int64(period))))
			w.port[1][0].noRX = !w.port[1][0].noRX
		}
		begun, was := 0, false
		for _, c := range w.changes {
			if is := c.v.Kind == Ours; c.member == 1 && c.v.Interface == 0 && is != was {
				if was = is; is {
					begun++
				}
			}
		}
		if begun == 0 && period > 20*time.Second || begun > 30 {
			t.Errorf("%d faults in two hours of a port that changes about every %v", begun, period/2)
		}
	})
}

// TestQuestionsAreBounded: whatever fails, a member asks no more than once a second for each interface in trouble, and
// rarely when nothing changes.
func TestQuestionsAreBounded(t *testing.T) {
	w := newWorld(t, 2, 4, 1)
	w.run(5 * time.Second)
	for l := range 3 {
		w.lan[l].dead = true
	}
	w.run(time.Hour)
	per := float64(w.asks) / 3600 / float64(w.n) / 3 // members, interfaces in trouble
	if limit := 2.2 / MaxRound.Seconds(); per > limit {
		t.Errorf("%.2f questions a second for each interface in trouble, want at most %.2f", per, limit)
	}
}

// FuzzStep: any input, from a member or not, leaves the machine alive, and what it says of itself is within bounds.
func FuzzStep(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := New(Config{Self: 1, Members: []Member{{ID: 1}, {ID: 2}, {ID: 3}}, Silence: time.Second, Hold: time.Second,
			Interfaces: []Interface{{Number: 1, Heartbeat: true}, {Number: 2, Heartbeat: true}, {Number: 9}}}, 0)
		next := func() byte {
			if len(data) == 0 {
				return 0
			}
			b := data[0]
			data = data[1:]
			return b
		}
		age := func() time.Duration { return time.Duration(int8(next())) * 50 * time.Millisecond }
		now := Instant(0)
		for len(data) > 0 {
			now = now.Add(age())
			var report *ccp.Report
			if r, ok := ccp.ParseReport(data); ok {
				report = &r
			}
			var in Input
			switch next() % 5 {
			case 0:
				in = Facts{Links: []Link{{Present: true, Up: next()&1 == 0, Frames: uint64(next())}, {Up: true}},
					Peers: []Peer{{ID: next(), Alive: next()&1 == 0, Heard: []time.Duration{age(), age(), age(), age()}}}}
			case 1:
				in = Asked{Interface: int(int8(next())), Left: next(), From: next(), About: next(), ID: uint16(next()), Report: report}
			case 2:
				in = Told{Interface: int(int8(next())), Left: next(), From: next(), About: next(), ID: uint16(next()), Report: report}
			case 3:
				in = State{Interface: int(int8(next())), Left: next(), From: next(), Heard: age()}
			case 4:
				in = Answer{Interface: int(int8(next()))}
			}
			if n := len(m.Step(now, in)); n > 64 {
				t.Fatalf("%d actions", n)
			}
			for _, v := range m.Verdicts() {
				if v.Kind > Ours || len(v.Text) > 2000 {
					t.Fatalf("verdict %+v", v)
				}
			}
		}
	})
}
