package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/term"
)

const (
	leaveKey = 0x1d // Ctrl-]
	// quiet ends a console whose input was a pipe: so long after the last byte in either direction.
	quiet = 2 * time.Second
)

// console joins the terminal, or whatever standard input is, to the serial console of a machine.
func console(ctx context.Context, o options) error {
	s, err := load(o.dir)
	if err != nil {
		return err
	}
	m, err := s.machine(o.machine)
	if err != nil {
		return err
	}
	if !m.Process.running() {
		return fmt.Errorf("machine %s has no power; its console said, at last: %s", m.Name, m.Log)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", m.Console)
	if err != nil {
		return fmt.Errorf("console of %s: %w", m.Name, err)
	}
	defer conn.Close()
	in := int(os.Stdin.Fd())
	tty := term.IsTerminal(in)
	if tty {
		fmt.Fprintf(os.Stderr, "console of %s; Ctrl-] leaves\n", m.Name)
		old, err := term.MakeRaw(in)
		if err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
		defer func() {
			term.Restore(in, old)
			fmt.Fprintln(os.Stderr)
		}()
		if _, err := conn.Write([]byte("\r")); err != nil { // makes a shell show its prompt
			return fmt.Errorf("console of %s: %w", m.Name, err)
		}
	}
	return bridge(ctx, conn, os.Stdin, os.Stdout, tty, quiet)
}

// bridge copies both ways. On a terminal it ends at Ctrl-]; with a pipe, whose newlines become the Enter key, when
// the input has ended and the console was quiet for a while. It ends in any case when the machine closes.
func bridge(ctx context.Context, conn net.Conn, in io.Reader, out io.Writer, tty bool, quiet time.Duration) error {
	input, output, heard := make(chan error, 1), make(chan error, 1), make(chan struct{}, 1)
	go func() { input <- send(conn, in, tty) }()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if n > 0 {
				if _, werr := out.Write(buf[:n]); werr != nil {
					output <- werr
					return
				}
				select {
				case heard <- struct{}{}:
				default:
				}
			}
			if err != nil {
				output <- err
				return
			}
		}
	}()
	var idle <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-output:
			if errors.Is(err, io.EOF) {
				return errors.New("the machine closed its console: it has no power any more")
			}
			return err
		case err := <-input:
			if err != nil || tty {
				return err
			}
			input = nil
			idle = time.After(quiet)
		case <-heard:
			if input == nil {
				idle = time.After(quiet)
			}
		case <-idle:
			return nil
		}
	}
}

// send copies keys to the console until the end of the input or Ctrl-].
func send(conn io.Writer, in io.Reader, tty bool) error {
	buf := make([]byte, 1024)
	for {
		n, err := in.Read(buf)
		keys := buf[:n]
		leave := false
		if tty {
			if i := bytes.IndexByte(keys, leaveKey); i >= 0 {
				keys, leave = keys[:i], true
			}
		} else {
			keys = bytes.ReplaceAll(keys, []byte("\n"), []byte("\r"))
		}
		if len(keys) > 0 {
			if _, werr := conn.Write(keys); werr != nil {
				return fmt.Errorf("write to console: %w", werr)
			}
		}
		switch {
		case leave || errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read keys: %w", err)
		}
	}
}
