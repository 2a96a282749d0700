package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/tools/bench/machine"
	"github.com/twinkeep/twinkeep/tools/bench/stat"
)

// Marks around the section of this bench in a file that people and other benches write to.
const (
	beginMark = "<!-- bench-sync: begin; written by make bench-sync -->"
	endMark   = "<!-- bench-sync: end -->"
)

func writeSection(path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write the result: %w", err)
	}
	page := string(old)
	section := beginMark + "\n" + strings.TrimSpace(text) + "\n" + endMark
	begin, end := strings.Index(page, beginMark), strings.Index(page, endMark)
	switch {
	case begin < 0 && end < 0:
		page = strings.TrimRight(page, "\n") + "\n\n" + section + "\n"
	case begin < 0 || end < begin:
		return fmt.Errorf("write the result to %s: only one of the two marks of the section is there, or in the wrong order: remove both", path)
	default:
		page = page[:begin] + section + page[end+len(endMark):]
	}
	return os.WriteFile(path, []byte(page), 0o644)
}

// titles of the systems.
var titles = map[string]string{"conntrackd": "conntrackd, FTFW, external cache disabled", "twinkeep": "Twinkeep statesyncd"}

func (r *results) markdown() string {
	var b strings.Builder
	b.WriteString("## State synchronisation beside conntrackd\n\n")
	for _, l := range machine.Describe() {
		fmt.Fprintf(&b, "- %s\n", l)
	}
	fmt.Fprintf(&b, "- %s UTC, %s; load average %s before, %s after; other people use this machine too\n", r.began.UTC().Format("2006-01-02 15:04"), time.Since(r.began).Round(time.Second), r.before, machine.Load())
	fmt.Fprintf(&b, "- Repeat: `sudo env \"PATH=$PATH\" go run ./tools/bench/sync %s`\n\n", strings.Join(os.Args[1:], " "))
	raw := stat.Of(r.raw)
	fmt.Fprintf(&b, "The ceiling: one process brings %.0f SNATed UDP entries a second into an empty kernel table by raw netlink, 256 a system call (median of %d; %.1f µs each).\n\n", raw.Median, raw.N, 1e6/raw.Median)
	for _, how := range r.o.hows {
		r.rateTable(&b, how)
	}
	b.WriteString(`
CPU is that of the daemon, user and system, with the kernel's work in its system calls. Missing: entries that the standby's
kernel lacks 15 s later. Lag: from making a connection to seeing it in the standby's kernel, every 50 ms, by polling each half
millisecond; 3000 stands for never. conntrackd runs in real time, as it does by default: on a busy machine it goes before everything
else, the machine's own heartbeats too; statesyncd is an ordinary process.

`)
	fmt.Fprintf(&b, "### A standby with an empty table joins, medians of %d\n\n| entries | system | all in its kernel after s | says in sync after s | loaded | CPU of its daemon s | memory MiB, active + standby |\n|---|---|---|---|---|---|---|\n", r.o.n)
	for _, load := range r.o.loads {
		for _, name := range r.o.systems {
			r.joinRow(&b, load, name)
		}
	}
	b.WriteString("\nEstablished TCP connections with SNAT. Twinkeep's time includes the start of its process; conntrackd's begins with `conntrackd -n`,\nasked of a daemon that already runs. It does not know when it has everything.\n")
	return b.String()
}

// hows says how connections begin.
var hows = map[string]string{
	"packets": "one-packet UDP flows of many clients and source ports, forwarded through SNAT to one address, fully random",
	"churn":   fmt.Sprintf("by netlink, and for each one that begins an older one ends, so that %d live", living),
	"netlink": "the same flows made in the active's kernel over netlink, so that the machine's time goes to the daemons",
}

func (r *results) rateTable(b *strings.Builder, how string) {
	fmt.Fprintf(b, "### New connections for %d s, medians of %d: %s\n\n", r.o.seconds, r.o.n, hows[how])
	b.WriteString("| offered/s | system | made/s | missing on the standby | behind when it stopped | caught up after ms | CPU µs a flow, active | standby | lag ms: median / p95 / max (min) | memory MiB, active + standby | machine busy |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, rate := range r.o.rates {
		for _, name := range r.o.systems {
			r.rateRow(b, how, rate, name)
		}
	}
	b.WriteString("\n")
}

func (r *results) rateRow(b *strings.Builder, how string, rate int, name string) {
	var made, missing, behind, caught, a, s, lag, busy, ra, rb []float64
	for _, x := range r.rate {
		if x.how != how || x.offered != rate || x.name != name {
			continue
		}
		made, missing, behind = append(made, x.made), append(missing, float64(x.missing)), append(behind, float64(x.behind))
		if x.missing == 0 {
			caught = append(caught, float64(x.caught.Milliseconds()))
		}
		a, s, busy = append(a, x.cpuA), append(s, x.cpuB), append(busy, x.busy)
		lag = append(lag, x.lag...)
		ra, rb = append(ra, float64(x.rssA>>20)), append(rb, float64(x.rssB>>20))
	}
	if len(made) == 0 {
		return
	}
	never := "–"
	if len(caught) > 0 {
		never = fmt.Sprintf("%.0f", stat.Of(caught).Median)
	}
	m := stat.Of(missing)
	fmt.Fprintf(b, "| %d | %s | %.0f | %.0f (%.0f to %.0f) | %.0f | %s | %.1f | %.1f | %s | %.0f + %.0f | %.0f %% |\n", rate, titles[name], stat.Of(made).Median, m.Median, m.Min, m.Max,
		stat.Of(behind).Median, never, stat.Of(a).Median, stat.Of(s).Median, stat.Of(lag), stat.Of(ra).Median, stat.Of(rb).Median, stat.Of(busy).Median)
}

func (r *results) joinRow(b *strings.Builder, load int, name string) {
	var took, in, loaded, cpu, ra, rb []float64
	for _, x := range r.loading {
		if x.entries != load || x.name != name {
			continue
		}
		if x.complete {
			took = append(took, x.took.Seconds())
		}
		if x.inSync > 0 {
			in = append(in, x.inSync.Seconds())
		}
		loaded, cpu = append(loaded, float64(x.loaded)), append(cpu, x.cpu.Seconds())
		ra, rb = append(ra, float64(x.rssA>>20)), append(rb, float64(x.rss>>20))
	}
	if len(loaded) == 0 {
		return
	}
	seconds := func(v []float64) string {
		if len(v) == 0 {
			return "–"
		}
		s := stat.Of(v)
		return fmt.Sprintf("%.2f (%.2f to %.2f)", s.Median, s.Min, s.Max)
	}
	fmt.Fprintf(b, "| %d | %s | %s | %s | %.0f | %.2f | %.0f + %.0f |\n", load, titles[name], seconds(took), seconds(in), stat.Of(loaded).Median, stat.Of(cpu).Median, stat.Of(ra).Median, stat.Of(rb).Median)
}
