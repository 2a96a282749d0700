package supervise

import (
	"fmt"
	"os"
	"syscall"
)

// stdio holds the descriptors between the supervisor and one child: output,
// readiness, or a terminal.
type stdio struct {
	files  []uintptr // as ForkExec wants them: 0, 1, 2, then readiness and life
	theirs []*os.File
	output *os.File // our end of stdout and stderr; nil on a terminal
	ready  *os.File // our end of readiness; nil when the child does not report
	life   *os.File // our end of the life pipe; nil when nobody asked
	lifeFD int      // the child's number of it
}

func openStdio(s *Service) (*stdio, error) {
	io := &stdio{}
	fail := func(err error) (*stdio, error) {
		io.closeChildSide()
		io.closeOurSide()
		return nil, err
	}
	if s.TTY != "" {
		// Not waiting for carrier; the child makes it its controlling terminal.
		tty, err := os.OpenFile(s.TTY, os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return fail(fmt.Errorf("open terminal: %w", err))
		}
		io.theirs = append(io.theirs, tty)
		fd := tty.Fd() // puts the description back into blocking mode
		io.files = []uintptr{fd, fd, fd}
	} else {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return fail(err)
		}
		io.theirs = append(io.theirs, null)
		r, w, err := os.Pipe()
		if err != nil {
			return fail(fmt.Errorf("pipe for output: %w", err))
		}
		io.theirs, io.output = append(io.theirs, w), r
		io.files = []uintptr{null.Fd(), w.Fd(), w.Fd()}
	}
	if s.ReadyTimeout > 0 {
		r, w, err := os.Pipe()
		if err != nil {
			return fail(fmt.Errorf("pipe for readiness: %w", err))
		}
		io.theirs, io.ready = append(io.theirs, w), r
		io.files = append(io.files, w.Fd())
	}
	if s.OnDying != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return fail(fmt.Errorf("life pipe: %w", err))
		}
		io.theirs, io.life, io.lifeFD = append(io.theirs, w), r, len(io.files)
		io.files = append(io.files, w.Fd())
	}
	return io, nil
}

func (io *stdio) closeChildSide() {
	for _, f := range io.theirs {
		f.Close()
	}
	io.theirs = nil
}

func (io *stdio) closeOurSide() {
	for _, f := range []*os.File{io.output, io.ready, io.life} {
		if f != nil {
			f.Close()
		}
	}
}

// watchReady returns a channel that is closed when the child has written its
// newline, or at once when it is not expected to.
func (io *stdio) watchReady() <-chan struct{} {
	ready := make(chan struct{})
	if io.ready == nil {
		close(ready)
		return ready
	}
	go func() {
		defer io.ready.Close()
		b := make([]byte, 1)
		if n, _ := io.ready.Read(b); n == 1 && b[0] == '\n' {
			close(ready)
		}
	}()
	return ready
}

// watchLife calls dying when the child's end of the life pipe is closed.
func (io *stdio) watchLife(dying func()) {
	if io.life == nil {
		return
	}
	go func() {
		defer io.life.Close()
		io.life.Read(make([]byte, 1)) // nobody writes: this is the end
		dying()
	}()
}

// watchOutput runs capture on the child's output and returns a channel that is
// closed when it has ended.
func (io *stdio) watchOutput(capture func(*os.File)) <-chan struct{} {
	drained := make(chan struct{})
	if io.output == nil {
		close(drained)
		return drained
	}
	go func() {
		defer close(drained)
		defer io.output.Close()
		capture(io.output)
	}()
	return drained
}
