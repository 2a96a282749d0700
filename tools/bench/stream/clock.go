package stream

import (
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Time is a reading of CLOCK_MONOTONIC in nanoseconds. Zero means never.
type Time int64

// Now reads the clock.
func Now() Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // the kernel has had this clock since 2.6; there is no way to go on without it
	}
	return Time(ts.Nano())
}

// sleepUntil does not use the runtime's timers: its poller counts in milliseconds.
func sleepUntil(t Time) {
	ts := unix.NsecToTimespec(int64(t))
	for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil) == unix.EINTR {
		continue // a signal; the deadline is absolute, so nothing is lost
	}
}

// stampLen is the room for the kernel's time stamp of a datagram, a control message.
var stampLen = unix.CmsgSpace(int(unsafe.Sizeof(unix.Timespec{})))

// arrival is when the kernel received a datagram. The thread that reads it may have waited for a processor since:
// conntrackd runs above every other task, for example. That is trouble of the bench, not of the gateways.
func arrival(stamp []byte) Time {
	if len(stamp) < stampLen {
		return Now()
	}
	// The stamp is of CLOCK_REALTIME; what counts is its age.
	ts := (*unix.Timespec)(unsafe.Pointer(&stamp[unix.CmsgLen(0)]))
	var wall unix.Timespec
	for {
		before := Now()
		err := unix.ClockGettime(unix.CLOCK_REALTIME, &wall)
		now := Now()
		if err == nil && now-before > Time(10*time.Microsecond) {
			continue // interrupted between the two clocks
		}
		age := wall.Nano() - ts.Nano()
		if err != nil || age < 0 || age > int64(maxAge) { // the clock was set meanwhile
			return now
		}
		return before - Time(age)
	}
}

// maxAge is longer than a thread can be kept waiting, and shorter than a step of a clock.
const maxAge = 5 * time.Second

// priority of the threads of a stream: above the gateways' daemons that ask for 50, so that the measure does not
// wait for the measured.
const priority = 60

// realTime moves the calling goroutine to a real-time thread of its own, which ends with it.
func realTime() error {
	runtime.LockOSThread()
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return fmt.Errorf("set SCHED_FIFO %d, run as root or with CAP_SYS_NICE: %w", priority, err)
	}
	return nil
}
