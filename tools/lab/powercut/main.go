// Command powercut cuts the power of boxes at random moments of their first
// boot, of commits of policies and node files, of an upgrade's installation,
// trial and confirmation, and of a factory reset, and wants every one of them to
// come back with a slot that works and with everything whose writing was
// acknowledged. The disk loses what was in its write cache (package nbd).
//
// A box does all that once and is recorded; a cut is then a disk made of the
// writes up to a moment, and costs one boot. With -live every cut is made on a
// box that runs, also while it recovers from the one before.
//
//	go run ./tools/lab/powercut -n 200 -image build/disk
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/box"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
)

type options struct {
	n, workers, replay       int
	image, cache, keys, work string
	seed                     uint64
	limit                    time.Duration
	end                      time.Time // when limit is over; zero: never
	live                     bool
}

func main() {
	var o options
	flag.IntVar(&o.n, "n", 200, "number of power cuts")
	flag.IntVar(&o.workers, "workers", 2, "boxes at the same time")
	flag.IntVar(&o.replay, "replay", 0, "judge the disks of so many power cuts without booting them")
	flag.StringVar(&o.image, "image", "build/disk", "folder that make image has filled")
	flag.StringVar(&o.cache, "cache", "build/cache", "cache of the image builder")
	flag.StringVar(&o.keys, "keys", "build/keys", "folder of the keys")
	flag.StringVar(&o.work, "work", "", "keep recording, results, disks and consoles in this folder; a run with the same seed and image goes on where the last one was")
	flag.Uint64Var(&o.seed, "seed", 0, "seed of the random numbers; 0: from the clock")
	flag.BoolVar(&o.live, "live", false, "cut boxes that run, one after the other, instead of starting boxes with the disks that cuts in a recording leave")
	flag.DurationVar(&o.limit, "for", 0, "begin no further cut after this time, however many there were")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "powercut:", err)
		os.Exit(1)
	}
}

// tally counts what was done and what came of it.
type tally struct {
	mu       sync.Mutex
	begin    time.Time
	cuts     map[string]int // by phase
	slots    map[string]int // what ran afterwards
	lost     int            // sectors
	sectors  int
	left     int
	failures []string
}

// late tells whether no further cut is to be begun. One that runs comes to its end: on a busy machine much of a slice would be lost otherwise.
func (o options) late() bool { return !o.end.IsZero() && time.Now().After(o.end) }

// take reserves a cut; false when there are enough.
func (t *tally) take() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left == 0 {
		return false
	}
	t.left--
	return true
}

func (t *tally) cut(phase string, sectors, lost int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cuts[phase]++
	t.sectors += sectors
	t.lost += lost
}

func (t *tally) back(worker int, phase, slot, detail string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slots[slot]++
	n := 0
	for _, c := range t.cuts {
		n += c
	}
	fmt.Printf("[%6.0fs] box %d: cut %d during %s (%s): back in slot %s\n", time.Since(t.begin).Seconds(), worker, n, phase, detail, slot)
}

func run(ctx context.Context, o options) error {
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())
	}
	if o.work == "" {
		dir, err := os.MkdirTemp("", "powercut-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.work = dir
	}
	var err error
	if o.work, err = filepath.Abs(o.work); err != nil { // a recording is found again from anywhere
		return err
	}
	if o.limit > 0 {
		o.end = time.Now().Add(o.limit)
	}
	m, err := box.Load(o.image, o.cache, o.keys)
	if err != nil {
		return err
	}
	accel, err := qemu.Choose(qemu.ThisHost())
	if err != nil {
		return err
	}
	fmt.Printf("seed %d, %v\n", o.seed, accel)
	if !o.live {
		scenes, dir, err := record(ctx, o, m, accel)
		if err != nil {
			return fmt.Errorf("record: %w", err)
		}
		if o.replay > 0 {
			return replay(ctx, o, scenes)
		}
		return fork(ctx, o, scenes, dir, accel)
	}
	t := &tally{begin: time.Now(), cuts: make(map[string]int), slots: make(map[string]int), left: o.n}
	var wg sync.WaitGroup
	for i := range o.workers {
		dir := filepath.Join(o.work, fmt.Sprint(i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		w, err := newWorker(i, dir, o.seed, m, accel, t, release)
		if err != nil {
			return err
		}
		wg.Go(func() { w.live(ctx, o) })
	}
	wg.Wait()
	return t.report()
}

func (t *tally) report() error {
	n := 0
	var words []string
	for _, p := range slices.Sorted(maps.Keys(t.cuts)) {
		words = append(words, fmt.Sprintf("%s %d", p, t.cuts[p]))
		n += t.cuts[p]
	}
	fmt.Printf("%d power cuts in %.0f s: %s\n", n, time.Since(t.begin).Seconds(), strings.Join(words, ", "))
	fmt.Printf("write cache: %d sectors at the moments of the cuts, %d of them lost\n", t.sectors, t.lost)
	words = nil
	back := 0
	for _, s := range slices.Sorted(maps.Keys(t.slots)) {
		words = append(words, fmt.Sprintf("%s %d", s, t.slots[s]))
		back += t.slots[s]
	}
	fmt.Printf("came back in slot: %s\n", strings.Join(words, ", "))
	if open := n - back - len(t.failures); open > 0 {
		fmt.Printf("%d more were under way when time ran out; nothing is said of them\n", open)
	}
	if len(t.failures) > 0 {
		return fmt.Errorf("%d did not come back as they should:\n%s", len(t.failures), strings.Join(t.failures, "\n"))
	}
	fmt.Printf("all %d came back with a slot that works and with all acknowledged data\n", back)
	return nil
}
