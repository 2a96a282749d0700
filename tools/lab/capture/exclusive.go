package capture

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/tools/lab/ether"
)

// span is a time in which one station did something without a longer pause than the lease.
type span struct {
	station    string
	start, end time.Time
	frames     int
}

// exclusive checks that no two stations do the same thing at overlapping times. of names the thing that a frame
// does, empty for frames that do not count. Frames of a station that follow each other within join belong to one
// span; join is the lease, because so long a gate may stay open without a sign.
func exclusive(name string, traces []Trace, join time.Duration, of func(Frame, *Trace) string) Finding {
	f := Finding{Name: name}
	spans := spansOf(traces, join, of)
	var words []string
	for _, thing := range slices.Sorted(maps.Keys(spans)) {
		if text := overlap(spans[thing]); text != "" {
			f.Evidence = thing + ": " + text
			return f
		}
		words = append(words, thing+": "+story(spans[thing]))
	}
	if len(words) == 0 {
		f.Evidence = "nobody did so, the capture proves nothing"
		return f
	}
	f.OK, f.Evidence = true, "0 ms together; "+strings.Join(words, "; ")
	return f
}

// spansOf finds the spans of each thing, in the order of their starts.
func spansOf(traces []Trace, join time.Duration, of func(Frame, *Trace) string) map[string][]*span {
	open := map[string]map[string]*span{} // by thing and station
	spans := map[string][]*span{}
	for _, s := range merged(traces) {
		thing := of(s.Frame, s.trace)
		if thing == "" {
			continue
		}
		if open[thing] == nil {
			open[thing] = map[string]*span{}
		}
		sp := open[thing][s.trace.Station]
		if sp == nil || s.Time.Sub(sp.end) > join {
			sp = &span{station: s.trace.Station, start: s.Time}
			open[thing][s.trace.Station] = sp
			spans[thing] = append(spans[thing], sp)
		}
		sp.end = s.Time
		sp.frames++
	}
	return spans
}

// overlap describes the first two spans of different stations that overlap, empty when none do.
func overlap(spans []*span) string {
	for i, a := range spans {
		for _, b := range spans[i+1:] {
			if a.station == b.station || b.start.After(a.end) || a.start.After(b.end) {
				continue
			}
			start, end := a.start, a.end
			if b.start.After(start) {
				start = b.start
			}
			if b.end.Before(end) {
				end = b.end
			}
			return fmt.Sprintf("%s and %s at the same time for %v, from %s on", a.station, b.station, round(end.Sub(start)), clock(start))
		}
	}
	return ""
}

// story tells who did something in which order, how often, and how long nobody did between two stations.
func story(spans []*span) string {
	var words []string
	for i := 0; i < len(spans); {
		n, first := 0, i
		for ; i < len(spans) && spans[i].station == spans[first].station; i++ {
			n += spans[i].frames
		}
		text := fmt.Sprintf("%s (%d frames)", spans[first].station, n)
		if first > 0 {
			text = fmt.Sprintf("%v later %s", round(spans[first].start.Sub(spans[first-1].end)), text)
		}
		words = append(words, text)
	}
	return strings.Join(words, ", ")
}

// DualMAC checks that no two stations of a segment source frames from the same shared MAC at the same time.
func DualMAC(segment string, traces []Trace, cluster uint8, join time.Duration) Finding {
	return exclusive("one user at a time of the shared MAC on "+segment, traces, join, usesShared(cluster))
}

// usesShared names the shared MAC that a frame is sent from.
func usesShared(cluster uint8) func(Frame, *Trace) string {
	return func(f Frame, _ *Trace) string {
		if m := ether.Src(f.Data); shared(m, cluster) {
			return m.String()
		}
		return ""
	}
}

// DualForward checks that no two stations of a segment forward IPv4 at the same time: packets whose source is not
// an own address of the station. Forwarded packets leave from the NIC's own MAC, so DualMAC does not see them.
func DualForward(segment string, traces []Trace, join time.Duration) Finding {
	return exclusive("one member at a time forwards to "+segment, traces, join, func(f Frame, t *Trace) string {
		ip, ok := ether.ParseIPv4(f.Data)
		if !ok || ip.Src.IsUnspecified() || slices.Contains(t.Own, ip.Src) {
			return ""
		}
		return "forwarding"
	})
}

// DualHolder checks that no two members say at the same time, on any interface, that they hold the role.
func DualHolder(traces []Trace, key *wire.Key, join time.Duration) Finding {
	return exclusive("one holder at a time by the heartbeats", traces, join, func(f Frame, _ *Trace) string {
		if Holding(f.Data, key) {
			return "holder beats"
		}
		return ""
	})
}
