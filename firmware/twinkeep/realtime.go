package main

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Priority of had among real-time tasks, as keepalived's recommended one: above everything ordinary, not above
// the kernel's own threads that carry its frames.
const realTimePriority = 50

// realTimeEnv marks the process that realTime has started.
const realTimeEnv = "TWINKEEP_REALTIME"

// realTime gives the whole process SCHED_FIFO and locks its memory. The scheduling class is a thread's, and the Go
// runtime has started threads by now; so the class is set on one thread and the program executed again
// from it: all later threads inherit it, the runtime's own too.
func realTime() error {
	if os.Getenv(realTimeEnv) == "" {
		runtime.LockOSThread()
		attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: realTimePriority}
		if err := unix.SchedSetAttr(0, attr, 0); err != nil {
			runtime.UnlockOSThread()
			return fmt.Errorf("set SCHED_FIFO (needs CAP_SYS_NICE): %w", err)
		}
		self, err := os.Executable()
		if err == nil {
			err = unix.Exec(self, os.Args, append(os.Environ(), realTimeEnv+"=1"))
		}
		return fmt.Errorf("execute again in real time: %w", err)
	}
	os.Unsetenv(realTimeEnv)
	// ONFAULT: pages are locked as they are used, not the whole of a binary of which had uses a part.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("lock memory (needs CAP_IPC_LOCK): %w", err)
	}
	return nil
}
