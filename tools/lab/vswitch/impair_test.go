package vswitch

import (
	"bytes"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/twinkeep/twinkeep/tools/lab/ether"
)

func datagram(wrongIP bool) []byte {
	return ether.Datagram{
		Dst: macB, Src: macA, TTL: 255, WrongIP: wrongIP,
		From: netip.MustParseAddrPort("10.1.0.2:999"), To: netip.MustParseAddrPort("10.1.0.255:999"),
	}.Frame()
}

func TestPlan(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name   string
		impair Impair
		frame  []byte
		want   []pass
		lost   Loss
	}{
		{"perfect", Impair{}, datagram(true), []pass{{0, true}}, NotLost},
		{"cut", Impair{Cut: true, Delay: ms}, datagram(false), nil, LostCut},
		{"drop always", Impair{Drop: 1}, datagram(false), nil, LostDrop},
		{"delay", Impair{Delay: 5 * ms}, datagram(false), []pass{{5 * ms, true}}, NotLost},
		{"duplicate always", Impair{Duplicate: 1}, datagram(false), []pass{{0, true}, {0, true}}, NotLost},
		{"reorder always", Impair{Delay: ms, Reorder: 1}, datagram(false), []pass{{11 * ms, false}}, NotLost},
		{"reorder by 2 ms", Impair{Reorder: 1, ReorderBy: 2 * ms}, datagram(false), []pass{{2 * ms, false}}, NotLost},
		{"checksum filter takes bad", Impair{BadIPChecksum: true}, datagram(true), nil, LostChecksum},
		{"checksum filter leaves good", Impair{BadIPChecksum: true}, datagram(false), []pass{{0, true}}, NotLost},
		{"checksum filter leaves what is not IPv4", Impair{BadIPChecksum: true}, frame(macB, macA), []pass{{0, true}}, NotLost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, lost := tt.impair.plan(tt.frame, rand.New(rand.NewPCG(1, 2)))
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(pass{})); diff != "" || lost != tt.lost {
				t.Errorf("lost %q, want %q\n%s", lost, tt.lost, diff)
			}
		})
	}
}

func TestPlanIsRandomAndRepeatable(t *testing.T) {
	impair := Impair{Drop: 0.3, Delay: time.Millisecond, Jitter: 4 * time.Millisecond}
	run := func(seed uint64) (lost int, delays []time.Duration) {
		rng := rand.New(rand.NewPCG(seed, 0))
		for range 1000 {
			p, why := impair.plan(datagram(false), rng)
			if why == LostDrop {
				lost++
				continue
			}
			if d := p[0].delay; d < time.Millisecond || d > 5*time.Millisecond {
				t.Fatalf("delay %v is outside 1 to 5 ms", d)
			}
			delays = append(delays, p[0].delay)
		}
		return lost, delays
	}
	lost, first := run(7)
	_, again := run(7)
	_, other := run(8)
	if lost < 250 || lost > 350 {
		t.Errorf("%d of 1000 lost at probability 0.3", lost)
	}
	if !cmp.Equal(first, again) || cmp.Equal(first, other) {
		t.Error("the same seed must repeat, another seed must not")
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		name string
		r    Rules
		ok   bool
	}{
		{"zero", Rules{}, true},
		{"all set", Rules{In: Impair{Drop: 1, Delay: time.Second}, Out: Impair{Cut: true}}, true},
		{"probability over 1", Rules{In: Impair{Drop: 1.1}}, false},
		{"not a number", Rules{Out: Impair{Duplicate: math.NaN()}}, false},
		{"negative delay", Rules{Out: Impair{Delay: -1}}, false},
		{"a minute", Rules{In: Impair{Jitter: time.Minute}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.r.Validate(); (err == nil) != tt.ok {
				t.Errorf("error %v", err)
			}
		})
	}
}

func FuzzReadFrame(f *testing.F) {
	var b bytes.Buffer
	if err := WriteFrame(&b, datagram(false)); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{0, 0, 0, 9, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		frame, err := ReadFrame(bytes.NewReader(in))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := WriteFrame(&out, frame); err != nil || !bytes.HasPrefix(in, out.Bytes()) {
			t.Errorf("does not round-trip: %v", err)
		}
	})
}
