package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/tools/lab/scenario"
)

// state is lab.json in the lab's folder: what the other commands need to know of a running lab.
type state struct {
	Process  process   `json:"process"`
	Began    time.Time `json:"began"`
	RunDir   string    `json:"run_dir"`
	Machines []machine `json:"machines"`
}

type machine struct {
	Name    string  `json:"name"`
	Role    string  `json:"role"`
	Process process `json:"process"`
	Console string  `json:"console"` // Unix socket
	Agent   string  `json:"agent"`   // Unix socket
	QMP     string  `json:"qmp"`     // Unix socket
	Log     string  `json:"log"`
}

// process names a process for good: numbers are used again, numbers with start times are not.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot, field 22 of /proc/PID/stat
}

func processOf(pid int) process { return process{pid, startTime(pid)} }

// startTime reads when a process started; 0 when there is none.
func startTime(pid int) uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return parseStart(string(b))
}

// parseStart finds field 22 of a stat line (proc_pid_stat(5)); 0 for a zombie, or when it is not there. The second
// field is a name in brackets that may hold anything.
func parseStart(stat string) uint64 {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return 0
	}
	n, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (p process) running() bool { return p.PID > 0 && p.Start != 0 && startTime(p.PID) == p.Start }

// signal signals the process if it is still the same one.
func (p process) signal(sig unix.Signal) error {
	if !p.running() {
		return nil
	}
	if err := unix.Kill(p.PID, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

func statePath(dir string) string { return filepath.Join(dir, "lab.json") }

// save replaces lab.json in one step.
func (s state) save(dir string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	tmp := statePath(dir) + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	if err := os.Rename(tmp, statePath(dir)); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

// errNoLab is returned when nothing runs.
var errNoLab = errors.New("no lab runs here: start one with `lab up` or `lab demo --keep`")

// load reads the state of a running lab.
func load(dir string) (state, error) {
	b, err := os.ReadFile(statePath(dir))
	if errors.Is(err, os.ErrNotExist) {
		return state{}, errNoLab
	}
	if err != nil {
		return state{}, err
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return state{}, fmt.Errorf("%s: %w", statePath(dir), err)
	}
	if !s.Process.running() {
		return s, errNoLab
	}
	return s, nil
}

func (s state) machine(name string) (machine, error) {
	var have []string
	for _, m := range s.Machines {
		if m.Name == name {
			return m, nil
		}
		have = append(have, m.Name)
	}
	return machine{}, fmt.Errorf("no machine %q, there are %s", name, strings.Join(have, ", "))
}

func stateOf(l *scenario.Lab) state {
	s := state{Process: processOf(os.Getpid()), Began: l.Begin, RunDir: l.RunDir}
	for _, h := range l.Topology.Hosts {
		m := l.Machines[h.Name]
		s.Machines = append(s.Machines, machine{
			Name: h.Name, Role: h.Role, Process: processOf(m.PID()),
			Console: m.ConsoleSocket(), Agent: m.AgentSocket(), QMP: m.QMPSocket(), Log: m.Log,
		})
	}
	return s
}
