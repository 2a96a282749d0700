package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace known to ip(8) by its name.
type namespace string

var made int

func newNamespace(role string) (namespace, error) {
	made++
	n := namespace(fmt.Sprintf("tkr%d-%d%s", os.Getpid(), made, role))
	return n, command("ip", "netns", "add", string(n))
}

func (n namespace) remove() { exec.Command("ip", "netns", "del", string(n)).Run() }

func command(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (n namespace) run(args ...string) error {
	return command(append([]string{"ip", "netns", "exec", string(n)}, args...)...)
}

func (n namespace) ip(args string) error {
	return command(append([]string{"ip", "-n", string(n)}, strings.Fields(args)...)...)
}

// do runs f on a thread inside the namespace.
func (n namespace) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread is thrown away with the goroutine, so nothing has to be restored
		done <- func() error {
			h, err := os.Open("/run/netns/" + string(n))
			if err != nil {
				return err
			}
			defer h.Close()
			if err := unix.Setns(int(h.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			return f()
		}()
	}()
	return <-done
}
