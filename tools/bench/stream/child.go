package stream

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"
)

// childArg, as the only argument, makes a program that calls Main the process of a stream.
const childArg = "stream-process"

// order is what the process of a stream is told, on its standard input. The end of that input ends the stream.
type order struct {
	Client, Server string // names of namespaces
	Target         netip.AddrPort
	Duration       time.Duration
	Watch          bool // the cores, too
}

// account is what it answers on its standard output, first when the stream has started, then when it is over.
type account struct {
	Begun   Time
	Records []Record
	Stalls  []Stall
	Error   string
}

// Process is a stream in a process of its own, of which every thread is real-time. In the bench's process a probe
// would wait, for tens of milliseconds on a busy machine, for locks of the Go runtime that ordinary threads hold.
type Process struct {
	cmd   *exec.Cmd
	stop  io.WriteCloser
	in    *gob.Decoder
	begun Time
	// Stalls of the cores, after Wait, if they were watched.
	Stalls []Stall
}

// Launch starts a stream from one namespace to an address in another; it stops by itself after duration. Wait or
// Stop must be called in any case. With watch it also notes when cores stand still. The program must call Main before anything else.
func Launch(client, server string, target netip.AddrPort, duration time.Duration, watch bool) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	p := &Process{cmd: exec.Command(self, childArg)}
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the bench, which then stops the stream
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		p.stop, err = p.cmd.StdinPipe()
	}
	if err == nil {
		// A process inherits the scheduling of the thread that starts it, and hands it to its own threads.
		started := make(chan error)
		go func() {
			err := realTime()
			if err == nil {
				err = p.cmd.Start()
			}
			started <- err
		}()
		err = <-started
	}
	if err != nil {
		return nil, fmt.Errorf("start the process of the probe: %w", err)
	}
	p.in = gob.NewDecoder(out)
	var a account
	err = gob.NewEncoder(p.stop).Encode(order{client, server, target, duration, watch})
	if err == nil {
		err = p.answer(&a)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the probe: %w", err), p.Stop())
	}
	p.begun = a.Begun
	return p, nil
}

func (p *Process) answer(a *account) error {
	if err := p.in.Decode(a); err != nil {
		return fmt.Errorf("the process of the probe gave no answer: %w", err)
	}
	if a.Error != "" {
		return errors.New(a.Error)
	}
	return nil
}

// Begun is when the first datagram is due.
func (p *Process) Begun() Time { return p.begun }

// Wait waits for the end of the stream and its last echoes.
func (p *Process) Wait() ([]Record, error) {
	var a account
	err := p.answer(&a)
	p.Stalls = a.Stalls
	return a.Records, errors.Join(err, p.Stop())
}

// Stop ends the stream at once; what it has measured is lost.
func (p *Process) Stop() error {
	p.stop.Close()
	// The pipe is read to its end, so that the process is not stuck in writing.
	var a account
	for p.in.Decode(&a) == nil {
	}
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("the process of the probe: %w", err)
	}
	return nil
}

// Main turns this process into that of a stream, if it was started by Launch, and then does not return. Namespaces
// are found by find.
func Main[N Namespace](find func(name string) N) {
	if len(os.Args) != 2 || os.Args[1] != childArg {
		return
	}
	runtime.GOMAXPROCS(8)
	debug.SetGCPercent(-1)
	out := gob.NewEncoder(os.Stdout)
	err := func() error {
		in := gob.NewDecoder(os.Stdin)
		var o order
		if err := in.Decode(&o); err != nil {
			return fmt.Errorf("read the order: %w", err)
		}
		s, err := Start(find(o.Client), find(o.Server), o.Target, o.Duration)
		if err != nil {
			return err
		}
		go func() {
			_ = in.Decode(&o) // nothing but the end of the input comes
			s.stop.Store(true)
		}()
		if err := out.Encode(account{Begun: s.Begun()}); err != nil {
			return err
		}
		var over atomic.Bool
		stalls := func() ([]Stall, error) { return nil, nil }
		if o.Watch {
			stalls = watchAll(&over)
		}
		records, err := s.Wait()
		over.Store(true)
		seen, watchErr := stalls()
		if err := errors.Join(err, watchErr); err != nil {
			return err
		}
		return out.Encode(account{Begun: s.Begun(), Records: records, Stalls: seen})
	}()
	if err != nil {
		_ = out.Encode(account{Error: err.Error()}) // the other side may be gone
	}
	os.Exit(0)
}
