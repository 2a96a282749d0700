// Package netnslab gives tests network namespaces of their own, on the real kernel.
package netnslab

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

var count atomic.Int32

// NS is a network namespace that lives as long as its test.
type NS struct {
	Name string
	t    testing.TB
}

// New makes a namespace, or skips the test where the user may not.
func New(t testing.TB) *NS {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	ns := &NS{Name: fmt.Sprintf("tk%d-%d", os.Getpid(), count.Add(1)), t: t}
	Run(t, "ip", "netns", "add", ns.Name)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", ns.Name).Run() })
	ns.Run("ip", "link", "set", "lo", "up")
	return ns
}

// Run runs a command in the namespace and fails the test when it fails.
func (n *NS) Run(args ...string) string {
	n.t.Helper()
	return Run(n.t, append([]string{"ip", "netns", "exec", n.Name}, args...)...)
}

// Run runs a command and fails the test when it fails.
func Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Do runs f on a thread inside the namespace. Sockets that f opens stay there.
func (n *NS) Do(f func()) {
	n.t.Helper()
	done := make(chan error, 1)
	go func() {
		// The thread is thrown away with the goroutine, so nothing has to be restored.
		runtime.LockOSThread()
		var err error
		defer func() { done <- err }() // also when f fails the test
		h, err := os.Open("/run/netns/" + n.Name)
		if err != nil {
			return
		}
		defer h.Close()
		if err = unix.Setns(int(h.Fd()), unix.CLONE_NEWNET); err == nil {
			f()
		}
	}()
	if err := <-done; err != nil {
		n.t.Fatalf("enter namespace %s: %v", n.Name, err)
	}
}

// Try is [NS.Do] for an f that can fail; the test then fails with it.
func (n *NS) Try(f func() error) {
	n.t.Helper()
	var err error
	n.Do(func() { err = f() })
	if err != nil {
		n.t.Fatal(err)
	}
}

// IP runs ip(8) in the namespace, with its arguments in one string.
func (n *NS) IP(args string) string {
	n.t.Helper()
	return n.Run(append([]string{"ip"}, strings.Fields(args)...)...)
}

// Veth joins two namespaces by a pair of interfaces, both up.
func Veth(a *NS, nameA string, b *NS, nameB string) {
	a.t.Helper()
	a.IP(fmt.Sprintf("link add %s type veth peer name %s netns %s", nameA, nameB, b.Name))
	a.IP("link set dev " + nameA + " up")
	b.IP("link set dev " + nameB + " up")
}
