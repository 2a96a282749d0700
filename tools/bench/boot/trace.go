package main

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Moments of a boot, in their order.
const (
	atKernel  = "kernel entry"
	atPID1    = "PID 1"
	atModules = "modules loaded"
	atData    = "data partition mounted" // only from a disk
	atNICs    = "NICs named"
	atStandby = "STANDBY"
	atActive  = "ACTIVE"
	atForward = "first packet forwarded"
)

// stageKernel in processor time includes the firmware: at the kernel's entry
// nobody looks.
const stageKernel = "kernel"

// moments and the stage that ends with each.
var moments = []struct{ name, stage string }{
	{atKernel, "firmware and boot loader"},
	{atPID1, stageKernel},
	{atModules, "PID 1: mounts, board, modules"},
	{atData, "PID 1: disk, data partition"},
	{atNICs, "PID 1: parameters, NICs"},
	{atStandby, "services, until had has listened for peers and is STANDBY"},
	{atActive, "nobody there: ACTIVE"},
	{atForward, "VIPs and rules, until a packet comes through"},
}

// trace collects the moments of one boot, as times since QEMU was started. What
// the guest says carries its own time since the kernel's entry; the two clocks
// are tied together where PID 1 begins, whose line is seen at once.
type trace struct {
	at map[string]time.Duration
	// cpu is the processor time that QEMU had used by then, as far as it is known.
	// Other work on the machine does not change it.
	cpu   map[string]time.Duration
	entry time.Duration // of the kernel, since QEMU was started
}

func newTrace() *trace {
	return &trace{at: make(map[string]time.Duration), cpu: make(map[string]time.Duration)}
}

// The console's prompt can stand before a line.
var (
	milestone = regexp.MustCompile(`(?:^|> )init: (PID 1|[0-9]+ modules loaded|data partition|NICs)\b.* at ([0-9]+\.[0-9]+)s$`)
	journal   = regexp.MustCompile(`(?:^|> )\[ *([0-9]+\.[0-9]+)\] had: .* -> (STANDBY|ACTIVE)!?: `)
)

// line takes a line of the console that was seen at a time since QEMU was
// started, when QEMU had used that much processor time. It returns false for a
// second PID 1: the machine has restarted.
func (t *trace) line(text string, seen, cpu time.Duration) bool {
	text = strings.TrimRight(text, "\r\n")
	name, stamp := "", ""
	if m := milestone.FindStringSubmatch(text); m != nil {
		stamp = m[2]
		switch {
		case m[1] == "PID 1":
			name = atPID1
		case m[1] == "NICs":
			name = atNICs
		case m[1] == "data partition":
			name = atData
		default:
			name = atModules
		}
	} else if m := journal.FindStringSubmatch(text); m != nil {
		name, stamp = m[2], m[1]
	} else {
		return true
	}
	if _, again := t.at[name]; again {
		return name != atPID1
	}
	s, err := strconv.ParseFloat(stamp, 64)
	if err != nil || s > 1e5 {
		return true
	}
	uptime := time.Duration(s * float64(time.Second))
	if name == atPID1 {
		t.entry = seen - uptime
		t.at[atKernel] = t.entry
	}
	t.at[name], t.cpu[name] = t.entry+uptime, cpu
	return true
}

// missing names the first moment that has not come.
func (t *trace) missing(disk bool) string {
	for _, m := range moments {
		if _, ok := t.at[m.name]; !ok && (disk || m.name != atData) {
			return m.name
		}
	}
	return ""
}

// stages are the times between the moments of a map that are in it, by the
// stage that they end. Where a moment is unknown, its stage is part of the next.
// A packet can come through before the line that says ACTIVE is read: that is 0.
func stages(at map[string]time.Duration) map[string]time.Duration {
	out := make(map[string]time.Duration)
	last := time.Duration(0)
	for _, m := range moments {
		if t, ok := at[m.name]; ok {
			out[m.stage] = max(0, t-last)
			last = t
		}
	}
	return out
}
