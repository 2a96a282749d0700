package nic

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePlace(t *testing.T) {
	tests := []struct {
		in   string
		want Place
		text string // canonical form
	}{
		{"0000:00:05.0", Place{0, 0, 5, 0}, "0000:00:05.0"},
		{"0/5/0", Place{0, 0, 5, 0}, "0000:00:05.0"},
		{"26/31/7", Place{0, 26, 31, 7}, "0000:1a:1f.7"},
		{"10000:E1:00.1", Place{0x10000, 0xe1, 0, 1}, "10000:e1:00.1"},
		{"ffffffff:ff:1f.7", Place{0xffffffff, 255, 31, 7}, "ffffffff:ff:1f.7"},
		{"0000:04:00.12", Place{0, 4, 0, 12}, "0000:04:00.12"}, // several ports in one function
	}
	for _, tt := range tests {
		got, err := ParsePlace(tt.in)
		if err != nil {
			t.Errorf("ParsePlace(%q): %v", tt.in, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("ParsePlace(%q) (-want +got):\n%s", tt.in, diff)
		}
		if got.String() != tt.text {
			t.Errorf("ParsePlace(%q).String() = %q, want %q", tt.in, got, tt.text)
		}
	}
}

var badPlaces = []string{
	"", "eth0", "0", "0/5", "0/5/0/1", "0/32/0", "256/0/0", "0/0/256", "-1/0/0", "+1/0/0", "0x1/0/0", "0/ 5/0",
	"00:05.0", "000:00:05.0", "000000000:00:05.0", "0000:0:05.0", "0000:00:5.0", "0000:00:20.0", "0000:00:05",
	"0000:00:05.", "0000:00:05.0.0", "0000:00:05.256", "0000:g0:05.0", "0000:00:05.a", " 0000:00:05.0", "0000:00:05.0>",
}

func TestParsePlaceRefuses(t *testing.T) {
	for _, in := range badPlaces {
		if p, err := ParsePlace(in); err == nil {
			t.Errorf("ParsePlace(%q) = %v, want an error", in, p)
		} else if !strings.Contains(err.Error(), "want domain:bus:slot.port") {
			t.Errorf("ParsePlace(%q): error %q does not say what is wanted", in, err)
		}
	}
}

func mustPath(t *testing.T, s string) Path {
	t.Helper()
	p, err := ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParsePath(t *testing.T) {
	got := mustPath(t, "0000:00:05.1 > 2/0/1")
	if diff := cmp.Diff(Path{{0, 0, 5, 1}, {0, 2, 0, 1}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if want := "0000:00:05.1>0000:02:00.1"; got.String() != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	long := strings.Repeat("0/0/0>", maxHops) + "0/0/0"
	for _, in := range []string{"", ">", "0/5/0>", ">0/5/0", "0/5/0>>0/6/0", "0/5/0,0/6/0", long} {
		if p, err := ParsePath(in); err == nil {
			t.Errorf("ParsePath(%q) = %v, want an error", in, p)
		}
	}
}

// The list is in order; every pair must compare as its indexes do.
func TestPathOrder(t *testing.T) {
	var sorted []Path
	for _, s := range []string{
		"0000:00:02.0>0000:0a:00.0", // a high bus number does not matter ...
		"0000:00:02.1>0000:03:00.0",
		"0000:00:03.0",
		"0000:00:03.0>0000:01:00.0",
		"0000:00:03.0>0000:01:00.1",
		"0000:00:03.0>0000:01:00.1>0000:02:00.0",
		"0000:00:1c.0>0000:04:00.0",
		"0000:00:1c.7>0000:02:00.0",
		"0000:80:02.0>0000:81:00.0", // ... but that of the root bus does
		"10000:e0:02.0>10000:e1:00.0",
	} {
		sorted = append(sorted, mustPath(t, s))
	}
	for i, a := range sorted {
		for j, b := range sorted {
			if got, want := a.Compare(b), (slices.Compare([]int{i}, []int{j})); got != want {
				t.Errorf("%v.Compare(%v) = %d, want %d", a, b, got, want)
			}
		}
	}
	a, b := mustPath(t, "0/5/0>1/0/0"), mustPath(t, "0/5/0>9/0/0")
	if c := a.Compare(b); c != 0 {
		t.Errorf("same way with other bus numbers: Compare = %d, want 0", c)
	}
}

func TestPathNames(t *testing.T) {
	full := "0000:00:05.0>0000:02:00.1"
	for in, want := range map[string]bool{
		"0000:00:05.0>0000:02:00.1": true,
		"0000:00:05.0>0000:07:00.1": true, // renumbered
		"0000:02:00.1":              true,
		"2/0/1":                     true,
		"0000:07:00.1":              false,
		"0000:00:05.0":              false,
		"0000:00:05.1>0000:02:00.1": false,
		"0000:80:05.0>0000:02:00.1": false,
	} {
		if got := mustPath(t, in).Names(mustPath(t, full)); got != want {
			t.Errorf("(%s).Names(%s) = %t, want %t", in, full, got, want)
		}
	}
	if (Path{}).Names(mustPath(t, full)) || mustPath(t, full).Names(nil) || (Path{}).Place() != (Place{}) {
		t.Error("an empty path names something")
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range append([]string{"0000:00:05.1>10000:e1:00.0", "0/5/0 > 1/0/0"}, badPlaces...) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePath(s)
		if err != nil {
			if p != nil {
				t.Fatalf("ParsePath(%q): both a path and an error", s)
			}
			return
		}
		q, err := ParsePath(p.String())
		if err != nil || !slices.Equal(p, q) || p.Compare(q) != 0 {
			t.Fatalf("ParsePath(%q) = %v, but again %v, %v", s, p, q, err)
		}
	})
}
