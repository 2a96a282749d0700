// Command init is PID 1 of the gateway. It mounts the kernel's file systems,
// loads modules, sets kernel parameters, names the NICs, starts the services
// and keeps them running, reaps orphans, and brings the machine down.
//
// It never ends: a PID 1 that ends is a kernel panic. Every step may fail and
// the next is taken all the same, so that there is always a console; a panic
// leads to a rescue shell.
//
// Started as modprobe (the kernel does that when it wants a module), it loads
// the module and ends.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/twinkeep/twinkeep/init/supervise"
)

func main() {
	if filepath.Base(os.Args[0]) == "modprobe" {
		os.Exit(modprobe(os.Args[1:]))
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: runs only as PID 1; to supervise a member as ordinary processes use: twinkeep run")
		os.Exit(2)
	}
	defer rescue()
	milestone("PID 1")
	m := &machine{journal: supervise.NewJournal(0, 0), down: newShutdown()}
	m.boot()
	m.run()
}

// milestone prints a line with the time since boot, for people and for benches
// that parse the console. At PID 1's start the kernel has opened /dev/console
// as standard output.
func milestone(format string, args ...any) {
	fmt.Printf("init: %s at %.2fs\n", fmt.Sprintf(format, args...), supervise.Uptime().Seconds())
}

// rescue is deferred around everything PID 1 does. It gives a shell on the
// console, again and again, whatever has happened.
func rescue() {
	if v := recover(); v != nil {
		fmt.Printf("init: PID 1 panicked: %v\n%s\n", v, debug.Stack())
	}
	fmt.Println("init: nothing is supervised any more; rescue shell on the console, reboot with: echo b > /proc/sysrq-trigger")
	os.WriteFile("/proc/sys/kernel/sysrq", []byte("1\n"), 0)
	rescueShell()
}
