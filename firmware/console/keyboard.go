package console

import (
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	ctrlC = 0x03
	// clearLine is what Ctrl-C does at the prompt: go to the end of the line (Ctrl-E), delete all before it (Ctrl-U).
	clearLine = "\x05\x15"
	// emptyLine is what a command that asks for a line gets behind Ctrl-C. Its context tells it why.
	emptyLine = clearLine + "\r"
	// typeAhead is how much is kept of what is typed while a command runs, in bytes.
	typeAhead = 1 << 20
)

// keyboard reads the operator's keys all the time, so that Ctrl-C reaches a command while it runs. In between it is
// the reader that the line editor takes its keys from.
type keyboard struct {
	in   io.Reader
	fd   int // of a terminal, else -1
	wake [2]int

	mu     sync.Mutex
	change *sync.Cond
	keys   []byte
	err    error
	stop   func() // cancels the running command; nil at the prompt
	struck bool   // Ctrl-C was, and the command has not ended yet
	lent   bool   // another program reads the terminal
	idle   bool   // pump has let go of it
	closed bool
}

// newKeyboard starts reading. A reader that is no terminal is read until it ends, even after close.
func newKeyboard(in io.Reader, fd int) (*keyboard, error) {
	k := &keyboard{in: in, fd: fd, wake: [2]int{-1, -1}}
	k.change = sync.NewCond(&k.mu)
	if fd >= 0 {
		if err := unix.Pipe2(k.wake[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			return nil, os.NewSyscallError("pipe2", err)
		}
	}
	go k.pump()
	return k, nil
}

func (k *keyboard) pump() {
	buf := make([]byte, 4096)
	for {
		if k.fd >= 0 && !k.await() {
			unix.Close(k.wake[0])
			unix.Close(k.wake[1])
			return
		}
		n, err := k.in.Read(buf)
		k.mu.Lock()
		for _, key := range buf[:n] {
			switch {
			case key == ctrlC && k.stop != nil:
				k.strike()
			case key == ctrlC:
				k.keys = append(k.keys, clearLine...)
			case len(k.keys) < typeAhead:
				k.keys = append(k.keys, key)
			}
		}
		if err != nil {
			k.err = err
			if k.stop != nil && k.fd >= 0 {
				k.stop() // the terminal hung up; a pipe has merely said all it had to
			}
		}
		closed := k.closed
		k.change.Broadcast()
		k.mu.Unlock()
		if err != nil && k.fd < 0 || closed && k.fd < 0 {
			return
		}
		if err != nil {
			k.lend() // never read it again, but be there for close
		}
	}
}

// await waits for a key of the terminal, and stands aside while another program has it. It reports false after close.
func (k *keyboard) await() bool {
	for {
		k.mu.Lock()
		for k.lent && !k.closed {
			k.idle = true
			k.change.Broadcast()
			k.change.Wait()
		}
		k.idle = false
		closed := k.closed
		k.mu.Unlock()
		if closed {
			return false
		}
		fds := []unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLIN}, {Fd: int32(k.wake[0]), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return true // Read will say what is wrong
		}
		if fds[1].Revents != 0 {
			var drop [16]byte
			unix.Read(k.wake[0], drop[:])
			continue
		}
		if fds[0].Revents != 0 {
			return true
		}
	}
}

// Read gives the line editor its keys.
func (k *keyboard) Read(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.keys) == 0 && k.err == nil && !k.closed && !k.struck {
		k.change.Wait()
	}
	if k.struck {
		return copy(p, emptyLine), nil // the line editor's buffer is larger
	}
	if len(k.keys) == 0 {
		return 0, io.EOF
	}
	n := copy(p, k.keys)
	k.keys = k.keys[n:]
	return n, nil
}

// during makes Ctrl-C call stop until f returns.
func (k *keyboard) during(stop func(), f func()) {
	k.mu.Lock()
	k.stop, k.struck = stop, false
	if k.err != nil && k.fd >= 0 {
		stop()
	}
	k.mu.Unlock()
	f()
	k.mu.Lock()
	k.stop, k.struck = nil, false
	k.mu.Unlock()
}

// strike ends the running command. What was typed ahead is for it, and goes with it.
func (k *keyboard) strike() {
	k.keys, k.struck = nil, true
	k.stop()
	k.change.Broadcast()
}

// interrupt does what Ctrl-C does, for signals.
func (k *keyboard) interrupt() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stop != nil {
		k.strike()
	}
}

// lend makes the keyboard leave the terminal to another program; on return nobody reads it here.
func (k *keyboard) lend() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lent = true
	k.poke()
}

func (k *keyboard) awaitIdle() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.fd >= 0 && !k.idle && !k.closed {
		k.change.Wait()
	}
}

// takeBack ends lend.
func (k *keyboard) takeBack() {
	k.mu.Lock()
	k.lent = false
	k.change.Broadcast()
	k.mu.Unlock()
}

// close ends reading; Read gives io.EOF from then on.
func (k *keyboard) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.poke()
	k.closed = true
	k.change.Broadcast()
}

// poke wakes pump. Behind close the pipe is gone.
func (k *keyboard) poke() {
	if k.fd >= 0 && !k.closed {
		unix.Write(k.wake[1], []byte{0}) // a full pipe wakes as well
	}
}
