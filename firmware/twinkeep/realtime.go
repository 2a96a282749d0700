package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Priority of had among real-time tasks, as keepalived's recommended one: above everything ordinary, not above
// the kernel's own threads that carry its frames.
const realTimePriority = 50

// realTimeEnv marks the process that realTime has started.
const realTimeEnv = "TWINKEEP_REALTIME"

// How long one thread may run in real time without ever waiting. Nothing here takes a tenth of it; a thread that does so
// is caught in a loop, and two of them would take a small box from everybody else: shell, log, packet forwarding. The
// kernel kills the process after spinKill (RLIMIT_RTTIME, getrlimit(2)); the supervisor says its farewell and starts it
// again.
const (
	spinWarn = time.Second
	spinKill = 2 * time.Second
)

// reportSpin prints where the process is when a thread has run for spinWarn.
func reportSpin() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGXCPU)
	<-c
	b := make([]byte, 1<<20)
	fmt.Fprintf(os.Stderr, "a thread has run for %v without a pause; the kernel ends this process after %v\n%s\n", spinWarn, spinKill, b[:runtime.Stack(b, true)])
}

// realTime gives the whole process SCHED_RR and locks its memory (why not SCHED_FIFO: docs/decisions/0007). The scheduling class is a thread's, and the Go
// runtime has started threads by now; so the class is set on one thread and the program executed again
// from it: all later threads inherit it, the runtime's own too.
func realTime() error {
	if os.Getenv(realTimeEnv) == "" {
		runtime.LockOSThread()
		limit := unix.Rlimit{Cur: uint64(spinWarn.Microseconds()), Max: uint64(spinKill.Microseconds())}
		if err := unix.Setrlimit(unix.RLIMIT_RTTIME, &limit); err != nil {
			runtime.UnlockOSThread()
			return fmt.Errorf("bound the time that a real-time thread may run without a pause: %w", err)
		}
		attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: realTimePriority}
		if err := unix.SchedSetAttr(0, attr, 0); err != nil {
			runtime.UnlockOSThread()
			return fmt.Errorf("set SCHED_RR (needs CAP_SYS_NICE): %w", err)
		}
		self, err := os.Executable()
		if err == nil {
			err = unix.Exec(self, os.Args, append(os.Environ(), realTimeEnv+"=1"))
		}
		return fmt.Errorf("execute again in real time: %w", err)
	}
	os.Unsetenv(realTimeEnv)
	go reportSpin()
	// ONFAULT: pages are locked as they are used, not the whole of a binary of which had uses a part.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("lock memory (needs CAP_IPC_LOCK): %w", err)
	}
	return nil
}
