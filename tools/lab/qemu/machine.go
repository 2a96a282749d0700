package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// Machine is a running machine. Its methods are safe for concurrent use.
type Machine struct {
	Config
	*Process

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
	p, err := Launch(l, c.Name, c.Binary, c.Args())
	if err != nil {
		return nil, err
	}
	return &Machine{Config: c, Process: p}, nil
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
