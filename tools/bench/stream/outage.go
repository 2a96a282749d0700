package stream

import (
	"slices"
	"time"
)

// Outage is what an event cost, seen through a window of time.
type Outage struct {
	RoundTrip time.Duration // longest time in the window without an echo arriving at the client
	Forward   time.Duration // longest time in the window without a datagram arriving at the server
	Lost      int           // datagrams sent in the window that never came back
	Late      time.Duration // the most that the sender itself was behind its own schedule, in the window
	// PortBefore and PortAfter are the source port that the server saw, last before the window and last in it.
	PortBefore, PortAfter uint16
	// Recovered: what was sent at the end of the window came back.
	Recovered bool
}

// PortKept reports whether the flow kept its translated source port.
func (o Outage) PortKept() bool { return o.Recovered && o.PortBefore == o.PortAfter }

// flying is how long before the window a datagram may have been sent to count as lost in it: it was on its way.
const flying = Time(2 * time.Millisecond)

// steady is the end of the window; one datagram sent in it must come back for the service to count as recovered.
const steady = Time(100 * time.Millisecond)

// Measure looks at the window from one time to another. It is pure.
func Measure(records []Record, from, to Time) Outage {
	var o Outage
	var back, server []Time
	var before, after Time
	for _, r := range records {
		if r.Back != 0 {
			o.Recovered = o.Recovered || r.Sent > to-steady && r.Sent < to
			back = append(back, r.Back)
			if r.Back <= from && r.Back >= before {
				before, o.PortBefore = r.Back, r.Port
			}
			if r.Back > from && r.Back < to && r.Back >= after {
				after, o.PortAfter = r.Back, r.Port
			}
		}
		if r.Server != 0 {
			server = append(server, r.Server)
		}
		if r.Due >= from && r.Due < to {
			o.Late = max(o.Late, time.Duration(r.Sent-r.Due))
		}
		if r.Sent >= from-flying && r.Sent < to && r.Back == 0 {
			o.Lost++
		}
	}
	o.RoundTrip, o.Forward = silence(back, from, to), silence(server, from, to)
	return o
}

// silence is the longest time between two arrivals that follow each other, cut to the window.
func silence(arrivals []Time, from, to Time) time.Duration {
	slices.Sort(arrivals)
	last, longest := from, Time(0)
	for _, t := range arrivals {
		if t <= from || t >= to {
			continue
		}
		longest = max(longest, t-last)
		last = t
	}
	return time.Duration(max(longest, to-last))
}
