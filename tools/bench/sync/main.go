// Command sync measures state synchronisation: Twinkeep's statesyncd beside conntrackd (FTFW, external cache disabled), on
// the same machine, in the same run, and the raw limit of the kernel's netlink. It prints Markdown and writes it into
// docs/benchmarks.md.
//
//	sudo go run ./tools/bench/sync
//	sudo go run ./tools/bench/sync -rates 20000,50000 -parts packets -systems twinkeep
//
// The connection table can only be sized for the whole machine: the bench does so and puts it back.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twinkeep/twinkeep/tools/bench/machine"
)

type options struct {
	rates, loads, holds []int
	systems, parts      []string
	seconds             int
	n                   int
	out, keep           string
	dir, binary         string
}

func main() {
	var o options
	rates := flag.String("rates", "10000,20000,50000", "new flows a second, offered")
	loads := flag.String("loads", "100000,500000", "entries that a joining standby has to load")
	holds := flag.String("holds", "1000,10000,20000,50000", "new flows a second of the part hold")
	systems := flag.String("systems", "conntrackd,twinkeep", "systems, in order")
	parts := flag.String("parts", strings.Join(order, ","), "what is measured: the ceiling of netlink; rates of connections begun by packets through SNAT, made in the active's kernel by netlink, or so and ended again; a standby that joins; first packets held back or not")
	flag.IntVar(&o.seconds, "for", 4, "seconds of load for each rate")
	flag.IntVar(&o.n, "n", 3, "trials of each row; the median is shown")
	flag.StringVar(&o.out, "out", "docs/benchmarks.md", "file whose section is replaced; empty for none")
	flag.StringVar(&o.keep, "keep", "build/bench-sync.json", "file that keeps what was measured, for the parts that are not measured now; empty for none")
	flag.Parse()
	o.rates, o.loads, o.holds = numbers(*rates), numbers(*loads), numbers(*holds)
	o.systems = strings.Split(*systems, ",")
	if *parts != "" { // else the page is made of what was measured before
		o.parts = strings.Split(*parts, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "sync:", err)
		os.Exit(1)
	}
}

func numbers(s string) (out []int) {
	for _, f := range strings.Split(s, ",") {
		if n, err := strconv.Atoi(strings.TrimSpace(f)); err == nil && n > 0 {
			out = append(out, n)
		}
	}
	return out
}

// sizes are those of the connection table, which all namespaces share: as the image has them, a bucket for each entry.
var sizes = []string{"/proc/sys/net/netfilter/nf_conntrack_buckets", "/proc/sys/net/netfilter/nf_conntrack_max"}

func run(ctx context.Context, o *options) error {
	err := machine.Require(machine.Program{Name: "ip", Package: "iproute2"}, machine.Program{Name: "conntrackd", Package: "conntrackd"}, machine.Program{Name: "conntrack", Package: "conntrack"}, machine.Program{Name: "nft", Package: "nftables"})
	if err != nil {
		return err
	}
	if o.dir, err = os.MkdirTemp("", "tksync"); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)
	o.binary = filepath.Join(o.dir, "twinkeep")
	if out, err := exec.Command("go", "build", "-o", o.binary, "./firmware/twinkeep").CombinedOutput(); err != nil {
		return fmt.Errorf("build twinkeep: %w\n%s", err, out)
	}
	for _, path := range sizes {
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte("1048576"), 0); err != nil {
			return fmt.Errorf("size the connection table: %w", err)
		}
		defer os.WriteFile(path, old, 0)
	}
	r, err := load(o.keep)
	if err != nil {
		return err
	}
	for _, name := range o.parts {
		p, err := measure(ctx, o, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r[name] = p
		if err := r.save(o.keep); err != nil {
			return err
		}
	}
	text := r.markdown()
	fmt.Print(text)
	if o.out == "" {
		return nil
	}
	return writeSection(o.out, text)
}

// measure measures one part.
func measure(ctx context.Context, o *options, name string) (*part, error) {
	p := &part{Machine: machine.Describe(), Began: time.Now(), Before: machine.Load(), Seconds: o.seconds, N: o.n}
	var err error
	trial := func(f func() error) {
		for range o.n {
			if err == nil {
				err = machine.Turn(ctx)
			}
			if err == nil {
				err = f()
			}
		}
	}
	switch name {
	case "ceiling":
		err = p.ceiling(o)
	case "packets", "netlink", "churn":
		for _, rate := range o.rates {
			for _, system := range o.systems {
				trial(func() error { return p.sustained(ctx, o, name, system, rate) })
			}
		}
	case "join":
		for _, entries := range o.loads {
			for _, system := range o.systems {
				trial(func() error { return p.join(ctx, o, system, entries) })
			}
		}
	case "hold":
		for _, rate := range o.holds {
			for _, on := range []bool{false, true} {
				trial(func() error { return p.hold(ctx, o, rate, on) })
			}
		}
	default:
		err = fmt.Errorf("want one of %v", order)
	}
	p.Took, p.After = time.Since(p.Began), machine.Load()
	return p, err
}
