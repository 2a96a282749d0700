package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/board"
	"github.com/twinkeep/twinkeep/hal/watchdog"
	"github.com/twinkeep/twinkeep/init/loader"
	"github.com/twinkeep/twinkeep/init/module"
	"github.com/twinkeep/twinkeep/init/mount"
	"github.com/twinkeep/twinkeep/init/supervise"
	"github.com/twinkeep/twinkeep/init/sysctl"
)

// environment is what services and shells get.
var environment = []string{
	"PATH=/bin:/bbin:/sbin",
	"HOME=/root",
	"TERM=vt102",
}

// runDir is the --run directory of a member on the box.
const runDir = "/run/twinkeep"

// machine is PID 1's state.
type machine struct {
	journal *supervise.Journal
	cmdline string
	board   *board.Board
	loader  *module.Loader
	// watchdog is opened late, by another goroutine than the one that feeds it.
	watchdog atomic.Pointer[watchdog.Watchdog]
	down     *shutdown
	loaded   loader.Info // what the boot loader says
	tree     tree        // health, in health.go
	starved  bool        // the watchdog is not fed any more; the supervisor's loop has it
	// endBootlog ends the journal on the disk; nil without one.
	endBootlog func()
}

// boot does what has to be done before services start. It returns whatever
// fails.
func (m *machine) boot() {
	for _, kv := range environment {
		k, v, _ := strings.Cut(kv, "=")
		os.Setenv(k, v)
	}
	// Descriptors of the sockets in had and gatewayd count; memory locking too.
	for _, l := range []int{unix.RLIMIT_NOFILE, unix.RLIMIT_CORE} {
		lim := map[int]uint64{unix.RLIMIT_NOFILE: 65536, unix.RLIMIT_CORE: 0}[l]
		unix.Setrlimit(l, &unix.Rlimit{Cur: lim, Max: lim})
	}
	m.step("mounts", m.mounts)
	m.step("board", m.selectBoard)
	m.step("modules", m.modules)
	if m.onDisk() {
		m.fromDisk()
		m.step("board", m.selectBoard) // the node file is there now, and may name another
	}
	m.step("hostname", m.hostname)
	m.step("loopback", loopbackUp)
	m.step("kernel parameters", m.parameters)
	m.step("NICs", m.nics)
}

// step runs one step of the boot; neither an error nor a panic in it stops the
// boot.
func (m *machine) step(name string, fn func() error) {
	defer func() {
		if v := recover(); v != nil {
			m.complain("%s: panic: %v\n%s", name, v, debug.Stack())
		}
	}()
	if err := fn(); err != nil {
		m.complain("%s: %v", name, err)
	}
}

// note puts a line into the journal.
func (m *machine) note(format string, args ...any) { m.journal.Appendf("init", format, args...) }

// complain puts a line into the journal and on the console: before the
// services run, there is nobody to read the journal.
func (m *machine) complain(format string, args ...any) {
	m.note(format, args...)
	fmt.Printf("init: "+format+"\n", args...)
}

func (m *machine) mounts() error {
	for _, f := range mount.All(mount.Kernel{}, mount.Table) {
		m.complain("%v", f)
	}
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	m.cmdline = strings.TrimSpace(string(b))
	return os.MkdirAll(runDir, 0o755)
}

func (m *machine) modules() error {
	l, err := module.Open(module.IndexPath, module.Finit)
	if err != nil {
		return err
	}
	// Drivers first: NICs negotiate their links while the rest is loaded.
	errs := append(l.Hardware("/sys", module.Hardware), l.Boot()...)
	for _, err := range errs {
		m.complain("%v", err)
	}
	m.loader = l
	if m.board != nil {
		for _, name := range m.board.Modules {
			if _, err := os.Stat("/sys/module/" + module.Normal(name)); err == nil {
				continue // there already, or built in
			}
			if err := l.Load(name); err != nil {
				m.note("board %s: %v", m.board.Name, err)
			}
		}
	}
	loaded := l.Loaded()
	m.note("modules: %s", strings.Join(loaded, " "))
	milestone("%d modules loaded", len(loaded))
	return nil
}

func (m *machine) hostname() error {
	name := "twinkeep"
	if b, err := os.ReadFile("/etc/hostname"); err == nil && strings.TrimSpace(string(b)) != "" {
		name = strings.TrimSpace(string(b))
	}
	return unix.Sethostname([]byte(name))
}

func (m *machine) parameters() error {
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return err
	}
	memory := uint64(si.Totalram) * uint64(si.Unit)
	for _, table := range [][]sysctl.Param{sysctl.Machine, sysctl.Network, sysctl.Conntrack(memory)} {
		for _, f := range sysctl.Apply(sysctl.Root, table) {
			m.complain("%v", f)
		}
	}
	return nil
}

// loopbackUp sets IFF_UP on lo; the kernel gives it its addresses.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// modprobe loads what the kernel asks for: modprobe -q -- NAME.
func modprobe(args []string) int {
	l, err := module.Open(module.IndexPath, module.Finit)
	if err != nil {
		fmt.Fprintln(os.Stderr, "modprobe:", err)
		return 1
	}
	status := 0
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			continue
		}
		if err := l.Load(a); err != nil {
			// The kernel asks for many names on the off chance (net-pf-16-…).
			status = 1
			if !strings.HasPrefix(args[0], "-q") {
				fmt.Fprintln(os.Stderr, "modprobe:", err)
			}
		}
	}
	return status
}
