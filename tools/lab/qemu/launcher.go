package qemu

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// Launcher starts processes that die with this one. PR_SET_PDEATHSIG fires when the *thread* that forked ends,
// so every start happens on one thread that is locked for as long as the launcher lives; the Go runtime would
// end an ordinary thread at any moment and take the machines with it.
type Launcher struct {
	start chan launch
	quit  chan struct{}
	once  sync.Once

	mu   sync.Mutex
	cmds []*exec.Cmd
}

type launch struct {
	cmd *exec.Cmd
	err chan error
}

// ErrClosed is returned by a launcher that was closed.
var ErrClosed = errors.New("launcher is closed")

// NewLauncher starts the thread.
func NewLauncher() *Launcher {
	l := &Launcher{start: make(chan launch), quit: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		for {
			select {
			case <-l.quit:
				return
			case s := <-l.start:
				s.err <- s.cmd.Start()
			}
		}
	}()
	return l
}

// Start starts a process that gets SIGKILL when the launcher closes or this process ends, also by SIGKILL.
func (l *Launcher) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true // Ctrl-C at the terminal is for the lab, which ends its machines in order
	s := launch{cmd, make(chan error, 1)}
	select {
	case l.start <- s:
		err := <-s.err
		if err == nil {
			l.mu.Lock()
			l.cmds = append(l.cmds, cmd)
			l.mu.Unlock()
		}
		return err
	case <-l.quit:
		return ErrClosed
	}
}

// Close ends every process that is still there. It kills them itself: when the launcher happens to run on the
// first thread of the program, that thread does not end with its goroutine, only with the program.
func (l *Launcher) Close() error {
	l.once.Do(func() { close(l.quit) })
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, cmd := range l.cmds {
		// The handle, not the number: a process that was waited for is not signalled again.
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, fmt.Errorf("end process %d: %w", cmd.Process.Pid, err))
		}
	}
	l.cmds = nil
	return errors.Join(errs...)
}
