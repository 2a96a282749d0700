package monitor

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func hosts(n int) (out []netip.Addr) {
	for i := range n {
		out = append(out, netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}))
	}
	return out
}

func TestVerdict(t *testing.T) {
	const grace = 10 * time.Second
	for _, c := range []struct {
		name     string
		hosts    int
		observed string // per character: host digit, then + or -
		after    time.Duration
		problem  bool
		text     string
	}{
		{"nothing observed", 2, "", time.Hour, false, "no host has answered yet"},
		{"never answered", 2, "0- 0- 0- 0- 1- 1- 1- 1-", time.Hour, false, "no host has answered yet"},
		{"all answer", 2, "0+ 1+", time.Hour, false, "2 of 2 hosts answer"},
		{"too few losses", 1, "0+ 0- 0-", time.Hour, false, "1 of 1 hosts answer"},
		{"the only host is down", 1, "0+ 0- 0- 0-", time.Hour, true, "1 of 1 hosts do not answer: 192.0.2.1"},
		{"half is not a majority", 2, "0+ 1+ 0- 0- 0-", time.Hour, false, "1 of 2 hosts do not answer: 192.0.2.1"},
		{"a majority", 3, "0+ 1+ 2+ 0- 0- 0- 2- 2- 2-", time.Hour, true, "2 of 3 hosts do not answer: 192.0.2.1, 192.0.2.3"},
		{"one that never answered does not count", 3, "0+ 1+ 0- 0- 0- 2- 2- 2-", time.Hour, false, "1 of 2"},
		{"an answer ends the losses", 1, "0+ 0- 0- 0+ 0-", time.Hour, false, "1 of 1 hosts answer"},
		{"back", 1, "0+ 0- 0- 0- 0+", time.Hour, false, "1 of 1 hosts answer"},
		{"grace", 1, "0+ 0- 0- 0-", grace - 1, false, "grace"},
		{"grace is over", 1, "0+ 0- 0- 0-", grace, true, "1 of 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := NewGroup(hosts(c.hosts), Rule{Loss: 3, Grace: grace}, time.Minute)
			for _, o := range strings.Fields(c.observed) {
				g.Observe(int(o[0]-'0'), o[1] == '+')
			}
			problem, text := g.Verdict(time.Minute + c.after)
			if problem != c.problem || !strings.Contains(text, c.text) {
				t.Errorf("%v %q, want %v %q", problem, text, c.problem, c.text)
			}
		})
	}
}
