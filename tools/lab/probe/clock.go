package probe

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// now reads CLOCK_MONOTONIC in nanoseconds.
func now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // the kernel has had this clock since 2.6; there is no way to go on without it
	}
	return ts.Nano()
}

// sleepUntil sleeps until an absolute time of CLOCK_MONOTONIC. The Go runtime would wake up late: its poller
// counts in milliseconds.
func sleepUntil(t int64) {
	ts := unix.NsecToTimespec(t)
	for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil) == unix.EINTR {
		continue // a signal; the deadline is absolute, so nothing is lost
	}
}

// Priority says how a probe's threads are scheduled.
type Priority struct {
	// LockThread gives the loop a thread of its own. Implied by FIFO.
	LockThread bool `json:"lock_thread,omitempty"`
	// FIFO is the SCHED_FIFO priority, 1 to 99; 0 leaves the scheduler alone. Needs CAP_SYS_NICE.
	FIFO int `json:"fifo,omitempty"`
}

func (p Priority) validate() error {
	if p.FIFO < 0 || p.FIFO > 99 {
		return fmt.Errorf("SCHED_FIFO priority %d: want 0 (off) to 99", p.FIFO)
	}
	return nil
}

// enter applies the priority to the calling goroutine. The thread is never unlocked: the runtime ends it with
// the goroutine, so no other goroutine inherits a real-time thread.
func (p Priority) enter() error {
	if !p.LockThread && p.FIFO == 0 {
		return nil
	}
	runtime.LockOSThread()
	if p.FIFO == 0 {
		return nil
	}
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: uint32(p.FIFO)}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return fmt.Errorf("set SCHED_FIFO %d, run as root or with CAP_SYS_NICE: %w", p.FIFO, err)
	}
	return nil
}

// Bounds of every probe.
const (
	minInterval = 100 * time.Microsecond
	maxProbes   = 1_000_000 // 16 bytes each
	maxGaps     = 256       // listed in a report, the first ones
	maxSources  = 64
)

// probes returns how many probes of an interval fit in a duration, or what is wrong with the two.
func probes(interval, duration time.Duration) (int, error) {
	if interval < minInterval {
		return 0, fmt.Errorf("interval %v: want at least %v", interval, minInterval)
	}
	if duration < interval {
		return 0, fmt.Errorf("duration %v is shorter than the interval %v", duration, interval)
	}
	n := int64(duration / interval)
	if n > maxProbes {
		return 0, fmt.Errorf("%v at one every %v are %d probes: at most %d, use a longer interval or a shorter duration",
			duration, interval, n, maxProbes)
	}
	return int(n), nil
}
