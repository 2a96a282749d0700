package scenario

import (
	"maps"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/capture"
	"github.com/twinkeep/twinkeep/tools/lab/ether"
	"github.com/twinkeep/twinkeep/tools/lab/probe"
)

// Flow is what the captures of the LAN host's and the WAN server's port show of the UDP probe in a time. What a machine at
// an end loses before it reaches the wire does not count.
type Flow struct {
	Sent     int           // datagrams that the host sent
	Answered int           // of them with a reply that reached the host
	Lost     int           // requests or replies that went in at one end and did not come out at the other
	Gap      time.Duration // the longest time between two datagrams that were answered, by their times of sending
}

// onWire is the way of one datagram and its reply.
type onWire struct {
	sent, arrived, replied, back time.Time
}

// flow follows the datagrams that the host sent from begin to end. Replies may come later.
func flow(host, server capture.Trace, begin, end time.Time) Flow {
	type key struct {
		run uint32
		seq uint64
	}
	ways := map[key]*onWire{}
	each := func(t capture.Trace, note func(w *onWire, f capture.Frame, reply bool)) {
		for _, f := range t.Frames {
			u, ok := ether.ParseUDP(f.Data)
			if !ok || u.SrcPort != storyPort && u.DstPort != storyPort {
				continue
			}
			m, err := probe.Parse(u.Payload)
			if err != nil {
				continue
			}
			k := key{m.Run, m.Seq}
			if ways[k] == nil {
				ways[k] = &onWire{}
			}
			note(ways[k], f, m.Reply)
		}
	}
	each(host, func(w *onWire, f capture.Frame, reply bool) {
		if reply && f.Dir == capture.Out {
			w.back = f.Time
		} else if !reply && f.Dir == capture.In {
			w.sent = f.Time
		}
	})
	each(server, func(w *onWire, f capture.Frame, reply bool) {
		if reply && f.Dir == capture.In {
			w.replied = f.Time
		} else if !reply && f.Dir == capture.Out {
			w.arrived = f.Time
		}
	})
	list := slices.SortedFunc(maps.Values(ways), func(a, b *onWire) int { return a.sent.Compare(b.sent) })
	return sum(list, begin, end)
}

// sum counts what happened to the datagrams, which are in the order of sending.
func sum(list []*onWire, begin, end time.Time) (out Flow) {
	var last time.Time
	for _, w := range list {
		if w.sent.IsZero() || w.sent.Before(begin) || w.sent.After(end) {
			continue
		}
		out.Sent++
		if w.arrived.IsZero() || !w.replied.IsZero() && w.back.IsZero() {
			out.Lost++
		}
		if w.back.IsZero() {
			continue
		}
		out.Answered++
		if !last.IsZero() {
			out.Gap = max(out.Gap, w.sent.Sub(last))
		}
		last = w.sent
	}
	if last.IsZero() {
		last = begin
	}
	out.Gap = max(out.Gap, end.Sub(last)) // nothing was answered any more
	return out
}
