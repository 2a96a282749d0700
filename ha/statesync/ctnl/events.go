package ctnl

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/ha/statesync"
)

// ErrLost means that the kernel had to throw events away: the model must be compared with the table.
var ErrLost = errors.New("events were lost between kernel and daemon")

// EventBuffer is the socket buffer of events by default, in bytes: about 30,000 events as the kernel counts them.
const EventBuffer = 32 << 20

// Events is the stream of what happens to the table.
type Events struct {
	file   *os.File
	conn   syscall.RawConn
	batch  *batch
	kicked atomic.Bool
	// Skipped counts messages that could not be read.
	Skipped atomic.Uint64
}

// eventBatch is how many events one read gives at most.
const eventBatch = 512

// slotSize fits every event: 400 bytes with all that a connection can have, and names of helpers.
const slotSize = 2048

// Groups of events: how entries begin and change, and how they end.
var (
	beginnings = []int{unix.NFNLGRP_CONNTRACK_NEW, unix.NFNLGRP_CONNTRACK_UPDATE, unix.NFNLGRP_CONNTRACK_EXP_NEW}
	ends       = []int{unix.NFNLGRP_CONNTRACK_DESTROY, unix.NFNLGRP_CONNTRACK_EXP_DESTROY}
)

func join(fd, how int, groups []int) error {
	for _, g := range groups {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, how, g); err != nil {
			return err
		}
	}
	return nil
}

// Beginnings turns the events of new and changed entries on or off; they are on at first. As long as somebody listens,
// the kernel makes a message of every entry that is injected, which costs half as much as the injection.
func (e *Events) Beginnings(on bool) error {
	how := unix.NETLINK_DROP_MEMBERSHIP
	if on {
		how = unix.NETLINK_ADD_MEMBERSHIP
	}
	var failed error
	err := e.conn.Control(func(fd uintptr) { failed = join(int(fd), how, beginnings) })
	return errors.Join(err, failed)
}

// OpenEvents subscribes to all changes of connections and expectations of the calling thread's network namespace,
// but those that came from the port ignore. buffer is in bytes.
func OpenEvents(buffer int, ignore uint32) (*Events, error) {
	fd, _, err := dial(unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, err
	}
	err = setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, buffer)
	if err == nil {
		err = ignorePort(fd, ignore)
	}
	if err == nil {
		err = join(fd, unix.NETLINK_ADD_MEMBERSHIP, append(beginnings, ends...))
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("subscribe to connection events: %w", err)
	}
	e := &Events{file: wrap(fd, "conntrack events"), batch: newBatch(eventBatch, slotSize)}
	if e.conn, err = e.file.SyscallConn(); err != nil {
		e.file.Close()
		return nil, err
	}
	return e, nil
}

// Wait waits until there is something to read, Kick is called, or the socket is closed (an error).
func (e *Events) Wait() error {
	var polled error
	err := e.conn.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		var n int
		n, polled = unix.Poll(p, 0)
		if errors.Is(polled, unix.EINTR) {
			polled = nil
		}
		return n > 0 || polled != nil || e.kicked.Load()
	})
	late := errors.Is(err, os.ErrDeadlineExceeded)
	if late {
		err = nil
	}
	if e.kicked.Swap(false) || late {
		e.file.SetReadDeadline(time.Time{})
	}
	return errors.Join(err, polled)
}

// Kick ends a Wait.
func (e *Events) Kick() {
	e.kicked.Store(true)
	e.file.SetReadDeadline(time.Now())
}

// Read appends the events that are there to out, at most one batch. more tells that there may be others behind. The
// error is ErrLost when the kernel threw some away; what it gave is good all the same.
func (e *Events) Read(out []statesync.Event) (events []statesync.Event, more bool, err error) {
	var n int
	var received error
	if err := e.conn.Control(func(fd uintptr) { n, received = e.batch.receive(int(fd)) }); err != nil {
		return out, false, err
	}
	switch {
	case errors.Is(received, unix.EAGAIN):
		return out, false, nil
	case errors.Is(received, unix.ENOBUFS):
		return out, true, ErrLost
	case received != nil:
		return out, false, fmt.Errorf("read connection events: %w", received)
	}
	var lost error
	for i := range n {
		data, err := e.batch.datagram(i)
		if err != nil {
			lost = ErrLost
			continue
		}
		for len(data) > 0 {
			var m message
			if m, data, err = nextMessage(data); err != nil {
				e.Skipped.Add(1)
				lost = ErrLost
				break
			}
			out = append(out, statesync.Event{})
			if ok, err := parseEvent(&m, &out[len(out)-1]); !ok {
				out = out[:len(out)-1]
				if err != nil {
					e.Skipped.Add(1)
					lost = ErrLost
				}
			}
		}
	}
	return out, n == eventBatch, lost
}

// Close ends the stream and a Wait.
func (e *Events) Close() error { return e.file.Close() }
