package capture

import (
	"strings"
	"testing"
	"time"
)

func TestServed(t *testing.T) {
	const join = 45 * time.Millisecond
	f := func(ms ...int) (out []Frame) {
		for _, m := range ms {
			out = append(out, at(m, use(vmac)), at(m, use(ownMAC)))
		}
		return out
	}
	for _, tt := range []struct {
		name         string
		a, b         []Frame
		owners       string
		both         int // ms
		times, until int
	}{
		{"nobody", nil, nil, "", 0, 0, 0},
		{"one", f(0, 10, 200), nil, "a", 0, 0, 0},
		{"a takeover", f(0, 10, 20), f(30, 40), "a b", 0, 0, 0},
		{"there and back", f(0, 10, 200, 210), f(100, 110), "a b a", 0, 0, 0},
		{"both for a while", f(0, 20, 40, 60), f(30, 50, 70), "a a+b b", 30, 1, 60},
		{"both, then the first one alone again", f(0, 20, 40, 60, 80), f(30, 50), "a a+b a", 20, 1, 50},
		{"one stray frame of the old holder", f(0, 20, 40), f(30), "a a+b a", 0, 1, 30},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := Served([]Trace{{Station: "a", Frames: tt.a}, {Station: "b", Frames: tt.b}}, testCluster, join)
			if got := strings.Join(s.Owners, " "); got != tt.owners || s.Both != time.Duration(tt.both)*time.Millisecond || s.Times != tt.times {
				t.Errorf("owners %q, both %v, %d times; want %q, %d ms, %d", got, s.Both, s.Times, tt.owners, tt.both, tt.times)
			}
			if tt.times > 0 && !s.Until.Equal(at(tt.until, nil).Time) {
				t.Errorf("until %v", s.Until.Sub(start))
			}
			if sum := s.Add(Service{Both: time.Second, Times: 9, Until: start.Add(time.Hour)}); sum.Both != time.Second || sum.Times != 9 || !sum.Until.Equal(start.Add(time.Hour)) {
				t.Errorf("the worse of two segments: %+v", sum)
			}
		})
	}
}
