// Package nbd is a disk for virtual machines that loses its write cache when the
// power goes, as real disks do. QEMU is its client, by the NBD protocol
// (https://github.com/NetworkBlockDevice/nbd, doc/proto.md).
//
// A write is in the cache until the machine flushes it. Cut drops what is in the
// cache, sector by sector, at random: some of it had reached the platter, in any
// order, and some had not.
package nbd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
)

// Protocol numbers.
const (
	magicServer = 0x4e42444d41474943 // NBDMAGIC
	magicOption = 0x49484156454f5054 // IHAVEOPT
	magicReply  = 0x3e889045565a9
	magicReq    = 0x25609513
	magicSimple = 0x67446698

	flagFixed, flagNoZeroes = 1, 2

	optExportName, optAbort, optInfo, optGo = 1, 2, 6, 7
	repAck, repInfo, repUnsupported         = 1, 3, 1<<31 | 1

	hasFlags, sendFlush, sendFUA, sendZeroes = 1, 4, 8, 64

	cmdRead, cmdWrite, cmdDisconnect, cmdFlush, cmdZeroes = 0, 1, 2, 3, 6

	cmdFlagFUA = 1
	eIO        = 5
	eInvalid   = 22
	maxRequest = 64 << 20
)

var errBroken = errors.New("this part of the disk is broken")

// Sector is what a disk writes whole or not at all, in bytes.
const Sector = 512

// Disk is a file with a write cache in front of it. Its methods are safe for
// concurrent use.
type Disk struct {
	size int64

	mu      sync.Mutex
	f       *os.File
	pending []write
	cached  int64
	// Writes and Flushes count since the disk was opened.
	writes, flushes int
	recording       bool
	records         []Record
	broken          Range

	listener net.Listener
	conns    map[net.Conn]bool
	wg       sync.WaitGroup
}

// write is one that was not flushed yet: the file has it already, old is what
// was there before.
type write struct {
	off      int64
	old, new []byte
}

// Open opens an image file as a disk and serves it on a Unix socket.
func Open(file, socket string) (*Disk, error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		f.Close()
		return nil, err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		f.Close()
		return nil, err
	}
	d := &Disk{size: st.Size() / Sector * Sector, f: f, listener: l, conns: make(map[net.Conn]bool)}
	d.wg.Go(d.accept)
	return d, nil
}

// Close ends the service; what is in the cache is kept.
func (d *Disk) Close() error {
	err := d.listener.Close()
	d.mu.Lock()
	for c := range d.conns {
		c.Close()
	}
	d.mu.Unlock()
	d.wg.Wait()
	return errors.Join(err, d.f.Close())
}

// Range is a part of the disk, in bytes.
type Range struct{ From, To int64 }

// Break makes every write into a part of the disk end in an I/O error from now
// on, as a disk with worn-out flash does. An empty range makes it whole again.
func (d *Disk) Break(r Range) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = r
}

// Stats counts what the machine did since the disk was opened.
func (d *Disk) Stats() (writes, flushes int, cached int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes, d.flushes, d.cached
}

// Cut is the power cut: every sector in the cache survives with probability
// keep. Call it when the machine is gone. It returns how many sectors there were
// and how many are lost.
func (d *Disk) Cut(r *rand.Rand, keep float64) (sectors, lost int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := len(d.pending) - 1; i >= 0; i-- {
		if _, err := d.f.WriteAt(d.pending[i].old, d.pending[i].off); err != nil {
			return 0, 0, err
		}
	}
	for _, w := range d.pending {
		for at := 0; at < len(w.new); at += Sector {
			sectors++
			if r.Float64() >= keep {
				lost++
				continue
			}
			if _, err := d.f.WriteAt(w.new[at:at+Sector], w.off+int64(at)); err != nil {
				return 0, 0, err
			}
		}
	}
	d.pending, d.cached = nil, 0
	return sectors, lost, nil
}

// Record is one thing that the machine did: a write, or a flush.
type Record struct {
	Off   int64
	Data  []byte
	FUA   bool // durable at once
	Flush bool // everything before is durable
}

// StartRecording keeps everything that the machine does from now on.
func (d *Disk) StartRecording() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recording, d.records = true, nil
}

// Recorded is what was kept, in order.
func (d *Disk) Recorded() []Record {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.records)
}

func (d *Disk) accept() {
	for {
		c, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		d.conns[c] = true
		d.mu.Unlock()
		d.wg.Go(func() {
			if err := d.serve(c); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				fmt.Fprintf(os.Stderr, "nbd: %v\n", err)
			}
			d.mu.Lock()
			delete(d.conns, c)
			d.mu.Unlock()
			c.Close()
		})
	}
}

var be = binary.BigEndian

func (d *Disk) serve(c net.Conn) error {
	hello := be.AppendUint64(be.AppendUint64(nil, magicServer), magicOption)
	if _, err := c.Write(be.AppendUint16(hello, flagFixed|flagNoZeroes)); err != nil {
		return err
	}
	var flags [4]byte
	if _, err := io.ReadFull(c, flags[:]); err != nil {
		return err
	}
	ready, err := d.negotiate(c)
	if err != nil || !ready {
		return err
	}
	return d.transmit(c)
}

// negotiate answers options until the client wants the disk.
func (d *Disk) negotiate(c net.Conn) (ready bool, err error) {
	export := func(b []byte) []byte {
		return be.AppendUint16(be.AppendUint64(b, uint64(d.size)), hasFlags|sendFlush|sendFUA|sendZeroes)
	}
	for {
		var h [16]byte
		if _, err := io.ReadFull(c, h[:]); err != nil {
			return false, err
		}
		opt, n := be.Uint32(h[8:]), be.Uint32(h[12:])
		if be.Uint64(h[:]) != magicOption || n > 4096 {
			return false, errors.New("negotiation: not an option")
		}
		if _, err := io.CopyN(io.Discard, c, int64(n)); err != nil {
			return false, err
		}
		reply := func(kind uint32, data []byte) error {
			b := be.AppendUint32(be.AppendUint64(nil, magicReply), opt)
			b = be.AppendUint32(be.AppendUint32(b, kind), uint32(len(data)))
			_, err := c.Write(append(b, data...))
			return err
		}
		switch opt {
		case optExportName:
			_, err := c.Write(export(nil))
			return err == nil, err
		case optGo, optInfo:
			if err := errors.Join(reply(repInfo, export([]byte{0, 0})), reply(repAck, nil)); err != nil {
				return false, err
			}
			if opt == optGo {
				return true, nil
			}
		case optAbort:
			return false, reply(repAck, nil)
		default:
			if err := reply(repUnsupported, nil); err != nil {
				return false, err
			}
		}
	}
}

func (d *Disk) transmit(c net.Conn) error {
	for {
		var h [28]byte
		if _, err := io.ReadFull(c, h[:]); err != nil {
			return err
		}
		if be.Uint32(h[:]) != magicReq {
			return errors.New("not a request")
		}
		flags, cmd := be.Uint16(h[4:]), be.Uint16(h[6:])
		off, n := int64(be.Uint64(h[16:])), int64(be.Uint32(h[24:]))
		var data []byte
		code := uint32(0)
		outside := n > maxRequest || off < 0 || off > d.size-n || off%Sector != 0 || n%Sector != 0
		switch {
		case cmd == cmdDisconnect:
			return nil
		case cmd == cmdWrite:
			if n > maxRequest {
				return errors.New("a write is too large")
			}
			p := make([]byte, n)
			if _, err := io.ReadFull(c, p); err != nil {
				return err
			}
			if outside {
				code = eInvalid
			} else if d.write(p, off, flags&cmdFlagFUA != 0) != nil {
				code = eIO
			}
		case cmd == cmdFlush:
			d.flush()
		case outside:
			code = eInvalid
		case cmd == cmdRead:
			data = make([]byte, n)
			if _, err := d.f.ReadAt(data, off); err != nil {
				data, code = nil, eIO
			}
		case cmd == cmdZeroes:
			if d.write(make([]byte, n), off, flags&cmdFlagFUA != 0) != nil {
				code = eIO
			}
		default:
			code = eInvalid
		}
		b := be.AppendUint32(be.AppendUint32(nil, magicSimple), code)
		if _, err := c.Write(append(append(b, h[8:16]...), data...)); err != nil {
			return err
		}
	}
}

func (d *Disk) write(p []byte, off int64, fua bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off < d.broken.To && off+int64(len(p)) > d.broken.From {
		return errBroken
	}
	d.writes++
	if d.recording {
		d.records = append(d.records, Record{Off: off, Data: bytes.Clone(p), FUA: fua})
	}
	if !fua {
		old := make([]byte, len(p))
		if _, err := d.f.ReadAt(old, off); err != nil {
			return err
		}
		d.pending = append(d.pending, write{off, old, p})
		d.cached += int64(len(p))
	} else {
		// Durable at once. A cached write of the same place must not come back
		// over it when it is undone.
		for _, w := range d.pending {
			lo, hi := max(off, w.off), min(off+int64(len(p)), w.off+int64(len(w.new)))
			if lo < hi {
				copy(w.old[lo-w.off:hi-w.off], p[lo-off:])
				copy(w.new[lo-w.off:hi-w.off], p[lo-off:])
			}
		}
	}
	_, err := d.f.WriteAt(p, off)
	return err
}

func (d *Disk) flush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flushes++
	if d.recording {
		d.records = append(d.records, Record{Flush: true})
	}
	d.pending, d.cached = nil, 0
}
