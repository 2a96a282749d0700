// Command cmd plays random histories of whole clusters until one breaks an invariant, and tells that one as a story.
//
//	go run ./ha/sim/cmd -n 10000
//	go run ./ha/sim/cmd -soak 1h -members 3
//	go run ./ha/sim/cmd -replay ha/sim/testdata/regressions/NAME.json
//	go run ./ha/sim/cmd -digest -n 300
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/pprof"
	"time"

	"github.com/twinkeep/twinkeep/ha/sim"
)

func main() {
	n := flag.Uint64("n", 10000, "how many histories to play")
	soak := flag.Duration("soak", 0, "play for this long instead of a number of histories")
	seed := flag.Uint64("seed", 1, "seed of the first history; the others follow it")
	members := flag.Int("members", 0, "members of every cluster, 2..8; 0: by chance")
	strict := flag.Bool("strict", false, "one-way deafness and frozen clocks count as violations too")
	replay := flag.String("replay", "", "tell one history: a seed, a file, or JSON")
	profile := flag.String("cpuprofile", "", "write a CPU profile of the run to a file")
	digest := flag.Bool("digest", false, "print a digest of each history; a change for speed alone leaves them as they are")
	flag.Parse()
	if *members != 0 && (*members < 2 || *members > 8) {
		fmt.Fprintln(os.Stderr, "-members: use 2..8")
		os.Exit(2)
	}
	if *replay != "" {
		h, err := sim.Load(*replay)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		h.Strict = h.Strict || *strict
		fmt.Print(h.Story())
		if h.Play(nil).Broken != 0 {
			os.Exit(1)
		}
		return
	}
	if *digest {
		for i := range *n {
			h := sim.Generate(*seed+i, *members)
			fmt.Println(*seed+i, h.Digest())
		}
		return
	}
	r := sim.Run{First: *seed, Count: *n, Members: *members, Strict: *strict}
	if *soak > 0 {
		r.Count, r.For = 1<<62, *soak
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		defer pprof.StopCPUProfile()
	}
	last := time.Now()
	r.Progress = func(s sim.Stats) {
		if time.Since(last) > time.Second {
			last = time.Now()
			fmt.Fprintf(os.Stderr, "\r%v", s)
		}
	}
	s, failed := r.Play()
	fmt.Fprintf(os.Stderr, "\r%v\n", s)
	if failed == nil {
		return
	}
	fmt.Printf("seed %d breaks an invariant; as a story:\n\n", failed.Seed)
	short := sim.Shrink(*failed)
	fmt.Print(short.Story())
	os.Exit(1)
}
