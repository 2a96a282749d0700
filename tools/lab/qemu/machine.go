package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Machine is a running machine. Its methods are safe for concurrent use.
type Machine struct {
	Config
	Started time.Time // when QEMU was started

	cmd    *exec.Cmd
	stderr tail
	done   chan struct{}
	err    error // valid when done is closed

	mu  sync.Mutex
	qmp *QMP
}

// Start writes the machine's initrd and starts QEMU. The switch ports of its NICs must listen already.
func Start(l *Launcher, c Config) (*Machine, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := WriteInitrd(c.Initrd(), c.Initramfs, c.Files); err != nil {
		return nil, fmt.Errorf("machine %s: %w", c.Name, err)
	}
	for _, p := range []string{c.ConsoleSocket(), c.AgentSocket(), c.QMPSocket()} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("machine %s: remove old socket: %w", c.Name, err)
		}
	}
	binary := c.Binary
	if binary == "" {
		binary = "qemu-system-x86_64"
	}
	m := &Machine{Config: c, cmd: exec.Command(binary, c.Args()...), done: make(chan struct{})}
	m.cmd.Stderr = &m.stderr
	m.Started = time.Now()
	if err := l.Start(m.cmd); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			err = fmt.Errorf("%w: install it with `apt-get install qemu-system-x86`", err)
		}
		return nil, fmt.Errorf("machine %s: start QEMU: %w", c.Name, err)
	}
	go func() {
		m.err = m.exit(m.cmd.Wait())
		close(m.done)
	}()
	return m, nil
}

func (m *Machine) exit(err error) error {
	if err == nil {
		return nil
	}
	if text := strings.TrimSpace(m.stderr.String()); text != "" {
		return fmt.Errorf("machine %s: QEMU: %w: %s", m.Name, err, text)
	}
	return fmt.Errorf("machine %s: QEMU: %w", m.Name, err)
}

// PID is the process ID of QEMU.
func (m *Machine) PID() int { return m.cmd.Process.Pid }

// Done is closed when QEMU has ended.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Running reports whether QEMU runs.
func (m *Machine) Running() bool {
	select {
	case <-m.done:
		return false
	default:
		return true
	}
}

// Wait returns how QEMU ended: nil after a power-off from inside.
func (m *Machine) Wait(ctx context.Context) error {
	select {
	case <-m.done:
		return m.err
	case <-ctx.Done():
		return fmt.Errorf("machine %s still runs: %w", m.Name, ctx.Err())
	}
}

// PowerCut ends QEMU with SIGKILL, as a power cut does, and returns the moment at which the signal was sent.
func (m *Machine) PowerCut() (time.Time, error) {
	at := time.Now()
	if err := m.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return at, fmt.Errorf("machine %s: kill QEMU: %w", m.Name, err)
	}
	<-m.done
	return at, nil
}

// Close ends the machine and removes its sockets.
func (m *Machine) Close() error {
	_, err := m.PowerCut()
	m.mu.Lock()
	if m.qmp != nil {
		m.qmp.Close()
		m.qmp = nil
	}
	m.mu.Unlock()
	for _, p := range []string{m.ConsoleSocket(), m.AgentSocket(), m.QMPSocket(), m.Initrd()} {
		if rerr := os.Remove(p); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

// SetLink makes the guest see its NIC gain or lose the carrier.
func (m *Machine) SetLink(ctx context.Context, nic string, up bool) error {
	return m.control(ctx, func(q *QMP) error { return q.SetLink(ctx, nic, up) })
}

// Pause stops the machine with its clock: what is in it cannot know how long it stood still.
func (m *Machine) Pause(ctx context.Context) error {
	return m.control(ctx, func(q *QMP) error { return q.Stop(ctx) })
}

// Continue ends a Pause.
func (m *Machine) Continue(ctx context.Context) error {
	return m.control(ctx, func(q *QMP) error { return q.Continue(ctx) })
}

// Freeze stops the process of QEMU (SIGSTOP), as an overloaded host does. The guest's clock goes on: after Thaw it
// sees that time has passed.
func (m *Machine) Freeze() error { return m.signal(syscall.SIGSTOP) }

// Thaw ends a Freeze.
func (m *Machine) Thaw() error { return m.signal(syscall.SIGCONT) }

func (m *Machine) signal(s syscall.Signal) error {
	if err := m.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("machine %s: %v to QEMU: %w", m.Name, s, err)
	}
	return nil
}

// Status is QEMU's run state, e.g. "running" or "paused".
func (m *Machine) Status(ctx context.Context) (state string, err error) {
	err = m.control(ctx, func(q *QMP) error {
		state, err = q.Status(ctx)
		return err
	})
	return state, err
}

// control runs commands on a QMP connection that stays open; a failed one is opened anew by the next call.
func (m *Machine) control(ctx context.Context, f func(*QMP) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.qmp == nil {
		q, err := DialQMP(ctx, m.QMPSocket())
		if err != nil {
			return fmt.Errorf("machine %s: %w", m.Name, err)
		}
		m.qmp = q
	}
	err := f(m.qmp)
	var refused *QMPError
	if err != nil && !errors.As(err, &refused) {
		m.qmp.Close()
		m.qmp = nil
	}
	if err != nil {
		return fmt.Errorf("machine %s: %w", m.Name, err)
	}
	return nil
}

// tail keeps the last bytes that were written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const tailSize = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if extra := t.buf.Len() - tailSize; extra > 0 {
		t.buf.Next(extra)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
