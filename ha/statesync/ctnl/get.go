package ctnl

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/ha/statesync"
)

// Reader reads single connections. It must not be used from two goroutines at once.
type Reader struct {
	fd  int
	seq uint32
	w   builder
	buf []byte
}

// OpenReader opens a reader of the calling thread's network namespace.
func OpenReader() (*Reader, error) {
	fd, _, err := dial(0)
	return &Reader{fd: fd, buf: make([]byte, 4<<10)}, err
}

// Close closes the reader.
func (r *Reader) Close() error { return unix.Close(r.fd) }

// Get reads the connection that has f's original tuple, and its zone if that is not 0. ok is false when there is none.
func (r *Reader) Get(f *statesync.Flow) (out statesync.Flow, ok bool, err error) {
	r.seq++
	r.w.b = r.w.b[:0]
	m := r.w.message(msgGet, 0, r.seq, f.Family)
	r.w.tuple(ctaTupleOrig, f.Family, &f.Orig, nil, 0)
	if f.Zone != 0 {
		r.w.u16(ctaZone, f.Zone)
	}
	r.w.end(m)
	if err := unix.Sendto(r.fd, r.w.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return out, false, fmt.Errorf("ask for a connection: %w", err)
	}
	for {
		n, _, err := unix.Recvfrom(r.fd, r.buf, unix.MSG_DONTWAIT) // the answer is there when the request was sent
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return out, ok, nil
		case err != nil:
			return out, ok, fmt.Errorf("read a connection: %w", err)
		}
		for data := r.buf[:n]; len(data) > 0; {
			var m message
			if m, data, err = nextMessage(data); err != nil {
				return out, ok, err
			}
			if m.seq != r.seq || m.kind != msgNew {
				continue // of an earlier question, or that there is none
			}
			var e statesync.Event
			if ok, err = parseEvent(&m, &e); err != nil {
				return out, false, err
			}
			out = e.Flow
		}
	}
}
