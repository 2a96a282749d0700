package rules

import (
	"net/netip"
	"strings"
	"testing"
)

func ranges(s string) (out []Range) {
	for _, word := range strings.Fields(s) {
		if first, last, ok := strings.Cut(word, "-"); ok {
			out = append(out, Range{netip.MustParseAddr(first), netip.MustParseAddr(last)})
			continue
		}
		if !strings.Contains(word, "/") {
			out = append(out, Single(netip.MustParseAddr(word)))
			continue
		}
		out = append(out, RangeOf(netip.MustParsePrefix(word)))
	}
	return out
}

func text(list []Range) string {
	var out []string
	for _, r := range list {
		out = append(out, r.String())
	}
	return strings.Join(out, " ")
}

func TestMerge(t *testing.T) {
	for from, want := range map[string]string{
		"":                                   "",
		"10.0.0.0/8":                         "10.0.0.0/8",
		"10.0.0.1/32":                        "10.0.0.1",
		"10.0.1.0/24 10.0.0.0/24":            "10.0.0.0/23",
		"10.0.0.0/24 10.0.0.128/25 10.0.0.5": "10.0.0.0/24",
		"10.0.0.0/24 10.0.1.0/25":            "10.0.0.0-10.0.1.127",
		"255.255.255.255 255.255.255.254":    "255.255.255.254/31",
		"128.0.0.0/1 0.0.0.0/1":              "0.0.0.0/0",
		"::1 255.255.255.255 ::":             "255.255.255.255 ::/127",
	} {
		if got := text(Merge(ranges(from))); got != want {
			t.Errorf("Merge %s = %s, want %s", from, got, want)
		}
	}
}

func TestSubtract(t *testing.T) {
	for _, tt := range []struct{ from, out, want string }{
		{"10.0.0.0/24", "", "10.0.0.0/24"},
		{"10.0.0.0/24", "10.0.0.0/8", ""},
		{"10.0.0.0/24", "10.0.0.0", "10.0.0.1-10.0.0.255"},
		{"10.0.0.0/24", "10.0.0.255 10.0.0.16/28", "10.0.0.0/28 10.0.0.32-10.0.0.254"},
		{"0.0.0.0/0 ::/0", "255.255.255.255 ::", "0.0.0.0-255.255.255.254 ::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	} {
		if got := text(Subtract(ranges(tt.from), ranges(tt.out))); got != tt.want {
			t.Errorf("%s without %s = %s, want %s", tt.from, tt.out, got, tt.want)
		}
	}
}

// TestSourcesOf: a source is behind the zone that the longest prefix leads to.
func TestSourcesOf(t *testing.T) {
	r := Rules{
		Interfaces: []Interface{{Name: "G1", Zone: "lan"}, {Name: "G2", Zone: "wan"}, {Name: "G4", Zone: "dmz"}},
	}
	for _, route := range strings.Fields("10.1.0.0/24=G1 192.0.2.0/24=G2 10.2.0.0/24=G4 0.0.0.0/0=G2 10.0.0.0/8=G1 10.2.0.64/26=G1") {
		prefix, f, _ := strings.Cut(route, "=")
		r.Routes = append(r.Routes, Route{netip.MustParsePrefix(prefix), f})
	}
	for zone, want := range map[string]string{
		"lan": "10.0.0.0/15 10.2.0.64/26 10.2.1.0-10.255.255.255",
		"dmz": "10.2.0.0/26 10.2.0.128/25",
		"wan": "0.0.0.0-9.255.255.255 11.0.0.0-255.255.255.255",
		"off": "",
	} {
		if got := text(r.SourcesOf(zone)); got != want {
			t.Errorf("behind %s: %s, want %s", zone, got, want)
		}
	}
	if got := r.Route(netip.MustParseAddr("10.2.0.70")); got != "G1" {
		t.Errorf("10.2.0.70 leads to %s", got)
	}
}
