package supervise

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is one running child as its runner sees it.
type process struct {
	pid     int
	ready   <-chan struct{}   // closed when the child wrote its newline
	exited  <-chan ExitStatus // one value, at once when the child has died
	drained <-chan struct{}   // closed when all its output is in the journal
	signal  func(syscall.Signal)
}

// launcher starts processes; tests have one that needs no kernel.
type launcher interface {
	launch(s *Service, argv []string) (*process, error)
}

// children starts processes on the real system and collects their exit
// statuses. One goroutine, locked to its thread for ever, does all the forks:
// PR_SET_PDEATHSIG fires when the *thread* that forked ends.
type children struct {
	journal *Journal
	pid1    bool
	forks   chan forkRequest

	// mu is held over fork + register and over reap + look-up, so that an
	// exit is never looked up before its child is registered, and a signal
	// never goes to a process ID that has been reaped.
	mu    sync.Mutex
	table map[int]*child
	kick  chan struct{} // a child was started: there is something to wait for
}

type child struct {
	started time.Time
	exited  chan ExitStatus
}

type forkRequest struct {
	argv []string
	attr *syscall.ProcAttr
	done chan<- error
	into *child
	pid  *int
}

func newChildren(j *Journal, pid1 bool) *children {
	c := &children{
		journal: j, pid1: pid1,
		forks: make(chan forkRequest),
		table: make(map[int]*child),
		kick:  make(chan struct{}, 1),
	}
	go c.forkLoop()
	if pid1 {
		go c.reapLoop()
	}
	return c
}

// forkLoop never returns while the supervisor lives: its thread must not end.
func (c *children) forkLoop() {
	runtime.LockOSThread()
	for req := range c.forks {
		c.mu.Lock()
		req.into.started = time.Now()
		pid, err := syscall.ForkExec(req.argv[0], req.argv, req.attr)
		if err == nil {
			*req.pid = pid
			c.table[pid] = req.into
			select {
			case c.kick <- struct{}{}:
			default:
			}
		}
		c.mu.Unlock()
		if err == nil && !c.pid1 {
			// Other parts of this program may have children of their own
			// (tests do), so only what was started here is waited for.
			go c.reapOne(pid)
		}
		req.done <- err
	}
}

// reapLoop owns every wait of PID 1: it collects supervised children and the
// orphans that the kernel hands to PID 1 alike.
func (c *children) reapLoop() {
	sigchld := make(chan os.Signal, 1)
	signal.Notify(sigchld, unix.SIGCHLD)
	for {
		// Blocks until somebody has died, but leaves the zombie: a process ID
		// cannot be used again before the wait under mu.
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		switch err {
		case nil:
			c.reap(-1, unix.WNOHANG)
		case unix.ECHILD:
			select {
			case <-sigchld:
			case <-c.kick:
			}
		}
	}
}

func (c *children) reapOne(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	c.reap(pid, unix.WNOHANG)
}

// reap collects what has died and tells the runners.
func (c *children) reap(which, options int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(which, &ws, options, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		ch, ours := c.table[pid]
		if !ours {
			continue // an orphan
		}
		delete(c.table, pid)
		// What the process left behind in its group goes with it.
		unix.Kill(-pid, unix.SIGKILL)
		st := ExitStatus{Code: ws.ExitStatus(), Ran: time.Since(ch.started)}
		if ws.Signaled() {
			st.Code, st.Signal = -1, signalName(ws.Signal())
		}
		ch.exited <- st
	}
}

// kill sends a signal to the process group of a child that is still ours.
func (c *children) kill(pid int, sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.table[pid]; ok {
		unix.Kill(-pid, sig)
	}
}

// launch implements launcher.
func (c *children) launch(s *Service, argv []string) (*process, error) {
	io, err := openStdio(s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCannotStart, err)
	}
	defer io.closeChildSide()

	attr := &syscall.ProcAttr{
		Dir:   s.Dir,
		Env:   append(os.Environ(), s.Env...),
		Files: io.files,
		Sys:   &syscall.SysProcAttr{},
	}
	if s.TTY != "" {
		attr.Sys.Setsid, attr.Sys.Setctty, attr.Sys.Ctty = true, true, 0
	} else {
		attr.Sys.Setpgid = true
	}
	if !c.pid1 {
		attr.Sys.Pdeathsig = syscall.SIGKILL
	}
	if s.ReadyTimeout > 0 {
		attr.Env = append(attr.Env, ReadyEnv+"=3")
	}
	if s.OnDying != nil {
		attr.Env = append(attr.Env, fmt.Sprintf("%s=%d", LifeEnv, io.lifeFD))
	}

	ch := &child{exited: make(chan ExitStatus, 1)}
	pid, done := 0, make(chan error)
	c.forks <- forkRequest{argv: argv, attr: attr, done: done, into: ch, pid: &pid}
	if err := <-done; err != nil {
		io.closeOurSide()
		return nil, fmt.Errorf("%w %s: %w", errCannotStart, argv[0], err)
	}
	if s.Critical {
		// Best effort: without root the score can only be raised.
		os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("-900"), 0)
	}
	p := &process{pid: pid, exited: ch.exited, signal: func(sig syscall.Signal) { c.kill(pid, sig) }}
	p.ready = io.watchReady()
	io.watchLife(s.OnDying)
	p.drained = io.watchOutput(func(r *os.File) { c.journal.capture(s.Name, r) })
	return p, nil
}
