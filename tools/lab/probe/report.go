package probe

import (
	"net/netip"
	"slices"
	"time"
)

// Source is a source address and port as the server saw it, with the client's time of the first and last reply
// that told so.
type Source struct {
	Addr  netip.AddrPort `json:"addr"`
	First time.Duration  `json:"first"` // ns since the start
	Last  time.Duration  `json:"last"`
	Count int            `json:"count"`
}

// addSource counts a reply; a source that comes back later is a new entry, so that the list tells the story.
func addSource(list []Source, a netip.AddrPort, at time.Duration) []Source {
	if n := len(list); n > 0 && (list[n-1].Addr == a || n == maxSources) {
		list[n-1].Last = at
		list[n-1].Count++
		return list
	}
	return append(list, Source{Addr: a, First: at, Last: at, Count: 1})
}

// Gap is a silence: the time between two replies that followed each other.
type Gap struct {
	At      time.Duration `json:"at"`      // ns since the start: the last reply before it
	Silence time.Duration `json:"silence"` // ns between the two replies
	// Outage is the silence on the clock of sending: from the last datagram before the gap that was answered to
	// the first behind it. It does not count queueing of the replies, and is exact to one interval.
	Outage time.Duration `json:"outage"`
	Lost   int           `json:"lost"` // datagrams sent in it and never answered
}

// UDPReport is what a UDP probe saw. Times are ns.
type UDPReport struct {
	Local      netip.AddrPort `json:"local"`
	Interval   time.Duration  `json:"interval"`
	Elapsed    time.Duration  `json:"elapsed"`
	Sent       int            `json:"sent"`
	Received   int            `json:"received"`
	Lost       int            `json:"lost"`    // answered neither in time nor late; the newest may still be under way
	Pending    int            `json:"pending"` // sent behind the last answered one, not counted as lost
	Duplicates int            `json:"duplicates"`
	SendErrors int            `json:"send_errors"`
	LastError  string         `json:"last_error,omitempty"`
	// Late is how far the sender was behind its schedule, at worst. A gap without a loss that is not much longer
	// than Late was made by the probing machine, not by the path.
	Late time.Duration `json:"late"`
	// Longest is the gap with the longest outage, also when it is below the threshold.
	Longest Gap      `json:"longest"`
	Gaps    []Gap    `json:"gaps,omitempty"` // over the threshold, in time order, at most 256
	Sources []Source `json:"sources,omitempty"`
	RTT     Spread   `json:"rtt"`
}

// Spread describes a set of times.
type Spread struct {
	Min    time.Duration `json:"min"`
	Median time.Duration `json:"median"`
	P99    time.Duration `json:"p99"`
	Max    time.Duration `json:"max"`
}

// late is the worst lag of send times behind one every interval, from 0 on.
func late(sent []time.Duration, interval time.Duration) (worst time.Duration) {
	for i, s := range sent {
		worst = max(worst, s-time.Duration(i)*interval)
	}
	return worst
}

// analyse computes the report from the send and receive times of the datagrams in the order of sending; a
// negative receive time means that no reply came. It is pure.
func analyse(sent, got []time.Duration, threshold time.Duration) UDPReport {
	r := UDPReport{Sent: len(sent)}
	var rtt []time.Duration
	last := -1 // newest answered datagram so far
	for i := range sent {
		if got[i] < 0 {
			continue
		}
		rtt = append(rtt, got[i]-sent[i])
		if last >= 0 {
			g := Gap{At: got[last], Silence: max(0, got[i]-got[last]), Outage: sent[i] - sent[last], Lost: i - last - 1}
			if g.Outage > r.Longest.Outage {
				r.Longest = g
			}
			if max(g.Outage, g.Silence) > threshold && len(r.Gaps) < maxGaps {
				r.Gaps = append(r.Gaps, g)
			}
		}
		last = i
	}
	r.Received = len(rtt)
	r.Pending = len(sent) - 1 - last
	r.Lost = r.Sent - r.Received - r.Pending
	r.RTT = spread(rtt)
	return r
}

func spread(d []time.Duration) Spread {
	if len(d) == 0 {
		return Spread{}
	}
	slices.Sort(d)
	return Spread{Min: d[0], Median: d[len(d)/2], P99: d[len(d)*99/100], Max: d[len(d)-1]}
}
