// Command sync measures state synchronisation: Twinkeep's statesyncd beside conntrackd (FTFW, external cache disabled), on
// the same machine, in the same run, and the raw limit of the kernel's netlink. It prints Markdown and writes it into
// docs/benchmarks.md.
//
//	sudo go run ./tools/bench/sync
//	sudo go run ./tools/bench/sync -rates 20000,50000 -loads 100000 -systems twinkeep
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
	rates, loads []int
	systems      []string
	hows         []string
	seconds      int
	n            int
	out          string
	dir, binary  string
}

func main() {
	var o options
	rates := flag.String("rates", "10000,20000,30000,50000", "new flows a second, offered")
	loads := flag.String("loads", "100000,500000", "entries that a joining standby has to load")
	systems := flag.String("systems", "conntrackd,twinkeep", "systems, in order")
	hows := flag.String("how", "packets,netlink,churn", "how connections begin: by packets through SNAT, made in the active's kernel by netlink, or so and ended again")
	flag.IntVar(&o.seconds, "for", 4, "seconds of load for each rate")
	flag.IntVar(&o.n, "n", 3, "trials of each row; the median is shown")
	flag.StringVar(&o.out, "out", "docs/benchmarks.md", "file whose section is replaced; empty for none")
	flag.Parse()
	o.rates, o.loads = numbers(*rates), numbers(*loads)
	o.systems, o.hows = strings.Split(*systems, ","), strings.Split(*hows, ",")
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
	r := &results{o: o, began: time.Now(), before: machine.Load()}
	if err := r.ceiling(); err != nil {
		return err
	}
	for _, how := range o.hows {
		for _, rate := range o.rates {
			for _, name := range o.systems {
				for range o.n {
					if err := r.sustained(ctx, how, name, rate); err != nil {
						return err
					}
				}
			}
		}
	}
	for _, load := range o.loads {
		for _, name := range o.systems {
			for range o.n {
				if err := r.join(ctx, name, load); err != nil {
					return err
				}
			}
		}
	}
	text := r.markdown()
	fmt.Print(text)
	if o.out == "" {
		return nil
	}
	return writeSection(o.out, text)
}
