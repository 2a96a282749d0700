package stream

import (
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Stall is a time in which a core did not run a real-time thread of the highest priority that was ready. No process of this machine can be the reason: the
// hypervisor had the core, or the kernel itself.
type Stall struct {
	Core int
	At   Time // when the thread was due
	For  time.Duration
}

// StallFrom is the shortest that is kept.
const StallFrom = 4 * time.Millisecond

// watched is the priority of the threads that watch the cores: above every process.
const watched = 99

// watch looks at one core once a millisecond until stop. It must run on a thread of its own.
func watch(core int, stop *atomic.Bool) (stalls []Stall, err error) {
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(core)
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: watched}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("bind a thread to core %d: %w", core, err)
	}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return nil, fmt.Errorf("set SCHED_FIFO %d: %w", watched, err)
	}
	for due := Now(); !stop.Load(); {
		due += Time(time.Millisecond)
		sleepUntil(due)
		now := Now()
		if late := time.Duration(now - due); late >= StallFrom {
			stalls, due = append(stalls, Stall{Core: core, At: due, For: late}), now
		}
	}
	return stalls, nil
}

// Longest are how many stalls lasted for so long, and the longest of all.
func Longest(stalls []Stall, from time.Duration) (n int, most time.Duration) {
	for _, s := range stalls {
		if s.For >= from {
			n++
		}
		most = max(most, s.For)
	}
	return n, most
}

// cores are those that this process may run on.
func cores() (list []int) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return []int{0}
	}
	for i := range 1024 {
		if set.IsSet(i) {
			list = append(list, i)
		}
	}
	return list
}

// watchAll watches every core until stop; collect waits for what was seen.
func watchAll(stop *atomic.Bool) (collect func() ([]Stall, error)) {
	type seen struct {
		stalls []Stall
		err    error
	}
	results, list := make(chan seen), cores()
	for _, core := range list {
		go func() {
			s, err := watch(core, stop)
			results <- seen{s, err}
		}()
	}
	return func() (all []Stall, err error) {
		for range list {
			r := <-results
			all = append(all, r.stalls...)
			if r.err != nil {
				err = r.err
			}
		}
		slices.SortFunc(all, func(a, b Stall) int { return int(a.At - b.At) })
		return all, err
	}
}
