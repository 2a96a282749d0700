// Package netnstest gives tests network namespaces of their own.
package netnstest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netns"
)

// NS is a network namespace that ends with the test. It has a name, so that ip(8) and nft(8) can be run in it.
type NS struct {
	Name   string
	handle netns.NsHandle
}

var count atomic.Uint32

// New makes a namespace with its loopback up, or skips the test where it may not.
func New(t testing.TB) *NS {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	ns := &NS{Name: fmt.Sprintf("tk%d-%d", os.Getpid(), count.Add(1))}
	run(t, "ip", "netns", "add", ns.Name)
	t.Cleanup(func() { run(t, "ip", "netns", "del", ns.Name) })
	var err error
	if ns.handle, err = netns.GetFromName(ns.Name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.handle.Close() })
	ns.IP(t, "link set lo up")
	return ns
}

// Do runs f on an OS thread that is in the namespace; sockets made by f stay there. The thread is thrown away when it
// cannot be put back: a goroutine that ends locked takes its thread with it.
func (n *NS) Do(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		if err := netns.Set(n.handle); err != nil {
			done <- err
			return
		}
		err = f()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Helper()
		t.Fatal(err)
	}
}

// IP runs ip(8) in the namespace.
func (n *NS) IP(t testing.TB, args string) string {
	t.Helper()
	return run(t, "ip", append([]string{"-n", n.Name}, strings.Fields(args)...)...)
}

// Exec runs a program in the namespace and gives what it printed.
func (n *NS) Exec(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, "ip", append([]string{"netns", "exec", n.Name}, args...)...)
}

// Veth joins two namespaces by a pair of interfaces, both up.
func Veth(t testing.TB, a *NS, nameA string, b *NS, nameB string) {
	t.Helper()
	a.IP(t, fmt.Sprintf("link add %s type veth peer name %s netns %s", nameA, nameB, b.Name))
	a.IP(t, "link set dev "+nameA+" up")
	b.IP(t, "link set dev "+nameB+" up")
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
