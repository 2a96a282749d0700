// Command failover measures what a failover costs the traffic of a NAT gateway pair: Twinkeep beside keepalived +
// conntrackd, on the same machine, in the same run, on the same network of namespaces. It prints Markdown.
//
//	sudo go run ./tools/bench/failover
//	sudo go run ./tools/bench/failover -n 3 -systems keepalived,twinkeep -events death -hogs 0
//
// It exits with 1 when a takeover did not happen at all, or the bench itself could not go on; never because
// something was slow.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twinkeep/twinkeep/tools/bench/machine"
	"github.com/twinkeep/twinkeep/tools/bench/pair"
	"github.com/twinkeep/twinkeep/tools/bench/stream"
	"github.com/twinkeep/twinkeep/tools/bench/topology"
)

// options of the command line.
type options struct {
	n       int
	systems []string
	events  []string
	hogs    int
	// survival is how often connections are counted over a handover, a fail-back and a death.
	survival int
	siege    time.Duration
	out      string
	keep     string
}

// contestant is a system that can be chosen.
type contestant struct {
	key  string
	make func(dir string) pair.System
}

func main() {
	stream.Main(func(name string) topology.Namespace { return topology.Namespace(name) })
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
		os.Exit(2)
	}
	// SIGHUP: the terminal was closed. Namespaces must not stay behind.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("failover", flag.ContinueOnError)
	f.IntVar(&o.n, "n", 10, "trials of each event for each system; 0 leaves them out")
	systems := f.String("systems", "keepalived,twinkeep,twinkeep-fast", "systems to measure")
	events := f.String("events", "death,kill9,planned,had", "events to measure, where the system has them")
	f.IntVar(&o.survival, "survival", 1, "runs in which 2,000 connections and FTP transfers are counted over a handover, a fail-back and a death; 0 leaves them out")
	f.IntVar(&o.hogs, "hogs", 16, "busy loops beside a pair that is left alone; 0 leaves this part out")
	f.DurationVar(&o.siege, "for", time.Minute, "how long they run")
	f.StringVar(&o.out, "out", "", "also write the result as a section of this `file`, e.g. docs/benchmarks.md")
	f.StringVar(&o.keep, "keep", "", "leave configurations and logs in this `directory`")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.systems, o.events = strings.Split(*systems, ","), strings.Split(*events, ",")
	known := func(what string, chosen, all []string) error {
		for _, c := range chosen {
			if !slices.Contains(all, c) {
				return fmt.Errorf("-%s: %q is not known; one of: %s", what, c, strings.Join(all, ", "))
			}
		}
		return nil
	}
	var keys []string
	for _, c := range contestants("") {
		keys = append(keys, c.key)
	}
	err := errors.Join(known("systems", o.systems, keys),
		known("events", o.events, []string{string(pair.Death), string(pair.Kill), string(pair.Planned), string(pair.Daemon)}))
	switch {
	case err != nil:
	case f.NArg() > 0:
		err = fmt.Errorf("%q is not a flag", f.Arg(0))
	case o.n < 0 || o.n > 1000:
		err = fmt.Errorf("-n %d: want 0 to 1000", o.n)
	case o.survival < 0 || o.survival > 100:
		err = fmt.Errorf("-survival %d: want 0 to 100", o.survival)
	case o.hogs < 0 || o.hogs > 256:
		err = fmt.Errorf("-hogs %d: want 0 to 256", o.hogs)
	case o.hogs > 0 && (o.siege < time.Second || o.siege > time.Hour):
		err = fmt.Errorf("-for %v: want 1s to 1h", o.siege)
	}
	return o, err
}

// contestants are all systems; those of this repository run the given binary.
func contestants(binary string) []contestant {
	all := []contestant{{"keepalived", func(dir string) pair.System { return pair.NewKeepalived(dir) }}}
	for i, p := range pair.Profiles {
		key := "twinkeep"
		if i > 0 {
			key += "-" + p.Name
		}
		all = append(all, contestant{key, func(dir string) pair.System { return pair.NewTwinkeep(dir, binary, p) }})
	}
	return all
}

func run(ctx context.Context, o options) (err error) {
	if err := machine.Require(machine.Program{Name: "keepalived", Package: "keepalived"},
		machine.Program{Name: "conntrackd", Package: "conntrackd"}, machine.Program{Name: "nft", Package: "nftables"},
		machine.Program{Name: "ip", Package: "iproute2"}, machine.Program{Name: "go", Package: "golang"}); err != nil {
		return err
	}
	if err := topology.Sweep(); err != nil {
		return fmt.Errorf("remove what an earlier run left behind: %w", err)
	}
	dir := o.keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "tkbench"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	// Absolute: daemons are given paths below it.
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	binary := filepath.Join(dir, "twinkeep")
	if err := build(ctx, binary, o.systems); err != nil {
		return err
	}
	r := &Result{Options: o, Machine: machine.Describe(), Started: time.Now(), LoadBefore: machine.Load()}
	for _, c := range contestants(binary) {
		if slices.Contains(o.systems, c.key) {
			r.Systems = append(r.Systems, &SystemResult{contestant: c})
		}
	}
	fail := r.collect(ctx, dir)
	r.Took, r.LoadAfter = time.Since(r.Started), machine.Load()
	text := r.Markdown()
	fmt.Print(text)
	if o.out != "" && ctx.Err() == nil {
		fail = errors.Join(fail, writeSection(o.out, text))
	}
	return errors.Join(fail, r.Verdict())
}

// build makes the product, if it is to be measured.
func build(ctx context.Context, binary string, systems []string) error {
	if !slices.ContainsFunc(systems, func(s string) bool { return strings.HasPrefix(s, "twinkeep") }) {
		return nil
	}
	c := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/twinkeep/twinkeep/firmware/twinkeep")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build twinkeep, from within its repository: %w\n%s", err, out)
	}
	return nil
}
