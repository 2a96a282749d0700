package supervise

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ReadyEnv names the environment variable that holds the number of the file
// descriptor on which a service reports itself ready.
const ReadyEnv = "TWINKEEP_READY_FD"

// LifeEnv names the environment variable that holds the number of the life
// pipe's descriptor, see HoldLife.
const LifeEnv = "TWINKEEP_LIFE_FD"

// lifeFD is where HoldLife puts the descriptor: above any other.
const lifeFD = 900

// HoldLife makes the end of this process known to its supervisor as early as
// the kernel can (Service.OnDying). A dying process's files are released last
// opened descriptor first, and the release of each packet socket waits for a
// grace period of the network stack; so the pipe moves to a descriptor above
// them all. Without a supervisor it does nothing.
func HoldLife() error {
	v := os.Getenv(LifeEnv)
	if v == "" {
		return nil
	}
	os.Unsetenv(LifeEnv)
	fd, err := strconv.Atoi(v)
	if err != nil || fd < 3 {
		return fmt.Errorf("hold the life pipe: %s=%q is not a file descriptor above 2", LifeEnv, v)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, lifeFD); err != nil {
		return fmt.Errorf("hold the life pipe: %w", err)
	}
	return unix.Close(fd)
}

// NotifyReady is called by a service when it does its work. It writes one
// newline to the descriptor in ReadyEnv, closes it and clears the variable, so
// that a child of the service cannot report for it. Without a supervisor it
// does nothing.
func NotifyReady() error {
	v := os.Getenv(ReadyEnv)
	if v == "" {
		return nil
	}
	os.Unsetenv(ReadyEnv)
	fd, err := strconv.Atoi(v)
	if err != nil || fd < 3 {
		return fmt.Errorf("report ready: %s=%q is not a file descriptor above 2", ReadyEnv, v)
	}
	f := os.NewFile(uintptr(fd), ReadyEnv)
	defer f.Close()
	if _, err := f.Write([]byte{'\n'}); err != nil {
		return fmt.Errorf("report ready to the supervisor: %w", err)
	}
	return nil
}
