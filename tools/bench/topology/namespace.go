package topology

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// prefix of the names of all namespaces of this bench, followed by the process ID of the program that made them.
const prefix = "tkb"

// netnsDir is where ip(8) keeps its namespaces.
const netnsDir = "/run/netns"

// Namespace is a network namespace known to ip(8) by its name.
type Namespace string

func create(role string) (Namespace, error) {
	ns := Namespace(fmt.Sprintf("%s%d-%s", prefix, os.Getpid(), role))
	if err := command("", "ip", "netns", "add", string(ns)); err != nil {
		return "", err
	}
	return ns, ns.Batch("link set lo up")
}

// Do runs f on a thread inside the namespace. Sockets that f opens stay there.
func (n Namespace) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread is thrown away with the goroutine, so nothing has to be restored.
		runtime.LockOSThread()
		done <- func() (err error) {
			defer func() {
				if r := recover(); r != nil { // the caller cleans up; a panic on this thread would not let it
					err = fmt.Errorf("panic in namespace %s: %v", n, r)
				}
			}()
			h, err := os.Open(filepath.Join(netnsDir, string(n)))
			if err != nil {
				return fmt.Errorf("open namespace: %w", err)
			}
			defer h.Close()
			if err := unix.Setns(int(h.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter namespace %s: %w", n, err)
			}
			return f()
		}()
	}()
	return <-done
}

// Batch runs lines of ip(8) in the namespace.
func (n Namespace) Batch(lines ...string) error {
	return command(strings.Join(lines, "\n")+"\n", "ip", "-netns", string(n), "-batch", "-")
}

// Set writes sysctls of the namespace, as name=value with slashes, e.g. net/ipv4/ip_forward=1.
func (n Namespace) Set(values ...string) error {
	return n.Do(func() error {
		for _, v := range values {
			name, value, _ := strings.Cut(v, "=")
			if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0); err != nil {
				return fmt.Errorf("set %s to %s: %w", name, value, err)
			}
		}
		return nil
	})
}

// Command is a command that will run in the namespace.
func (n Namespace) Command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", string(n)}, args...)...)
	// Ctrl-C reaches the whole process group of the terminal; daemons are ended by Close, in its own order.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return c
}

// Run runs a command in the namespace to its end.
func (n Namespace) Run(stdin string, args ...string) error {
	return command(stdin, "ip", append([]string{"netns", "exec", string(n)}, args...)...)
}

// Processes are the IDs of the processes in the namespace, in ascending order, so mostly parents first.
func (n Namespace) Processes() ([]int, error) {
	want, err := os.Stat(filepath.Join(netnsDir, string(n)))
	if err != nil {
		return nil, fmt.Errorf("look for processes in a namespace: %w", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("look for processes in a namespace: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// A process that ended meanwhile, or a zombie, has no namespace any more.
		if got, err := os.Stat(filepath.Join("/proc", e.Name(), "ns/net")); err == nil && os.SameFile(want, got) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// killTimeout bounds the wait for killed processes to be gone.
const killTimeout = 5 * time.Second

// KillAll ends every process in the namespace with SIGKILL and waits until none is left.
func (n Namespace) KillAll() error {
	for deadline := time.Now().Add(killTimeout); ; time.Sleep(5 * time.Millisecond) {
		pids, err := n.Processes()
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v in namespace %s do not end; look at them with: ps -fp %v", pids, n, pids[0])
		}
		kill(pids)
	}
}

// kill sends SIGKILL to processes in the given order.
func kill(pids []int) {
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGKILL) // gone already
	}
}

// remove ends what runs in the namespace and deletes it.
func (n Namespace) remove() error {
	if _, err := os.Stat(filepath.Join(netnsDir, string(n))); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.Join(n.KillAll(), command("", "ip", "netns", "del", string(n)))
}

// Sweep removes the namespaces of runs that ended without doing so themselves, after SIGKILL for example.
func Sweep() error {
	paths, err := filepath.Glob(filepath.Join(netnsDir, prefix+"*-*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range paths {
		name := filepath.Base(p)
		owner, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "-")
		pid, err := strconv.Atoi(owner)
		if err != nil || unix.Kill(pid, 0) != unix.ESRCH {
			continue // not ours, or its owner is still at work
		}
		errs = append(errs, Namespace(name).remove())
	}
	return errors.Join(errs...)
}

// command runs a program to its end; the error tells what it printed.
func command(stdin, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C must not interrupt the cleaning
	c.Stdin = strings.NewReader(stdin)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
