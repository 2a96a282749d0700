package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"time"

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

func (r report) markdown() string {
	var b strings.Builder
	b.WriteString("## State synchronisation beside conntrackd\n\n")
	for _, name := range order {
		if p := r[name]; p != nil {
			for _, l := range p.Machine[:len(p.Machine)-1] {
				fmt.Fprintf(&b, "- %s\n", l)
			}
			break
		}
	}
	b.WriteString("- Repeat: `sudo env \"PATH=$PATH\" make bench-sync`, or one part: `go run ./tools/bench/sync -parts join`\n")
	if p := r["ceiling"]; p != nil {
		raw := stat.Of(p.Ceiling)
		fmt.Fprintf(&b, "\nThe ceiling: one process brings %.0f SNATed UDP entries a second into an empty kernel table by raw netlink, 256 a system call (median of %d; %.1f µs each). %s\n", raw.Median, raw.N, 1e6/raw.Median, p.when())
	}
	for _, how := range []string{"packets", "netlink", "churn"} {
		if p := r[how]; p != nil {
			p.rateTable(&b, how)
		}
	}
	b.WriteString(`
CPU is that of the daemon, user and system, with the kernel's work in its system calls. Missing: entries that the standby's
kernel lacks 15 s later. Lag: from making a connection to seeing it in the standby's kernel, every 50 ms, by polling each half
millisecond; 3000 stands for never. conntrackd runs in real time, as it does by default: on a busy machine it goes before everything
else, the machine's own heartbeats too; statesyncd is an ordinary process.
`)
	if p := r["join"]; p != nil {
		p.joinTable(&b)
	}
	if p := r["hold"]; p != nil {
		p.holdTable(&b)
	}
	return b.String()
}

// when says when a part was measured, and beside what.
func (p *part) when() string {
	return fmt.Sprintf("Measured %s UTC in %s, %s; load average %s before, %s after.", p.Began.UTC().Format("2006-01-02 15:04"), p.Took.Round(time.Second), p.Machine[len(p.Machine)-1], p.Before, p.After)
}

// hows says how connections begin.
var hows = map[string]string{
	"packets": "one-packet UDP flows of many clients and source ports, forwarded through SNAT to one address, fully random",
	"churn":   fmt.Sprintf("by netlink, and for each one that begins an older one ends, so that %d live", living),
	"netlink": "the same flows made in the active's kernel over netlink, so that the machine's time goes to the daemons",
}

// keys are the distinct keys of rows, in their order.
func keys[R any, K comparable](rows []R, key func(*R) K) (out []K) {
	for i := range rows {
		if k := key(&rows[i]); !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

// of picks one number of the rows that have a key.
func of[R any, K comparable](rows []R, key func(*R) K, k K, pick func(*R) float64) stat.Summary {
	var v []float64
	for i := range rows {
		if key(&rows[i]) == k {
			if x := pick(&rows[i]); !math.IsNaN(x) {
				v = append(v, x)
			}
		}
	}
	return stat.Of(v)
}

func (p *part) rateTable(b *strings.Builder, how string) {
	fmt.Fprintf(b, "\n### New connections for %d s, medians of %d: %s\n\n", p.Seconds, p.N, hows[how])
	b.WriteString("| offered/s | system | made/s | missing on the standby | behind when it stopped | caught up after ms | CPU µs a flow, active | standby | lag ms: median / p95 / max (min) | memory MiB, active + standby | machine busy |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	type id struct {
		rate int
		name string
	}
	key := func(x *rateResult) id { return id{x.Offered, x.Name} }
	for _, k := range keys(p.Rates, key) {
		v := func(pick func(*rateResult) float64) stat.Summary { return of(p.Rates, key, k, pick) }
		caught := v(func(x *rateResult) float64 {
			if x.Missing > 0 {
				return math.NaN()
			}
			return float64(x.Caught.Milliseconds())
		})
		var lag []float64
		for _, x := range p.Rates {
			if key(&x) == k {
				lag = append(lag, x.Lag...)
			}
		}
		m := v(func(x *rateResult) float64 { return float64(x.Missing) })
		fmt.Fprintf(b, "| %d | %s | %.0f | %.0f (%.0f to %.0f) | %.0f | %s | %.1f | %.1f | %s | %.0f + %.0f | %.0f %% |\n", k.rate, titles[k.name],
			v(func(x *rateResult) float64 { return x.Made }).Median, m.Median, m.Min, m.Max, v(func(x *rateResult) float64 { return float64(x.Behind) }).Median, number(caught, "%.0f"),
			v(func(x *rateResult) float64 { return x.CPUA }).Median, v(func(x *rateResult) float64 { return x.CPUB }).Median, stat.Of(lag),
			v(func(x *rateResult) float64 { return mib(x.RSSA) }).Median, v(func(x *rateResult) float64 { return mib(x.RSSB) }).Median, v(func(x *rateResult) float64 { return x.Busy }).Median)
	}
	fmt.Fprintf(b, "\n%s\n", p.when())
}

func mib(n int) float64 { return float64(n) / (1 << 20) }

// number is a median, or a dash where there is none.
func number(s stat.Summary, format string) string {
	if s.N == 0 {
		return "–"
	}
	return fmt.Sprintf(format, s.Median)
}

// span is "median (min to max)".
func span(s stat.Summary) string {
	if s.N == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", s.Median, s.Min, s.Max)
}

func (p *part) joinTable(b *strings.Builder) {
	fmt.Fprintf(b, "\n### A standby with an empty table joins, medians of %d\n\n| entries | raw netlink alone s | system | all in its kernel after s | says in sync after s | loaded | CPU of its daemon s | memory MiB, active + standby |\n|---|---|---|---|---|---|---|---|\n", p.N)
	type id struct {
		entries int
		name    string
	}
	key := func(x *joinResult) id { return id{x.Entries, x.Name} }
	seconds := func(d time.Duration, ok bool) float64 {
		if !ok {
			return math.NaN()
		}
		return d.Seconds()
	}
	for _, k := range keys(p.Joins, key) {
		v := func(pick func(*joinResult) float64) stat.Summary { return of(p.Joins, key, k, pick) }
		fmt.Fprintf(b, "| %d | %s | %s | %s | %s | %.0f | %.2f | %.0f + %.0f |\n", k.entries, number(v(func(x *joinResult) float64 { return x.Raw.Seconds() }), "%.2f"), titles[k.name],
			span(v(func(x *joinResult) float64 { return seconds(x.Took, x.Complete) })), span(v(func(x *joinResult) float64 { return seconds(x.InSync, x.InSync > 0) })),
			v(func(x *joinResult) float64 { return float64(x.Loaded) }).Median, v(func(x *joinResult) float64 { return x.CPU.Seconds() }).Median,
			v(func(x *joinResult) float64 { return mib(x.RSSA) }).Median, v(func(x *joinResult) float64 { return mib(x.RSSB) }).Median)
	}
	fmt.Fprintf(b, "\nEstablished TCP connections with SNAT. Twinkeep's time includes the start of its process; conntrackd's begins with `conntrackd -n`,\nasked of a daemon that already runs. It does not know when it has everything; a dash: no further entry came for 10 s (with its external cache, committing\n500,000 took it 9.8 s in a run of its own). Raw netlink: the bench itself brings the same entries into\nthe active's kernel, while no daemon listens. Both members are in one kernel here, which makes a message of each entry that the standby loads, because the\nactive's daemon listens: about an eighth of the standby's CPU, which a machine of its own does not spend. %s\n", p.when())
}

func (p *part) holdTable(b *strings.Builder) {
	fmt.Fprintf(b, "\n### First packets held back until the standby has the connection (`defer`), %d s, medians of %d\n\n| offered/s | defer | arrived/s | lost | first packet ms: median / p95 / max (min) | held | not long enough | CPU µs a flow, active | standby | machine busy |\n|---|---|---|---|---|---|---|---|---|---|\n", p.Seconds, p.N)
	type id struct {
		rate int
		on   bool
	}
	key := func(x *holdResult) id { return id{x.Offered, x.On} }
	for _, k := range keys(p.Holds, key) {
		v := func(pick func(*holdResult) float64) float64 { return of(p.Holds, key, k, pick).Median }
		fmt.Fprintf(b, "| %d | %s | %.0f | %.0f | %.2f / %.2f / %.2f (%.2f) | %.0f | %.0f | %.1f | %.1f | %.0f %% |\n", k.rate, map[bool]string{false: "off", true: "on"}[k.on],
			v(func(x *holdResult) float64 { return x.Arrived }), v(func(x *holdResult) float64 { return float64(x.Lost) }),
			v(func(x *holdResult) float64 { return x.Took.Median }), v(func(x *holdResult) float64 { return x.Took.P95 }), v(func(x *holdResult) float64 { return x.Took.Max }), v(func(x *holdResult) float64 { return x.Took.Min }),
			v(func(x *holdResult) float64 { return float64(x.Held) }), v(func(x *holdResult) float64 { return float64(x.Late) }),
			v(func(x *holdResult) float64 { return x.CPUA }), v(func(x *holdResult) float64 { return x.CPUB }), v(func(x *holdResult) float64 { return x.Busy }))
	}
	fmt.Fprintf(b, "\nOne-packet UDP flows from a client through the active, with SNAT, to a server that stamps what arrives; all on one machine. Each number is the median of the\ntrials' own. Lost: sent and never arrived. %s\n", p.when())
}
