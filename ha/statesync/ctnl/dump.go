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
	if d.done {
		return out, true, nil
	}
	var n int
	for {
		if n, _, err = unix.Recvfrom(d.fd, d.buf, 0); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return out, false, fmt.Errorf("read the connection table: %w", err)
	}
	for data := d.buf[:n]; len(data) > 0; {
		var m message
		if m, data, err = nextMessage(data); err != nil {
			return out, false, err
		}
		switch m.kind {
		case unix.NLMSG_DONE:
			d.done = true
			return out, true, nil
		case unix.NLMSG_ERROR:
			return out, false, fmt.Errorf("read the connection table: %w", errnoOf(m.body))
		}
		out = append(out, statesync.Event{})
		if ok, err := parseEvent(&m, &out[len(out)-1]); err != nil {
			return out, false, err
		} else if !ok {
			out = out[:len(out)-1]
		}
	}
	return out, false, nil
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
