package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Service describes one supervised process.
type Service struct {
	// Name is unique, and what operators and After lists use.
	Name string
	// Argv is the program (absolute path) and its arguments.
	Argv []string
	// Fallback, if not empty, is started instead of Argv when Argv[0] cannot
	// be executed or the service is in a crash loop.
	Fallback []string
	// Env is added to the supervisor's environment.
	Env []string
	// Dir is the working directory; empty is the supervisor's own.
	Dir string
	// After names the services that must have settled before this one starts.
	After []string
	// ReadyTimeout is how long the process may take to report itself ready
	// (see NotifyReady). A process that does not is killed and counts as
	// failed. Zero: it does not report, and is ready once it runs.
	ReadyTimeout time.Duration
	// StopTimeout is how long the process may take to end after SIGTERM
	// before SIGKILL. Zero is DefaultStopTimeout.
	StopTimeout time.Duration
	// Critical services are what the box is for: they are shown as such, and
	// the kernel's out-of-memory killer takes everything else first.
	Critical bool
	// TTY, if set, is a terminal device that becomes stdin, stdout, stderr and
	// the controlling terminal of the process, in a session of its own. Its
	// output is not journalled, and ending normally is not a failure: a
	// console session ends when its user logs out.
	TTY string
	// OnDying, if set, is called when the process begins to die, which can be
	// long before the kernel reports its exit: a process with raw sockets on
	// several NICs waits tens of milliseconds for each of them to be released
	// first. The process must have called HoldLife.
	OnDying func()
	// OnExit, if set, is called at once when the process has died, whatever
	// the reason. The context ends after HookTimeout.
	OnExit func(ctx context.Context, status ExitStatus)
}

// DefaultStopTimeout applies to services that do not set StopTimeout.
const DefaultStopTimeout = 5 * time.Second

// HookTimeout is how long a restart waits for OnExit.
const HookTimeout = time.Second

// stop returns the effective StopTimeout.
func (s *Service) stop() time.Duration {
	if s.StopTimeout > 0 {
		return s.StopTimeout
	}
	return DefaultStopTimeout
}

// ExitStatus says how a process ended.
type ExitStatus struct {
	// Code is the exit code, or -1 when a signal ended the process or it
	// could not be started.
	Code int `json:"code"`
	// Signal is the name of the signal that ended it, e.g. "SIGKILL".
	Signal string `json:"signal,omitempty"`
	// Requested is true when the supervisor had asked it to end.
	Requested bool `json:"requested,omitempty"`
	// Reason says why it was not even started, or why it was ended.
	Reason string `json:"reason,omitempty"`
	// Ran is how long the process lived.
	Ran time.Duration `json:"ran_ns"`
}

// String is one clause for a log line.
func (e ExitStatus) String() string {
	var b strings.Builder
	switch {
	case e.Signal != "":
		fmt.Fprintf(&b, "killed by %s", e.Signal)
	case e.Code < 0:
		b.WriteString("not started")
	default:
		fmt.Fprintf(&b, "exit code %d", e.Code)
	}
	if e.Code >= 0 || e.Signal != "" {
		fmt.Fprintf(&b, " after %v", e.Ran.Round(time.Millisecond))
	}
	if e.Reason != "" {
		fmt.Fprintf(&b, " (%s)", e.Reason)
	}
	return b.String()
}

// errCannotStart separates "the program is not there" from "it ended".
var errCannotStart = errors.New("cannot start")

// order checks services and returns their indices so that every service comes
// after those it names, otherwise in the order given.
func order(services []Service) ([]int, error) {
	index := make(map[string]int, len(services))
	for i, s := range services {
		if s.Name == "" || strings.ContainsAny(s.Name, "/ \t\n") {
			return nil, fmt.Errorf("service %d: name %q must be one word without slashes", i+1, s.Name)
		}
		if _, dup := index[s.Name]; dup {
			return nil, fmt.Errorf("service %s is defined twice: rename one of them", s.Name)
		}
		if len(s.Argv) == 0 || !strings.HasPrefix(s.Argv[0], "/") {
			return nil, fmt.Errorf("service %s: argv must begin with the absolute path of a program, not %q", s.Name, s.Argv)
		}
		index[s.Name] = i
	}
	var sorted []int
	state := make([]int, len(services)) // 0 unseen, 1 on the path, 2 done
	var visit func(i int, path []string) error
	visit = func(i int, path []string) error {
		s := services[i]
		path = append(path, s.Name)
		switch state[i] {
		case 1:
			return fmt.Errorf("services wait for each other: %s", strings.Join(path, " -> "))
		case 2:
			return nil
		}
		state[i] = 1
		for _, name := range s.After {
			j, ok := index[name]
			if !ok {
				return fmt.Errorf("service %s: after names %q, which is no service", s.Name, name)
			}
			if err := visit(j, slices.Clone(path)); err != nil {
				return err
			}
		}
		state[i] = 2
		sorted = append(sorted, i)
		return nil
	}
	for i := range services {
		if err := visit(i, nil); err != nil {
			return nil, err
		}
	}
	return sorted, nil
}

// signalName gives the kernel's name of a signal.
func signalName(s syscall.Signal) string {
	names := map[syscall.Signal]string{
		syscall.SIGHUP: "SIGHUP", syscall.SIGINT: "SIGINT", syscall.SIGQUIT: "SIGQUIT", syscall.SIGILL: "SIGILL",
		syscall.SIGABRT: "SIGABRT", syscall.SIGBUS: "SIGBUS", syscall.SIGFPE: "SIGFPE", syscall.SIGKILL: "SIGKILL",
		syscall.SIGSEGV: "SIGSEGV", syscall.SIGPIPE: "SIGPIPE", syscall.SIGALRM: "SIGALRM", syscall.SIGTERM: "SIGTERM",
		syscall.SIGUSR1: "SIGUSR1", syscall.SIGUSR2: "SIGUSR2", syscall.SIGTRAP: "SIGTRAP", syscall.SIGSYS: "SIGSYS",
	}
	if n, ok := names[s]; ok {
		return n
	}
	return fmt.Sprintf("signal %d", int(s))
}
