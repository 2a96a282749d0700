package scenario

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/capture"
)

// healBound is for how long two may serve on after a split is healed: the worse member hears of the better one by the
// next heartbeat, and is silent; what stands on top is the jitter of emulated machines.
func healBound() time.Duration { return Timing.Dead }

// Verdict is a told story with what the captures say.
type Verdict struct {
	Telling
	Service  capture.Service
	Changes  int // of the owner on the LAN
	Flow     Flow
	Problems []string // empty: the story went as it must
}

// JudgeStories judges stories by the captures of the lab, when the machines are quiet.
func JudgeStories(l *Lab, told []Telling) ([]Verdict, error) {
	traces, err := readTraces(l.Dir, l.Topology)
	if err != nil {
		return nil, err
	}
	var out []Verdict
	for _, t := range told {
		out = append(out, judgeStory(traces, t))
	}
	return out, nil
}

// judgeStory is the pure part of JudgeStories.
func judgeStory(traces []capture.Trace, t Telling) Verdict {
	v := Verdict{Telling: t}
	window := between(traces, t.Begin, t.End)
	on := func(segment string) (out []capture.Trace) {
		for _, tr := range window {
			if tr.Segment == segment && slices.Contains(Gateways, tr.Station) {
				out = append(out, tr)
			}
		}
		return out
	}
	lan, wan := capture.Served(on("lan"), clusterID, Timing.Lease), capture.Served(on("wan"), clusterID, Timing.Lease)
	v.Service, v.Changes = lan.Add(wan), max(0, len(lan.Owners)-1)
	port := func(name string) capture.Trace {
		i := slices.IndexFunc(traces, func(tr capture.Trace) bool { return tr.Port == name })
		return traces[max(0, i)] // Pair has both
	}
	v.Flow = flow(port(Port("lan", "host")), port(Port("wan", "server")), t.Begin, t.End)
	if t.Err != nil {
		v.Problems = append(v.Problems, t.Err.Error())
	}
	v.checkOwners("lan", lan)
	v.checkOwners("wan", wan)
	v.checkBoth()
	v.checkTraffic()
	v.checkBlocked(port(Port("lan", "host")), port(Port("wan", "server")))
	if t.Err == nil {
		v.checkFast()
	}
	if !t.Healed.IsZero() {
		v.checkHealing(on)
	}
	if len(v.Problems) > 0 {
		v.Problems = append(v.Problems, "to judge by: "+stillness(window))
	}
	return v
}

// stillness says for how long each gateway sent nothing at all, which tells a starved host from a fault of the pair.
func stillness(traces []capture.Trace) string {
	var words []string
	for _, g := range Gateways {
		var times []time.Time
		for _, t := range traces {
			for _, f := range t.Frames {
				if t.Station == g && f.Dir == capture.In {
					times = append(times, f.Time)
				}
			}
		}
		slices.SortFunc(times, time.Time.Compare)
		var longest time.Duration
		var at time.Time
		for i := 1; i < len(times); i++ {
			if d := times[i].Sub(times[i-1]); d > longest {
				longest, at = d, times[i-1]
			}
		}
		words = append(words, fmt.Sprintf("gw-%s sent nothing for at most %d ms, from %s on", g, longest.Milliseconds(), at.Format("15:04:05.000")))
	}
	return strings.Join(words, "; ") + fmt.Sprintf(" (dead time %v)", Timing.Dead)
}

// between cuts traces to a time.
func between(traces []capture.Trace, begin, end time.Time) []capture.Trace {
	out := slices.Clone(traces)
	for i := range out {
		f := out[i].Frames
		from, _ := slices.BinarySearchFunc(f, begin, func(f capture.Frame, t time.Time) int { return f.Time.Compare(t) })
		to, _ := slices.BinarySearchFunc(f, end, func(f capture.Frame, t time.Time) int { return f.Time.Compare(t) })
		out[i].Frames = f[from:max(from, to)]
	}
	return out
}

func (v *Verdict) fail(format string, args ...any) {
	v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
}

// checkOwners: the right members served, one after the other. Times with two are checkBoth's.
func (v *Verdict) checkOwners(segment string, s capture.Service) {
	var alone []string
	for _, o := range s.Owners {
		if !strings.Contains(o, "+") && (len(alone) == 0 || alone[len(alone)-1] != o) {
			alone = append(alone, o)
		}
	}
	if v.owners != nil && !slices.Equal(alone, v.owners) {
		v.fail("on %s the shared MAC was served by %s, want %s", segment, arrows(s.Owners), arrows(v.owners))
	}
}

func (v *Verdict) checkBoth() {
	s := v.Service
	switch {
	case v.split && s.Times == 0:
		v.fail("both should have served while the pair was cut in two")
	case v.split && s.Until.Sub(v.Healed) > healBound():
		v.fail("two members served until %v after the healing, want at most %v", s.Until.Sub(v.Healed), healBound())
	case v.split:
	case s.Times > 0 && v.both == 0 || s.Both > v.both:
		v.fail("two members served the shared MAC at once for %v (%d times), from %s on; want at most %v",
			s.Both, s.Times, s.From.Format("15:04:05.000"), v.both)
	}
}

func (v *Verdict) checkTraffic() {
	before, after := v.TCP[0], v.TCP[1]
	switch {
	case v.Flow.Answered == 0:
		v.fail("no datagram was answered")
	case v.lossless && v.Flow.Lost > 0:
		v.fail("%d datagrams were lost between host and server, want none", v.Flow.Lost)
	case v.Flow.Gap > maxOutage():
		v.fail("no answers for %v, want at most %v", v.Flow.Gap, maxOutage())
	}
	if v.Err == nil && !v.tcpSurvived() {
		v.fail("the TCP connection did not survive: %d connections before, %d after, %d resets, %d messages answered, last error %q",
			before.Connects, after.Connects, after.Resets-before.Resets, after.Received-before.Received, after.LastError)
	}
}

func (v *Verdict) tcpSurvived() bool {
	b, a := v.TCP[0], v.TCP[1]
	return a.Connects == b.Connects && a.Resets == b.Resets && a.Closed == b.Closed && a.GivenUp == b.GivenUp && a.Received > b.Received
}

// checkHealing: after the healing one member announces both addresses again, when the other one is silent.
func (v *Verdict) checkHealing(on func(string) []capture.Trace) {
	winner := v.owners[len(v.owners)-1]
	for _, segment := range []string{"lan", "wan"} {
		traces := on(segment)
		list := capture.Announcements(traces, clusterID, v.Healed)
		list = slices.DeleteFunc(list, func(a capture.Announcement) bool { return a.Port != Port(segment, winner) })
		if len(list) == 0 {
			v.fail("gw-%s did not announce on %s after the healing", winner, segment)
			continue
		}
		silent := lastUse(traces, other(winner))
		if last := list[len(list)-1].Time; !last.After(silent) {
			v.fail("on %s gw-%s announced last %v before gw-%s was silent", segment, winner, silent.Sub(last), other(winner))
		}
	}
}

// lastUse is the last frame of a station from a shared MAC.
func lastUse(traces []capture.Trace, station string) (last time.Time) {
	for _, t := range traces {
		if t.Station != station {
			continue
		}
		for _, f := range t.Frames {
			if f.Dir == capture.In && capture.Shared(f.Data, clusterID) {
				last = f.Time
			}
		}
	}
	return last
}

func arrows(list []string) string {
	if len(list) == 0 {
		return "nobody"
	}
	return strings.Join(list, " → ")
}

// bothText is the time with two owners, and what part of it belongs to the time after a healing.
func (v Verdict) bothText() string {
	s := v.Service
	switch {
	case s.Times == 0:
		return "0"
	case !v.Healed.IsZero():
		return fmt.Sprintf("%d, until %d after healing", s.Both.Milliseconds(), s.Until.Sub(v.Healed).Milliseconds())
	}
	return fmt.Sprintf("%d (bound %d)", s.Both.Milliseconds(), v.both.Milliseconds())
}

func (v Verdict) cells() []string {
	states := v.Before
	if v.During != "" {
		states += " / " + v.During
	}
	verdict, tcp := "ok", "survived"
	if len(v.Problems) > 0 {
		verdict = "FAILED"
	}
	if !v.tcpSurvived() {
		tcp = "lost"
	} else if v.Fast[0].Offload && v.Fast[1].Offload {
		tcp = "survived, offloaded"
	}
	return []string{
		v.Name, v.Expected, states + " / " + v.After, arrows(v.Service.Owners), fmt.Sprint(v.Changes), v.bothText(),
		fmt.Sprint(v.Flow.Gap.Milliseconds()), fmt.Sprintf("%d of %d", v.Flow.Lost, v.Flow.Sent), tcp, verdict,
	}
}

var columns = []string{"story", "expected", "states before / during / after", "served on LAN by", "changes", "two owners, ms", "longest gap, ms", "lost on the way", "TCP", "verdict"}

// Failed counts the stories that did not go as they must.
func Failed(list []Verdict) (n int) {
	for _, v := range list {
		if len(v.Problems) > 0 {
			n++
		}
	}
	return n
}

// PrintStories writes the verdicts for a terminal.
func PrintStories(w io.Writer, list []Verdict) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	short := slices.Concat(columns[:1], columns[2:])
	fmt.Fprintf(tw, "\n%s\n", strings.ToUpper(strings.Join(short, "\t")))
	for _, v := range list {
		c := v.cells()
		fmt.Fprintln(tw, strings.Join(slices.Concat(c[:1], c[2:]), "\t"))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, v := range list {
		fmt.Fprintf(w, "\n%s: %s\n  expected: %s\n", v.Name, v.Title, v.Expected)
		for _, p := range v.Problems {
			fmt.Fprintf(w, "  FAILED: %s\n", p)
		}
	}
	return nil
}

// WriteStories writes the verdicts as a Markdown table. about says where and when it ran.
func WriteStories(w io.Writer, about string, list []Verdict) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Stories in the QEMU lab\n\n%s\n\n| %s |\n|%s\n", about, strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, v := range list {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(v.cells(), " | "))
	}
	for _, v := range list {
		for _, p := range v.Problems {
			fmt.Fprintf(&b, "\n%s failed: %s\n", v.Name, oneLine(p))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
