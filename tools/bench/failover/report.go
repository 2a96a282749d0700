package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/tools/bench/pair"
	"github.com/twinkeep/twinkeep/tools/bench/stat"
	"github.com/twinkeep/twinkeep/tools/bench/stream"
)

// row is one line of the table: all trials of one event with one system.
type row struct {
	outage, forward, lost stat.Summary
	late, cut             time.Duration // the most of all trials
	kept, recovered       int           // trials in which the source port stayed the same, of those that recovered
	flips, failed         int
}

func (s *SystemResult) row(e pair.Event) row {
	var r row
	var outage, forward, lost []float64
	for _, t := range s.Trials {
		if t.Event != e {
			continue
		}
		o := t.Outage
		outage, forward, lost = append(outage, ms(o.RoundTrip)), append(forward, ms(o.Forward)), append(lost, float64(o.Lost))
		r.late, r.cut = max(r.late, o.Late), max(r.cut, t.Cut)
		r.flips += t.Flips
		if t.Failed {
			r.failed++
			continue
		}
		r.recovered++
		if o.PortKept() {
			r.kept++
		}
	}
	r.outage, r.forward, r.lost = stat.Of(outage), stat.Of(forward), stat.Of(lost)
	return r
}

// Markdown is the whole report.
func (r *Result) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## Failover beside keepalived + conntrackd\n\n")
	for _, line := range r.Machine {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	fmt.Fprintf(&b, "- %s, %v; load average %s before, %s after\n", r.Started.UTC().Format("2006-01-02 15:04 UTC"),
		r.Took.Round(time.Second), r.LoadBefore, r.LoadAfter)
	fmt.Fprintf(&b, "- Repeat: `%s`\n", r.Options.command())
	r.failovers(&b)
	r.survivals(&b)
	r.sieges(&b)
	for _, s := range r.Systems {
		for _, err := range s.Errors {
			text, _, _ := strings.Cut(err.Error(), "\n")
			fmt.Fprintf(&b, "\nA round of %s broke off: %s.\n", s.key, text)
		}
	}
	return b.String()
}

func (r *Result) failovers(b *strings.Builder) {
	peers := map[pair.Event]stat.Summary{}
	if i := slices.IndexFunc(r.Systems, func(s *SystemResult) bool { return s.key == "keepalived" }); i >= 0 {
		for _, e := range []pair.Event{pair.Death, pair.Kill, pair.Planned} {
			peers[e] = r.Systems[i].row(e).outage
		}
	}
	var lines []string
	var cut time.Duration
	for _, e := range []pair.Event{pair.Death, pair.Kill, pair.Planned, pair.Daemon} {
		for _, s := range r.Systems {
			w := s.row(e)
			if w.outage.N == 0 {
				continue
			}
			cut = max(cut, w.cut)
			ratio := "–"
			if s.key != "keepalived" {
				ratio = stat.Ratio(w.outage, peers[e])
			}
			lines = append(lines, fmt.Sprintf("| %s | %s | %s | %d | %s | %s | %.0f / %.0f | %d of %d | %d | %d | %.1f | %s |",
				e, s.Name, s.Setting, w.outage.N, w.outage, w.forward, w.lost.Median, w.lost.Max, w.kept, w.recovered, w.flips, w.failed, ms(w.late), ratio))
		}
	}
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\nTimes in ms: median / p95 / max (min).\n\n")
	fmt.Fprintln(b, "| event | system | setting | n | outage, round trip | outage, forward only | lost: median / max | source port kept | role flips by themselves | takeovers failed | probe itself late, max | median : keepalived's |")
	fmt.Fprintln(b, "|---|---|---|---|---|---|---|---|---|---|---|---|")
	fmt.Fprintln(b, strings.Join(lines, "\n"))
	fmt.Fprintf(b, `
- Outage: the longest time in which no probe arrived, within %v after the event. One probe a millisecond, client → NAT →
  server → back, so a lost probe is a millisecond in which nothing was forwarded. "Probe itself late" is how far the probe's
  sender was behind its schedule at most: an outage shorter than that says something about the machine, not the system.
- death: lan and wan ports in the switch and the gateway's end of the sync cable go down (within %.1f ms at most here), 2 ms
  later every process gets SIGKILL. Nobody can say farewell. The gateway comes back empty; roles stay swapped.
- kill9: every process of the active gets SIGKILL, supervisors first; kernel and ports live on. Twinkeep's lease runs out and its
  kernel shuts the gate before the peer takes over. keepalived's orphaned kernel goes on forwarding, with the VIPs, until
  the other's gratuitous ARP: traffic hardly notices, but from then on two machines have the same addresses, until somebody
  removes them from the one without keepalived.
- planned: Twinkeep by POST /v1/deactivate (`+"`ha -deactivate`"+`), keepalived by SIGTERM to it (as systemctl stop).
- had: only Twinkeep's HA daemon gets SIGKILL; its supervisor sends the farewell.
- Source port kept: the flow came out of the same translated port after the takeover. SNAT is fully random for both, so only
  replication of connections can do that. Where it was not kept, the flow was forwarded again, but as a new connection.
- Role flips by themselves: takeovers beyond the one that the event caused, until the pair was whole again.
- conntrackd runs without `+"`conntrackd -t`"+` of its stock script, which empties the standby's table a minute later.
`, window, ms(cut))
}

func (r *Result) sieges(b *strings.Builder) {
	var lines []string
	for _, s := range r.Systems {
		if g := s.Siege; g != nil {
			stalls, longest := stream.Longest(g.Stalls, stallOf)
			lines = append(lines, fmt.Sprintf("| %s | %s | %d | %v | %d, %d | %d | %.1f | %.1f | %d / %.1f | %.0f %% |", s.Name, s.Setting, g.Hogs, g.For, g.Takeovers, g.Unexplained,
				g.Outage.Lost, ms(g.Outage.RoundTrip), ms(g.Outage.Forward), stalls, ms(longest), g.Busy))
		}
	}
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n### A saturated machine: %d busy loops at normal priority\n\n", r.Options.hogs)
	fmt.Fprintln(b, "| system | setting | busy loops | for | role changes: all, by the pair's own doing | probes lost | longest gap, ms | forward only, ms | a core stood still for 8 ms or more: times / longest, ms | CPU busy |")
	fmt.Fprintln(b, "|---|---|---|---|---|---|---|---|---|---|")
	fmt.Fprintln(b, strings.Join(lines, "\n"))
	fmt.Fprintf(b, "\nNothing fails here, so every role change is a false one. A run of %v does not show what happens a few times a day. A core stood still when a thread\n"+
		"bound to it that goes before every process (SCHED_FIFO 99) was ready and did not run: the hypervisor or the kernel had it. A member whose core stands still for\n"+
		"about its lease has to give the role up; a change is its own doing if in the second before no core stood still for 8 ms.\n", r.Options.siege)
}

// command repeats the run.
func (o options) command() string {
	args := fmt.Sprintf("-n %d -systems %s -events %s -survival %d -hogs %d", o.n, strings.Join(o.systems, ","), strings.Join(o.events, ","), o.survival, o.hogs)
	if o.hogs > 0 {
		args += fmt.Sprintf(" -for %v", o.siege)
	}
	return "sudo env \"PATH=$PATH\" go run ./tools/bench/failover " + args
}
