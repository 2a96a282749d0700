package ctnl

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/ha/statesync"
)

// Dump reads the whole table in pieces. The kernel makes a piece while the one before it is fetched, so whoever
// takes its time slows the dump down and nothing else.
type Dump struct {
	fd      int
	seq     uint32
	buf     []byte
	expects bool
	done    bool
}

// dumpBuffer is the largest piece that the kernel makes.
const dumpBuffer = 32 << 10

// OpenDump asks for all connections, or all expectations.
func OpenDump(expects bool) (*Dump, error) {
	fd, _, err := dial(0)
	if err != nil {
		return nil, err
	}
	d := &Dump{fd: fd, buf: make([]byte, dumpBuffer), expects: expects}
	if err := d.request(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return d, nil
}

func (d *Dump) request() error {
	var w builder
	kind := uint16(msgGet)
	if d.expects {
		kind = msgExpGet
	}
	d.seq++
	w.end(w.message(kind, unix.NLM_F_DUMP, d.seq, unix.AF_UNSPEC))
	if err := unix.Sendto(d.fd, w.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask for the connection table: %w", err)
	}
	return nil
}

// Next appends the entries of the next piece to out. done means that there are no more; out may have some all the same.
func (d *Dump) Next(out []statesync.Event) (entries []statesync.Event, done bool, err error) {
	err = d.piece(func(m *message) error {
		out = append(out, statesync.Event{})
		ok, err := parseEvent(m, &out[len(out)-1])
		if !ok {
			out = out[:len(out)-1]
		}
		return err
	})
	return out, d.done, err
}

// Counters of one direction of a connection; 0 where the kernel does not count (nf_conntrack_acct).
type Counters struct{ Packets, Bytes uint64 }

// Each calls f for every connection to the end of the table, or until f is false. The flow is f's for the call only.
func (d *Dump) Each(f func(flow *statesync.Flow, orig, reply Counters) bool) error {
	var e statesync.Event
	var count [2]Counters
	more := true
	for !d.done && more {
		err := d.piece(func(m *message) error {
			ok, err := parseEvent(m, &e)
			if ok && more {
				parseCounters(m.body[genLen:], &count)
				more = f(&e.Flow, count[0], count[1])
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// piece reads one and calls f for each of its messages.
func (d *Dump) piece(f func(*message) error) error {
	if d.done {
		return nil
	}
	var n int
	var err error
	for {
		if n, _, err = unix.Recvfrom(d.fd, d.buf, 0); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("read the connection table: %w", err)
	}
	for data := d.buf[:n]; len(data) > 0; {
		var m message
		if m, data, err = nextMessage(data); err != nil {
			return err
		}
		switch m.kind {
		case unix.NLMSG_DONE:
			d.done = true
			return nil
		case unix.NLMSG_ERROR:
			return fmt.Errorf("read the connection table: %w", errnoOf(m.body))
		}
		if err := f(&m); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the dump.
func (d *Dump) Close() error { return unix.Close(d.fd) }

// errnoOf reads a netlink error message.
func errnoOf(body []byte) error {
	if len(body) < 4 {
		return errMessage
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
}
