package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHadRunsInRealTime: every thread is in the real-time class, memory is locked, and a loop without an end ends the
// process, not the box.
func TestHadRunsInRealTime(t *testing.T) {
	p := started(t)
	pid := p.A.Had()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) < 2 {
		t.Fatalf("threads %v: %v", tasks, err)
	}
	for _, task := range tasks {
		var tid int
		fmt.Sscan(filepath.Base(task), &tid)
		a, err := unix.SchedGetAttr(tid, 0)
		if err != nil {
			continue // it has ended
		}
		if a.Policy != unix.SCHED_RR || a.Priority != realTimePriority {
			t.Errorf("thread %d: policy %d, priority %d", tid, a.Policy, a.Priority)
		}
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_RTTIME, nil, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur != uint64(spinWarn.Microseconds()) || limit.Max != uint64(spinKill.Microseconds()) {
		t.Errorf("a thread may run for %d µs, is killed at %d µs", limit.Cur, limit.Max)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	if _, locked, ok := strings.Cut(string(status), "VmLck:"); !ok || strings.HasPrefix(strings.TrimSpace(locked), "0 ") {
		t.Error("no memory is locked")
	}
}
