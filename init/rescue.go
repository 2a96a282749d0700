package main

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// rescueShell runs shells on /dev/console for ever. It uses nothing of
// supervise, which may be what is broken.
func rescueShell() {
	for {
		spawnShell()
		time.Sleep(time.Second)
	}
}

func spawnShell() {
	tty, err := os.OpenFile("/dev/console", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return
	}
	defer tty.Close()
	fd := tty.Fd()
	pid, err := syscall.ForkExec("/bin/gosh", []string{"gosh"}, &syscall.ProcAttr{
		Env:   environment,
		Files: []uintptr{fd, fd, fd},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: true},
	})
	if err != nil {
		return
	}
	// ECHILD: the reaper, if it still lives, was faster.
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}
