// Command hog locks a machine with one processor up: it takes all of its time at
// the highest real-time priority, so that PID 1 cannot feed the watchdog.
package main

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	runtime.LockOSThread()
	if err := os.WriteFile("/proc/sys/kernel/sched_rt_runtime_us", []byte("-1"), 0); err != nil {
		fmt.Println("hog:", err)
	}
	tty, err := os.OpenFile("/dev/ttyS0", os.O_WRONLY, 0)
	if err != nil {
		tty = os.Stdout
	}
	fmt.Fprintln(tty, "hog: the machine stands still")
	param := struct{ priority int32 }{99}
	_, _, errno := unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, uintptr(unsafe.Pointer(&param)))
	if errno != 0 {
		fmt.Fprintln(tty, "hog:", errno)
	}
	for {
	}
}
