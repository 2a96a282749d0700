package license

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// box is a machine with its world. Its real time goes on whatever its clock says.
type box struct {
	t     *testing.T
	m     *Machine
	disk  Ledger
	boots int
	up    time.Duration // since boot
	skew  time.Duration // of the wall clock against the real time
	real  time.Time
	in    Input
	v     Verdict
	log   []string
}

var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// bound is a licence to the end of 2026-12-31, without a server.
func bound() *Licence {
	l := sample()
	l.Server, l.GraceDays = "", 0
	l.Issued, l.From, l.Until = start.Add(-48*time.Hour), day("2026-11-20"), day("2026-12-31")
	return l
}

func served() *Licence {
	l := bound()
	l.Server, l.GraceDays, l.Until = "https://licence.example.com", 14, Day{}
	return l
}

func newBox(t *testing.T, l *Licence) *box {
	b := &box{t: t, real: start}
	b.in = Input{Licence: l, Ports: []Port{
		{Name: "G1", Device: "G1", MAC: testMAC, Present: true, Up: true},
		{Name: "G2", Device: "G2", MAC: "52:54:00:99:99:99", Present: true, Up: true},
	}}
	b.boot()
	return b
}

// boot starts the machine from what is on disk. Without stop before, it is a power cut.
func (b *box) boot() {
	b.boots++
	b.up = 20 * time.Second
	b.restart()
}

// restart is another start of the program in the same boot.
func (b *box) restart() {
	b.m = NewMachine(b.disk, time.Time{}, fmt.Sprint("boot", b.boots), b.up)
	b.run(0)
}

func (b *box) stop() { b.disk = b.m.Close() }

// step evaluates now.
func (b *box) step() {
	b.in.Now, b.in.Wall = b.up, b.real.Add(b.skew)
	b.v = b.m.Step(b.in)
	b.in.Answer = nil
	b.log = append(b.log, b.v.Notices...)
	if b.m.Due() {
		b.disk = b.m.Ledger()
		b.m.Written()
		if again, err := ParseLedger(b.disk.Encode()); err != nil || again != b.disk {
			b.t.Fatalf("the ledger %+v comes back as %+v, %v", b.disk, again, err)
		}
	}
}

// run lets time go by, in steps of ten seconds.
func (b *box) run(d time.Duration) {
	b.step()
	for d > 0 {
		s := min(d, 10*time.Second)
		b.up, b.real, d = b.up+s, b.real.Add(s), d-s
		b.step()
	}
}

func (b *box) want(state State, texts ...string) {
	b.t.Helper()
	said := b.v.Reason + "; " + b.v.Leave + "; " + strings.Join(b.v.Warnings, "; ")
	if b.v.State != state {
		b.t.Fatalf("state %v (%s), want %v", b.v.State, said, state)
	}
	for _, text := range texts {
		if !strings.Contains(said, text) {
			b.t.Errorf("%q does not say %q", said, text)
		}
	}
	if state != Licensed && b.v.Leave == "" {
		b.t.Errorf("%v without a way to leave: %s", state, said)
	}
}

func TestLicensed(t *testing.T) {
	b := newBox(t, bound())
	b.want(Licensed, "TK-2026-0001", testMAC, "G1")
	b.in.Ports[1].Up = false // another interface makes no difference
	b.run(time.Hour)
	b.want(Licensed)
	if b.m.Due() || b.disk.Demo != 0 {
		t.Errorf("disk %+v", b.disk)
	}
}

// TestLockdownComesAndGoes: every reason is told with its way out, and is over as soon as it is mended.
func TestLockdownComesAndGoes(t *testing.T) {
	elsewhere := bound()
	elsewhere.MAC = "52:54:00:77:77:77"
	over := bound()
	over.Until = day("2026-11-21")
	later := bound()
	later.From = day("2026-12-24")
	tests := []struct {
		name   string
		change func(*Input)
		texts  []string
	}{
		{"interface disabled", func(in *Input) { in.Ports[0].Up = false }, []string{"registration interface G1 is disabled", "interface enable G1"}},
		{"interface missing", func(in *Input) { in.Registration = "G1"; in.Ports[0] = Port{Name: "G1", Device: "eth0"} }, []string{"G1 is missing (device eth0)"}},
		{"card gone, nothing named", func(in *Input) { in.Ports[0] = Port{Name: "G1", Device: "G1"} }, []string{"no interface has the MAC " + testMAC}},
		{"card replaced", func(in *Input) { in.Registration = "G1"; in.Ports[0].MAC = "52:54:00:00:00:09" }, []string{"G1 has the MAC 52:54:00:00:00:09, but licence TK-2026-0001 is bound to " + testMAC}},
		{"cards swapped", func(in *Input) { in.Registration = "G2" }, []string{"G2 has the MAC", "write registration: G1"}},
		{"named interface unknown", func(in *Input) { in.Registration = "G9" }, []string{"G9 is not in the node file"}},
		{"licence of another box", func(in *Input) { in.Licence = elsewhere }, []string{"52:54:00:77:77:77"}},
		{"bad signature", func(in *Input) { in.Licence, in.Fault = nil, ErrSignature.Error() }, []string{"signature does not fit", "license install", "license remove"}},
		{"term over", func(in *Input) { in.Licence = over }, []string{"ended on 2026-11-21"}},
		{"term not begun", func(in *Input) { in.Licence = later }, []string{"begins on 2026-12-24", "it is 2026-11-22"}},
		{"shared address 0.0.0.0", func(in *Input) { in.Unspecified = []string{"G2"} }, []string{"shared address of G2 is 0.0.0.0", "node edit"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBox(t, bound())
			good := b.in
			good.Ports = append([]Port(nil), b.in.Ports...)
			b.run(time.Minute)
			tt.change(&b.in)
			b.run(time.Minute)
			b.want(Lockdown, tt.texts...)
			b.in = good
			b.run(0)
			b.want(Licensed)
			log := strings.Join(b.log, "\n")
			if strings.Count(log, "LOCKDOWN:") != 1 || strings.Count(log, "lockdown is over") != 1 || len(b.log) != 3 {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

func TestDemo(t *testing.T) {
	b := newBox(t, nil)
	b.run(time.Minute)
	b.want(Demo, "there is no licence", "license install")
	if b.v.Remaining != DemoTime-time.Minute {
		t.Errorf("%v left", b.v.Remaining)
	}
	b.run(DemoTime - 2*time.Minute)
	b.want(Demo)
	b.run(time.Minute)
	b.want(Lockdown, "the demo of 2 hours is used")
	if log := strings.Join(b.log, "\n"); strings.Count(log, "the demo ends in") != 3 || !strings.Contains(log, "15m0s") {
		t.Errorf("log:\n%s", log)
	}
	b.stop()
	b.boot()
	b.want(Lockdown)
	b.in.Licence = bound()
	b.run(time.Hour)
	b.want(Licensed)
	b.in.Licence = nil // license remove does not give it back
	b.run(0)
	b.want(Lockdown)
}

// TestDemoCannotBeReset: neither clocks, nor reboots, nor power cuts, nor restarts of the program give time.
func TestDemoCannotBeReset(t *testing.T) {
	tests := map[string]func(*box){
		"clock set back":      func(b *box) { b.skew -= 1000 * time.Hour; b.run(5 * time.Minute) },
		"clock set forward":   func(b *box) { b.skew += 1000 * time.Hour; b.run(5 * time.Minute) },
		"orderly reboots":     func(b *box) { b.run(5 * time.Minute); b.stop(); b.boot() },
		"power cuts":          func(b *box) { b.run(5*time.Minute - 10*time.Second); b.boot() },
		"quick power cuts":    func(b *box) { b.run(50 * time.Second); b.boot() },
		"restarts":            func(b *box) { b.run(5 * time.Minute); b.stop(); b.restart() },
		"kills":               func(b *box) { b.run(50 * time.Second); b.up += 10 * time.Second; b.restart() },
		"licence and back":    func(b *box) { b.in.Licence = bound(); b.run(0); b.in.Licence = nil; b.run(5 * time.Minute) },
		"lockdown in between": func(b *box) { b.in.Fault = "bad"; b.run(0); b.in.Fault = ""; b.run(5 * time.Minute) },
	}
	for name, turn := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, nil)
			began := b.real
			for b.v.State == Demo {
				turn(b)
				if b.real.Sub(began) > DemoTime+5*time.Minute {
					t.Fatalf("still in the demo after %v, %v left", b.real.Sub(began), b.v.Remaining)
				}
			}
			b.want(Lockdown)
			// Time is taken only for what was not written down: a minute at a power cut.
			if ran := b.real.Sub(began); ran < DemoTime/2-5*time.Minute || !strings.Contains(name, "cut") && !strings.Contains(name, "kills") && ran < DemoTime {
				t.Errorf("the demo was over after %v", ran)
			}
		})
	}
}

func TestDamagedLedger(t *testing.T) {
	b := newBox(t, bound())
	b.disk = Damaged()
	b.boot()
	b.want(Licensed)
	b.in.Licence = nil
	b.run(0)
	b.want(Lockdown, "is used")
}

// TestTermAndClocks: the term counts against the latest time ever seen.
func TestTermAndClocks(t *testing.T) {
	t.Run("ends by the clock", func(t *testing.T) {
		b := newBox(t, bound())
		b.skew = time.Date(2026, 12, 31, 23, 59, 0, 0, time.UTC).Sub(b.real)
		b.run(50 * time.Second)
		b.want(Licensed, "the term ends on 2026-12-31, in less than a minute")
		b.run(10 * time.Second)
		b.want(Lockdown, "ended on 2026-12-31")
	})
	t.Run("a clock set back does not prolong it", func(t *testing.T) {
		b := newBox(t, bound())
		b.skew = time.Date(2026, 12, 31, 20, 0, 0, 0, time.UTC).Sub(b.real)
		b.run(2 * time.Hour)
		b.want(Licensed)
		b.skew -= 365 * 24 * time.Hour
		b.run(time.Minute)
		b.want(Licensed, "the clock is 365 days behind")
		b.stop()
		b.boot()
		b.run(2 * time.Hour)
		b.want(Lockdown, "the clock says 2026-01-01", "this box has seen 2027-01-01")
	})
	t.Run("a clock that is wrong for a while leaves no trace", func(t *testing.T) {
		b := newBox(t, bound())
		b.skew = 20 * 365 * 24 * time.Hour
		b.run(50 * time.Minute)
		b.want(Lockdown, "ended on 2026-12-31")
		b.skew = 0
		b.run(10 * time.Second)
		b.want(Licensed)
	})
	t.Run("one that was wrong for long is forgiven by a newer licence only", func(t *testing.T) {
		b := newBox(t, bound())
		b.skew = 20 * 365 * 24 * time.Hour
		b.run(2 * time.Hour)
		b.skew = 0
		b.run(10 * time.Second)
		b.want(Lockdown, "this box has seen 2046-")
		b.in.Licence = nil
		b.run(0)
		b.in.Licence = bound()
		b.run(0)
		b.want(Lockdown)
		b.in.Licence.Issued = b.real.Truncate(time.Second)
		b.run(0)
		b.want(Licensed)
	})
	t.Run("a dead battery does not lock a new licence out", func(t *testing.T) {
		b := newBox(t, bound())
		b.skew = time.Unix(0, 0).Sub(b.real)
		b.run(time.Minute)
		b.want(Licensed, "the clock is")
	})
	t.Run("the date of the firmware counts", func(t *testing.T) {
		for _, known := range []Ledger{{}, {Issued: bound().Issued}} { // a new licence, and one that was there before
			m := NewMachine(known, day("2027-02-01").Start(), "b", 0)
			v := m.Step(Input{Wall: start, Licence: bound(), Ports: newBox(t, nil).in.Ports})
			if v.State != Lockdown || !strings.Contains(v.Reason, "has seen 2027-02-01") {
				t.Errorf("%v: %s", v.State, v.Reason)
			}
		}
	})
	t.Run("without an end", func(t *testing.T) {
		l := bound()
		l.Until = Day{}
		b := newBox(t, l)
		b.skew = 100 * 365 * 24 * time.Hour
		b.run(2 * time.Hour)
		b.want(Licensed)
	})
}

func TestGrace(t *testing.T) {
	b := newBox(t, served())
	answer := func(a Answer) { a.ID = b.in.Licence.ID; b.in.Answer = &a; b.run(0) }
	b.run(7 * time.Hour)
	b.want(Licensed)
	answer(Answer{})
	b.in.Unreachable = "no route to host"
	b.run(9 * time.Hour)
	b.want(Grace, "last reached 9 hours ago: no route to host", "license contact")
	b.run(10 * 24 * time.Hour)
	b.stop()
	b.boot()
	b.skew = -1000 * time.Hour
	b.run(3 * 24 * time.Hour)
	b.want(Grace, "13 days ago")
	b.run(15 * time.Hour)
	b.want(Lockdown, "the grace of 14 days is over")
	b.in.Answer = &Answer{ID: "another"}
	b.run(0)
	b.want(Lockdown)
	answer(Answer{})
	b.want(Licensed)
	answer(Answer{Withdrawn: true, Why: "sold twice"})
	b.want(Lockdown, "has withdrawn licence TK-2026-0001: sold twice")
	b.stop()
	b.boot()
	b.want(Lockdown, "sold twice")
	answer(Answer{})
	b.want(Licensed)
	// A newer licence has a grace of its own.
	b.run(15 * 24 * time.Hour)
	b.want(Lockdown)
	newer := served()
	newer.Issued = b.real.Truncate(time.Second)
	b.in.Licence = newer
	b.run(0)
	b.want(Licensed)
}

// TestProperties: whatever clocks set back, reboots and restarts do, a licence without end and server keeps its box
// licensed, time never goes back, and the demo never grows nor lasts longer than DemoTime of running.
func TestProperties(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		endless := bound()
		endless.Until = Day{}
		for name, l := range map[string]*Licence{"endless": endless, "term": bound(), "demo": nil} {
			b := newBox(t, l)
			began, left := b.real, DemoTime
			honest := time.Duration(0)
			for range 40 {
				switch rnd.IntN(7) {
				case 0:
					jump := time.Duration(rnd.Int64N(int64(10000 * time.Hour)))
					if name == "term" || rnd.IntN(2) == 0 { // a term does end when the clock is set forward
						jump = -jump
					}
					b.skew += jump
				case 1:
					b.stop()
					b.boot()
				case 2:
					b.boot()
				case 3:
					b.stop()
					b.restart()
				case 4:
					b.up += time.Minute
					b.real = b.real.Add(time.Minute)
					b.restart()
				default:
					d := time.Duration(rnd.Int64N(int64(20 * time.Minute)))
					b.run(d)
					honest += d
				}
				switch {
				case name == "endless" && b.v.State != Licensed:
					t.Fatalf("seed %d: %v: %s", seed, b.v.State, b.v.Reason)
				case name == "term" && b.v.State != Licensed && b.v.State != Lockdown:
					t.Fatalf("seed %d: %v: %s", seed, b.v.State, b.v.Reason)
				case name == "term" && b.v.Time.Before(began.Add(-49*time.Hour)):
					t.Fatalf("seed %d: the term is counted against %v, before the licence was issued", seed, b.v.Time)
				case name == "demo" && b.v.State == Demo && honest >= DemoTime:
					t.Fatalf("seed %d: in the demo after %v of running", seed, honest)
				case name == "demo" && b.v.Remaining > left:
					t.Fatalf("seed %d: the demo grew from %v to %v", seed, left, b.v.Remaining)
				}
				if b.v.Time.Before(b.m.seen) {
					t.Fatalf("seed %d: time went back", seed)
				}
				left = min(left, b.v.Remaining)
			}
		}
	}
}

// TestGraceProperties: whatever clocks, reboots and answers do, service ends when the server was out of reach for the grace in
// running time, and not before.
func TestGraceProperties(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		l := served()
		b := newBox(t, l)
		silent := time.Duration(0) // running time since the last answer
		slack := time.Duration(0)  // what power cuts lost of it
		for range 200 {
			switch rnd.IntN(8) {
			case 0:
				b.skew += time.Duration(rnd.Int64N(int64(20000*time.Hour))) - 10000*time.Hour
				b.run(0)
			case 1:
				b.stop()
				b.boot()
			case 2:
				b.boot()
				slack += writeLate
			case 3:
				if rnd.IntN(8) == 0 {
					b.in.Answer = &Answer{ID: l.ID}
					b.run(0)
					silent, slack = 0, 0
				}
			default:
				d := time.Duration(rnd.Int64N(int64(20 * time.Hour)))
				for ; d > 0; d -= 30 * time.Minute {
					b.up, b.real, silent = b.up+30*time.Minute, b.real.Add(30*time.Minute), silent+30*time.Minute
					b.step()
				}
			}
			if b.v.State == Lockdown && silent < l.Grace() || b.v.State == Licensed && silent > contactLate+slack || b.v.State != Lockdown && silent > l.Grace()+slack {
				t.Fatalf("seed %d: %v after %v without the server (%v may be lost): %s", seed, b.v.State, silent, slack, b.v.Reason)
			}
		}
	}
}
