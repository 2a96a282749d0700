// Package uevent hears from the kernel which devices come and go (lib/kobject_uevent.c).
package uevent

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Event is one message of the kernel about a device.
type Event struct {
	Action    string // add, remove, change, bind …
	Path      string // of the device, below /sys
	Subsystem string
	Modalias  string // what its driver is found by; empty for most
}

// Parse reads a message: "ACTION@PATH", then KEY=VALUE, each ended by a zero byte. Whatever it does not know it leaves out.
func Parse(message []byte) (Event, error) {
	head, rest, ok := bytes.Cut(message, []byte{0})
	action, path, at := bytes.Cut(head, []byte("@"))
	if !ok || !at || len(action) == 0 {
		return Event{}, fmt.Errorf("event of the kernel %.60q: it does not begin with ACTION@PATH", message)
	}
	e := Event{Action: string(action), Path: string(path)}
	for field := range bytes.SplitSeq(rest, []byte{0}) {
		switch key, value, _ := bytes.Cut(field, []byte("=")); string(key) {
		case "SUBSYSTEM":
			e.Subsystem = string(value)
		case "MODALIAS":
			e.Modalias = string(value)
		}
	}
	return e, nil
}

// Listener receives events from when it was made.
type Listener struct {
	fd  int
	buf []byte
}

// kernelGroup is the multicast group that the kernel itself sends to; udev's, where there is one, is another.
const kernelGroup = 1

// Listen begins to hear.
func Listen() (*Listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("events of the kernel: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("events of the kernel: %w", err)
	}
	return &Listener{fd, make([]byte, 16<<10)}, nil
}

// Close ends it.
func (l *Listener) Close() error { return unix.Close(l.fd) }

// ErrLost says that events came faster than they were read; what is there now has to be looked for.
var ErrLost = errors.New("events of the kernel were lost")

// Next waits for the next event. Messages that others than the kernel have sent, or that cannot be read, are passed over.
func (l *Listener) Next() (Event, error) {
	for {
		n, from, err := unix.Recvfrom(l.fd, l.buf, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS):
			return Event{}, ErrLost
		case err != nil:
			return Event{}, fmt.Errorf("events of the kernel: %w", err)
		}
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue
		}
		if e, err := Parse(l.buf[:n]); err == nil {
			return e, nil
		}
	}
}
