package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Process is QEMU with one machine in it. Its methods are safe for concurrent use.
type Process struct {
	Started time.Time // when QEMU was started

	name   string
	cmd    *exec.Cmd
	stderr tail
	done   chan struct{}
	err    error // valid when done is closed
}

// Launch starts QEMU; it ends with the launcher. name is what errors call the machine, binary qemu-system-x86_64 when empty.
func Launch(l *Launcher, name, binary string, args []string) (*Process, error) {
	if binary == "" {
		binary = "qemu-system-x86_64"
	}
	p := &Process{name: name, cmd: exec.Command(binary, args...), done: make(chan struct{})}
	p.cmd.Stderr = &p.stderr
	p.Started = time.Now()
	if err := l.Start(p.cmd); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			err = fmt.Errorf("%w: install it with `tools/need.sh hardware` (ARM: `tools/need.sh hardware-arm64`)", err)
		}
		return nil, fmt.Errorf("machine %s: start QEMU: %w", name, err)
	}
	go func() {
		p.err = p.exit(p.cmd.Wait())
		close(p.done)
	}()
	return p, nil
}

func (p *Process) exit(err error) error {
	if err == nil {
		return nil
	}
	if text := strings.TrimSpace(p.stderr.String()); text != "" {
		return fmt.Errorf("machine %s: QEMU: %w: %s", p.name, err, text)
	}
	return fmt.Errorf("machine %s: QEMU: %w", p.name, err)
}

// PID is the process ID of QEMU.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when QEMU has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether QEMU runs.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Wait returns how QEMU ended: nil after a power-off from inside.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("machine %s still runs: %w", p.name, ctx.Err())
	}
}

// PowerCut ends QEMU with SIGKILL, as a power cut does, and returns the moment at which the signal was sent.
func (p *Process) PowerCut() (time.Time, error) {
	at := time.Now()
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return at, fmt.Errorf("machine %s: kill QEMU: %w", p.name, err)
	}
	<-p.done
	return at, nil
}

func (p *Process) signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("machine %s: %v to QEMU: %w", p.name, s, err)
	}
	return nil
}

// Dial connects to a socket of QEMU's as soon as QEMU has made it.
func (p *Process) Dial(ctx context.Context, socket string) (net.Conn, error) {
	for {
		c, err := net.Dial("unix", socket)
		if err == nil {
			return c, nil
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("machine %s: QEMU ended before it made %s: %w", p.name, socket, errors.Join(err, p.err))
		case <-ctx.Done():
			return nil, fmt.Errorf("machine %s: QEMU has not made %s: %w", p.name, socket, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
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
