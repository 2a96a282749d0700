package ctnl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/ha/statesync"
)

// Table changes the kernel's connection table. It must not be used from two goroutines at once, but for Size.
type Table struct {
	fd         int
	port       uint32
	seq        uint32
	w          builder
	buf        []byte
	count, max *os.File
	results    []error
}

// maxBatch is how many messages one system call brings to the kernel.
const maxBatch = 256

// headroom is the part of the table, one in so many, that is left to the member's own connections: with a full
// table the kernel would evict live entries for what a peer sends.
const headroom = 64

// OpenTable opens the table of the calling thread's network namespace.
func OpenTable() (*Table, error) {
	fd, port, err := dial(0)
	if err != nil {
		return nil, err
	}
	t := &Table{fd: fd, port: port, buf: make([]byte, 64<<10)}
	if t.count, err = os.Open("/proc/sys/net/netfilter/nf_conntrack_count"); err == nil {
		t.max, err = os.Open("/proc/sys/net/netfilter/nf_conntrack_max")
	}
	if err == nil {
		err = setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, 1<<20)
	}
	if err == nil {
		err = setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, 4<<20)
	}
	if err == nil {
		// Errors come without the message that caused them.
		err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	}
	if err != nil {
		t.Close()
		return nil, fmt.Errorf("open the connection table: %w (is the module nf_conntrack loaded?)", err)
	}
	return t, nil
}

// Port is the netlink port by which events caused by this Table are known.
func (t *Table) Port() uint32 { return t.port }

// Close closes the table.
func (t *Table) Close() error {
	t.count.Close() // nil is fine
	t.max.Close()
	return unix.Close(t.fd)
}

// Size gives the number of entries and the most there may be.
func (t *Table) Size() (count, most int) {
	return number(t.count), number(t.max)
}

func number(f *os.File) int {
	var b [24]byte
	n, _ := f.ReadAt(b[:], 0)
	v, _ := strconv.Atoi(string(bytes.TrimSpace(b[:n])))
	return v
}

// Apply carries out operations in order. The result has an error for each that failed, nil for the others, and is
// valid until the next call.
func (t *Table) Apply(ops []statesync.KernelOp) []error {
	t.results = append(t.results[:0], make([]error, len(ops))...)
	count, most := t.Size()
	room := most - most/headroom - count
	if most == 0 {
		room = math.MaxInt // no limit
	}
	for at := 0; at < len(ops); at += maxBatch {
		part := ops[at:min(at+maxBatch, len(ops))]
		room -= t.part(part, t.results[at:at+len(part)], room)
	}
	return t.results
}

// part carries out at most maxBatch operations and gives how many entries it may have made.
func (t *Table) part(ops []statesync.KernelOp, results []error, room int) (created int) {
	t.w.b = t.w.b[:0]
	base := t.seq + 1
	for i := range ops {
		t.seq++
		op := &ops[i]
		switch {
		case op.Kind == statesync.KernelCreate || op.Kind == statesync.KernelAdd:
			if created >= room {
				results[i] = statesync.TableFull
				continue
			}
			created++
			t.w.create(t.seq, &op.Flow)
		case op.Kind == statesync.KernelUpdate:
			t.w.update(t.seq, &op.Flow)
		case op.Kind == statesync.KernelDelete:
			t.w.remove(t.seq, &op.Flow, false)
		case op.Kind == statesync.KernelExpect:
			t.w.expect(t.seq, op.Expect)
		case op.Kind == statesync.KernelExpectDelete:
			t.w.removeExpect(t.seq, op.Expect)
		}
	}
	if err := t.send(base, results); err != nil {
		for i := range results {
			results[i] = err
		}
		return created
	}
	t.settle(ops, results, room-created)
	return created
}

// send brings what is built to the kernel, which has carried it out when this returns, and reads the errors.
func (t *Table) send(base uint32, results []error) error {
	if len(t.w.b) == 0 {
		return nil
	}
	if err := unix.Sendto(t.fd, t.w.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("%w: %w", statesync.KernelError, err)
	}
	for {
		n, _, err := unix.Recvfrom(t.fd, t.buf, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			if errors.Is(err, unix.EAGAIN) {
				return nil
			}
			return fmt.Errorf("%w: read errors of the connection table: %w", statesync.KernelError, err)
		}
		for data := t.buf[:n]; len(data) > 0; {
			var m message
			if m, data, err = nextMessage(data); err != nil {
				return fmt.Errorf("%w: %w", statesync.KernelError, err)
			}
			i := int(m.seq - base)
			if m.kind == unix.NLMSG_ERROR && i >= 0 && i < len(results) && len(m.body) >= 4 {
				if errno := unix.Errno(-int32(binary.NativeEndian.Uint32(m.body))); errno != 0 {
					results[i] = errno
				}
			}
		}
	}
}

// settle deals with what the kernel refused: an entry that is there though it should not be, or the reverse. What
// comes later in the batch for the same connection is done again behind it, so that nothing goes backwards.
func (t *Table) settle(ops []statesync.KernelOp, results []error, room int) {
	var redo map[uint64]bool
	for i := range ops {
		op := &ops[i]
		errno, failed := results[i].(unix.Errno)
		if !failed && !redo[op.Key] || results[i] == statesync.TableFull {
			continue
		}
		if redo == nil {
			redo = make(map[uint64]bool)
		}
		redo[op.Key] = true
		results[i] = t.one(op, errno, room)
		if _, still := results[i].(unix.Errno); still {
			results[i] = fmt.Errorf("%w: %w", statesync.KernelError, results[i])
		}
	}
}

// one carries out one operation, whatever is in its way. errno is how it failed in the batch; 0 if it did not but has
// to be done again.
func (t *Table) one(op *statesync.KernelOp, errno unix.Errno, room int) error {
	if errno == unix.ENOMEM || errno == unix.ENOSPC {
		return statesync.TableFull
	}
	switch op.Kind {
	case statesync.KernelAdd:
		if errno == unix.EEXIST {
			return nil // what is there is better
		}
		return t.do(op, (*builder).create)
	case statesync.KernelCreate, statesync.KernelUpdate:
		if errno == 0 && op.Kind == statesync.KernelUpdate {
			if errno, _ = t.do(op, (*builder).update).(unix.Errno); errno == 0 {
				return nil
			}
		}
		if room <= 0 && errno == unix.ENOENT {
			return statesync.TableFull
		}
		return t.replace(op)
	case statesync.KernelDelete:
		return ignore(t.do(op, func(w *builder, seq uint32, f *statesync.Flow) { w.remove(seq, f, false) }))
	case statesync.KernelExpectDelete:
		t.w.b = t.w.b[:0]
		t.seq++
		t.w.removeExpect(t.seq, op.Expect)
		return ignore(t.alone())
	}
	return errno
}

// replace makes an entry after removing whatever has its original or its reply tuple.
func (t *Table) replace(op *statesync.KernelOp) error {
	t.do(op, func(w *builder, seq uint32, f *statesync.Flow) { w.remove(seq, f, false) })
	err := t.do(op, (*builder).create)
	if err == unix.EEXIST {
		t.do(op, func(w *builder, seq uint32, f *statesync.Flow) { w.remove(seq, f, true) })
		err = t.do(op, (*builder).create)
	}
	if err != nil && op.Flow.Has&(statesync.HasHelper|statesync.HasMaster) != 0 {
		// A kernel without that helper, or a master that has gone: the connection matters more.
		plain := *op
		plain.Flow.Has &^= statesync.HasHelper | statesync.HasMaster
		err = t.do(&plain, (*builder).create)
	}
	if err == unix.ENOMEM {
		return statesync.TableFull
	}
	return err
}

// ignore takes it for a success that what is to be removed is not there.
func ignore(err error) error {
	if err == unix.ENOENT {
		return nil
	}
	return err
}

func (t *Table) do(op *statesync.KernelOp, build func(*builder, uint32, *statesync.Flow)) error {
	t.w.b = t.w.b[:0]
	t.seq++
	build(&t.w, t.seq, &op.Flow)
	return t.alone()
}

// alone sends the one message that is built.
func (t *Table) alone() error {
	result := []error{nil}
	if err := t.send(t.seq, result); err != nil {
		return err
	}
	return result[0]
}
