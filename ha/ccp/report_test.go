package ccp

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var sampleReport = Report{Interface: 3, Carrier: true, Beats: true, Answered: 1234 * time.Millisecond,
	Heard:      []HeardAge{{Member: 1, Age: 0}, {Member: 2, Age: Unheard}},
	Neighbours: []netip.Addr{netip.MustParseAddr("10.1.0.10")}}

const sampleReportHex = "01 10 03 05 007c 02 01  01 0000  02 ffff  0a01000a"

func TestReportGolden(t *testing.T) {
	want := unhex(t, sampleReportHex)
	if got := AppendReport(nil, sampleReport); !bytes.Equal(got, want) {
		t.Errorf("report\n%s\nwant\n%s", hex.Dump(got), hex.Dump(want))
	}
	rounded := sampleReport
	rounded.Answered = 1240 * time.Millisecond // up: nothing looks younger than it is
	for name, ext := range map[string][]byte{
		"alone":                     want,
		"behind something else":     append(unhex(t, "07 03 aabbcc 09 00"), want...),
		"longer in a later version": append(append(unhex(t, "01 12"), want[2:]...), unhex(t, "dead 02 01 00")...),
	} {
		got, ok := ParseReport(ext)
		if diff := cmp.Diff(rounded, got, sameAddr); !ok || diff != "" {
			t.Errorf("%s: %v %s", name, ok, diff)
		}
	}
}

func TestReportRefused(t *testing.T) {
	for _, bad := range []string{"", "01", "01 10 03", "07 00", "07 05 01 05", "01 05 03 05 007c 00", "01 06 03 05 007c 09 00", "01 06 03 05 007c 00 05",
		"01 06 03 05 007c 01 00", "01 06 03 05 007c 00 01"} {
		if r, ok := ParseReport(unhex(t, bad)); ok {
			t.Errorf("%q: %+v", bad, r)
		}
	}
}

// TestReportLimits: what is over a limit is left out, and ages that do not fit are "never".
func TestReportLimits(t *testing.T) {
	r := Report{Answered: time.Hour, Heard: make([]HeardAge, 99), Neighbours: []netip.Addr{netip.MustParseAddr("2001:db8::1")}}
	for i := range 99 {
		r.Neighbours = append(r.Neighbours, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	b := AppendReport(nil, r)
	got, ok := ParseReport(b)
	if !ok || len(got.Heard) != MaxMembers || len(got.Neighbours) != MaxReported || got.Neighbours[0] != r.Neighbours[1] || got.Answered != Unheard {
		t.Errorf("%v %+v", ok, got)
	}
	if len(b) > MaxExtension {
		t.Errorf("%d bytes do not fit into the extension area", len(b))
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add(unhex(f, sampleReportHex))
	f.Add(unhex(f, "0703aabbcc"+"0106030500ff0000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := ParseReport(b)
		if !ok {
			return
		}
		again, ok := ParseReport(AppendReport(nil, r))
		if diff := cmp.Diff(r, again, sameAddr); !ok || diff != "" {
			t.Errorf("%v %s", ok, diff)
		}
	})
}

// TestWindow compares with a set of everything accepted.
func TestWindow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var w Window
	seen, newest := map[uint64]bool{}, uint64(0)
	for i := range 100000 {
		var seq uint64
		switch r.IntN(20) {
		case 0:
			seq = newest + r.Uint64N(4*windowSize)
		default:
			seq = newest + 3 - min(r.Uint64N(2*windowSize), newest+3)
		}
		want := !seen[seq] && (i == 0 || seq+windowSize > newest)
		if got := w.Accept(7, seq); got != want {
			t.Fatalf("step %d: sequence %d after %d: %v, want %v", i, seq, newest, got, want)
		}
		if want {
			seen[seq], newest = true, max(newest, seq)
		}
	}
	if !w.Accept(8, 1) || w.Accept(8, 1) {
		t.Error("another boot starts anew, and once")
	}
}
