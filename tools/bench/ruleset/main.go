// Command ruleset measures how long a policy takes to become rules in the kernel, beside nft -f of the same as rules and as
// maps, and what forwarding costs beside rules written by hand, in network namespaces. It prints Markdown.
package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/tools/bench/machine"
)

func main() {
	sizes := flag.String("sizes", "1000,10000,50000", "numbers of entries")
	runs := flag.Int("n", 5, "runs of each load")
	seconds := flag.Duration("for", 3*time.Second, "length of each forwarding run")
	skip := flag.String("skip", "", "load or forward: leave that part out")
	flag.Parse()
	if err := run(*sizes, *runs, *seconds, *skip); err != nil {
		fmt.Fprintln(os.Stderr, "bench-ruleset:", err)
		os.Exit(1)
	}
}

func run(sizes string, runs int, seconds time.Duration, skip string) error {
	if err := machine.Require(machine.Program{Name: "ip", Package: "iproute2"}, machine.Program{Name: "nft", Package: "nftables"}); err != nil {
		return err
	}
	fmt.Println("## Rules into the kernel, and through them")
	fmt.Println()
	for _, line := range machine.Describe() {
		fmt.Println("- " + line)
	}
	fmt.Printf("- %s; load average %s\n\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"), loadAverage())
	if skip != "load" {
		fmt.Println("### Loading, ms: median / p95 / max (min)")
		fmt.Println()
		fmt.Println("| entries | what | n | Twinkeep: apply, cold | apply again, unchanged | apply, one entry changed | nft -f, as a map | nft -f, as rules | nft -f of Twinkeep's text | compile | parse and check the YAML |")
		fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|")
		for _, text := range strings.Split(sizes, ",") {
			n, err := strconv.Atoi(text)
			if err != nil {
				return fmt.Errorf("-sizes %s: %w", sizes, err)
			}
			for _, k := range kinds {
				if err := load(k, n, runs); err != nil {
					return fmt.Errorf("%s, %d: %w", k.name, n, err)
				}
			}
		}
		fmt.Println()
	}
	if skip == "forward" {
		return nil
	}
	return forward(seconds)
}

func loadAverage() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(data))[:3], " ")
}
