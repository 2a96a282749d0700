// Package jail leaves a process that parses what strangers send without files, capabilities, and a way to get either.
package jail

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Nobody is user and group of jailed processes. No file is theirs but what is made for them in their root.
const Nobody = 65534

// Limits of a jailed process.
type Limits struct {
	Files   uint64 // open descriptors
	Threads uint64
}

// Attributes start a process in namespaces of its own: without interfaces, and with nobody to signal or share memory with. It dies with
// the thread that started it.
func Attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Setpgid: true, Pdeathsig: syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | ownIPC("/proc/self/ns/ipc"),
	}
}

// ownIPC asks for a namespace of one's own for System V IPC and message queues where the kernel has that: without either
// (our own kernel) there is nothing to keep apart, and asking for it is an error. file is a process's IPC namespace.
func ownIPC(file string) uintptr {
	if _, err := os.Lstat(file); errors.Is(err, os.ErrNotExist) {
		return 0
	}
	return syscall.CLONE_NEWIPC
}

// Enter makes root the calling process's root directory and gives up all privileges, for good.
func Enter(root string, l Limits) error {
	for what, n := range map[int]uint64{unix.RLIMIT_NOFILE: l.Files, unix.RLIMIT_NPROC: l.Threads, unix.RLIMIT_CORE: 0} {
		if err := unix.Setrlimit(what, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			return os.NewSyscallError("setrlimit", err)
		}
	}
	if err := unix.Chroot(root); err != nil {
		return os.NewSyscallError("chroot", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return os.NewSyscallError("chdir", err)
	}
	// The functions of syscall do it for all threads.
	if err := errors.Join(syscall.Setgroups([]int{}), syscall.Setresgid(Nobody, Nobody, Nobody), syscall.Setresuid(Nobody, Nobody, Nobody)); err != nil {
		return fmt.Errorf("give up root: %w", err)
	}
	if syscall.Setuid(0) == nil {
		return errors.New("root was given up, and came back")
	}
	// The kernel forgets the signal of [Attributes] when the user changes (commit_creds in kernel/cred.c). It is the thread's own, and the runtime
	// ends none.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	if os.Getppid() == 1 {
		return errors.New("the process that started this one is gone")
	}
	return nil
}
