// Package machine says what a bench ran on, and whether it can run at all.
package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Program is one that a bench starts, and the Debian package that has it.
type Program struct{ Name, Package string }

// Require reports all that is missing at once: root, and programs.
func Require(programs ...Program) error {
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("must run as root, to make network namespaces and real-time threads: sudo env \"PATH=$PATH\" make bench-failover"))
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p.Name); err != nil {
			errs = append(errs, fmt.Errorf("%s is not installed: apt-get install %s", p.Name, p.Package))
		}
	}
	return errors.Join(errs...)
}

// Turn waits as long as the file named by $BENCH_PAUSE exists: between two trials others can have the machine.
func Turn(ctx context.Context) error {
	for path := os.Getenv("BENCH_PAUSE"); path != ""; {
		if _, err := os.Stat(path); err != nil {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return ctx.Err()
}

// Describe is a list of what matters for a time measured here, a line each.
func Describe() []string {
	var u unix.Utsname
	kernel := "unknown"
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:]) + ", " + unix.ByteSliceToString(u.Version[:])
	}
	info, _ := os.ReadFile("/proc/cpuinfo") // without it the CPU is unknown
	return []string{
		fmt.Sprintf("CPU %s, %d cores, %s", CPUModel(string(info)), runtime.NumCPU(), runtime.GOARCH),
		"Linux " + kernel,
		strings.Join([]string{
			version("keepalived", "--version"), version("conntrackd", "-v"), version("nft", "--version"), runtime.Version()}, "; "),
		"Twinkeep " + version("git", "describe", "--always", "--dirty"),
	}
}

// version is the first line that a program prints when asked for it.
func version(name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil && line == "" {
		return name + " of unknown version"
	}
	line, _, _ = strings.Cut(line, " Licensed")
	return strings.TrimRight(line, ".")
}

// CPUModel finds the model in the text of /proc/cpuinfo.
func CPUModel(cpuinfo string) string {
	for s := bufio.NewScanner(strings.NewReader(cpuinfo)); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "of unknown model"
}

// Load is the text of the load averages.
func Load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}

// CPUTime is time since boot, summed over all cores, in ticks.
type CPUTime struct{ Total, Idle uint64 }

// ReadCPUTime reads /proc/stat.
func ReadCPUTime() (CPUTime, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return CPUTime{}, err
	}
	return parseCPUTime(string(b))
}

func parseCPUTime(stat string) (t CPUTime, err error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[0] != "cpu" {
		return t, fmt.Errorf("/proc/stat begins with %q, want the sum of all cores", line)
	}
	// user nice system idle iowait irq softirq steal; guest time, behind them, is in user already (proc(5)).
	for i, f := range fields[1:min(9, len(fields))] {
		v, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return t, fmt.Errorf("/proc/stat: %w", err)
		}
		t.Total += v
		if i == 3 || i == 4 {
			t.Idle += v
		}
	}
	return t, nil
}

// Busy is the part of all cores, in percent, that was not idle since an earlier reading.
func (t CPUTime) Busy(since CPUTime) float64 {
	total := t.Total - since.Total
	if total == 0 {
		return 0
	}
	return 100 * (1 - float64(t.Idle-since.Idle)/float64(total))
}
