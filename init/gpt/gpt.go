// Package gpt reads and writes GUID partition tables (UEFI specification 2.10,
// chapter 5) as bytes, and grows the last partition of one to a larger disk.
//
// It is here, and not a library, because of the order of the writes: growing
// happens at the first boot on the disk that the machine boots from, and a
// power cut between any two writes must leave a table that firmware accepts.
package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"unicode/utf16"
)

// Layout of the table. Sectors of 512 bytes only: so are all disks that a
// gateway is likely to have, and the image was made for them.
const (
	Sector     = 512
	entries    = 128
	entrySize  = 128
	arraySects = entries * entrySize / Sector
	// FirstUsable is the first sector behind the primary table, LastUsable counts
	// from the end.
	FirstUsable = 2 + arraySects
	headerSize  = 92
	signature   = "EFI PART"
	revision    = 0x00010000
	// minSectors is a disk with both tables and one sector.
	minSectors = 2*(1+arraySects) + 2
)

// GUID in the mixed-endian form of the disk.
type GUID [16]byte

// ParseGUID reads the usual form, e.g. "c12a7328-f81f-11d2-ba4b-00a0c93ec93b".
func ParseGUID(s string) (g GUID, err error) {
	var b [16]byte
	if n, err := fmt.Sscanf(s, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		&b[3], &b[2], &b[1], &b[0], &b[5], &b[4], &b[7], &b[6], &b[8], &b[9], &b[10], &b[11], &b[12], &b[13], &b[14], &b[15]); n != 16 || err != nil || len(s) != 36 {
		return g, fmt.Errorf("GUID %q: want the form 00000000-0000-0000-0000-000000000000", s)
	}
	return b, nil
}

func mustGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

func (g GUID) String() string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(g[:]), binary.LittleEndian.Uint16(g[4:]),
		binary.LittleEndian.Uint16(g[6:]), g[8:10], g[10:])
}

// Types of partitions.
var (
	TypeESP   = mustGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
	TypeLinux = mustGUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
)

// Partition is one entry.
type Partition struct {
	Type, ID    GUID
	First, Last uint64 // sectors, both inside
	Attributes  uint64
	Name        string // at most 36 UTF-16 units
}

// Size in bytes.
func (p Partition) Size() int64 { return int64(p.Last-p.First+1) * Sector }

// Offset of the partition on the disk in bytes.
func (p Partition) Offset() int64 { return int64(p.First) * Sector }

// Table is a partition table. Partitions keeps the numbers of the partitions:
// empty entries have the zero type.
type Table struct {
	Disk       GUID
	Sectors    uint64 // of the disk the table was made for
	Partitions []Partition
	// FromBackup says that the primary table was damaged.
	FromBackup bool
}

// ErrNone says that there is no table at all.
var ErrNone = errors.New("no GUID partition table")

// Find returns the index of the partition with a name, or -1.
func (t *Table) Find(name string) int {
	for i, p := range t.Partitions {
		if p.Type != (GUID{}) && p.Name == name {
			return i
		}
	}
	return -1
}

// Read reads the table of a disk of the given size in bytes: the primary one,
// or if that is damaged the backup at the end of the disk.
func Read(r io.ReaderAt, size int64) (*Table, error) {
	sectors := uint64(size / Sector)
	if sectors < minSectors {
		return nil, fmt.Errorf("%w: the disk has only %d sectors", ErrNone, sectors)
	}
	t, err := readAt(r, 1, sectors)
	if err == nil {
		return t, nil
	}
	if b, berr := readAt(r, sectors-1, sectors); berr == nil {
		b.FromBackup = true
		return b, nil
	}
	return nil, err
}

func readAt(r io.ReaderAt, lba, sectors uint64) (*Table, error) {
	h := make([]byte, Sector)
	if _, err := r.ReadAt(h, int64(lba)*Sector); err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	if string(h[:8]) != signature {
		return nil, ErrNone
	}
	le := binary.LittleEndian
	size := le.Uint32(h[12:])
	if size < headerSize || size > Sector {
		return nil, fmt.Errorf("partition table: header of %d bytes", size)
	}
	sum := le.Uint32(h[16:])
	le.PutUint32(h[16:], 0)
	if crc32.ChecksumIEEE(h[:size]) != sum {
		return nil, errors.New("partition table: the header's checksum is wrong")
	}
	n, esize, at := le.Uint32(h[80:]), le.Uint32(h[84:]), le.Uint64(h[72:])
	if le.Uint64(h[24:]) != lba || n != entries || esize != entrySize || at == 0 || at >= sectors-arraySects {
		return nil, fmt.Errorf("partition table: %d entries of %d bytes at sector %d are not understood", n, esize, at)
	}
	array := make([]byte, entries*entrySize)
	if _, err := r.ReadAt(array, int64(at)*Sector); err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	if crc32.ChecksumIEEE(array) != le.Uint32(h[88:]) {
		return nil, errors.New("partition table: the checksum of the entries is wrong")
	}
	t := &Table{Disk: GUID(h[56:72]), Sectors: max(le.Uint64(h[32:]), lba) + 1}
	if t.Sectors > sectors {
		return nil, fmt.Errorf("partition table: made for %d sectors, the disk has %d", t.Sectors, sectors)
	}
	last := -1
	for i := range entries {
		e := array[i*entrySize:]
		p := Partition{Type: GUID(e[:16]), ID: GUID(e[16:32]), First: le.Uint64(e[32:]), Last: le.Uint64(e[40:]), Attributes: le.Uint64(e[48:])}
		if p.Type != (GUID{}) {
			if p.First > p.Last || p.Last >= sectors {
				return nil, fmt.Errorf("partition table: partition %d from sector %d to %d on a disk of %d", i+1, p.First, p.Last, sectors)
			}
			last = i
		}
		var name []uint16
		for j := 0; j < 36; j++ {
			if u := le.Uint16(e[56+2*j:]); u != 0 {
				name = append(name, u)
			} else {
				break
			}
		}
		p.Name = string(utf16.Decode(name))
		t.Partitions = append(t.Partitions, p)
	}
	t.Partitions = t.Partitions[:last+1]
	return t, nil
}

// Write is a part of a table and where it belongs on the disk.
type Write struct {
	Offset int64
	Data   []byte
}

// Encode gives the writes that put the table onto a disk, in the order in which
// a power cut does least harm: the backup first, then the primary, and of each
// the entries before the header. Everything before a write must have reached
// the disk before it.
func (t *Table) Encode() ([]Write, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	array := make([]byte, entries*entrySize)
	le := binary.LittleEndian
	for i, p := range t.Partitions {
		if p.Type == (GUID{}) {
			continue
		}
		e := array[i*entrySize:]
		copy(e, p.Type[:])
		copy(e[16:], p.ID[:])
		le.PutUint64(e[32:], p.First)
		le.PutUint64(e[40:], p.Last)
		le.PutUint64(e[48:], p.Attributes)
		for j, u := range utf16.Encode([]rune(p.Name)) {
			le.PutUint16(e[56+2*j:], u)
		}
	}
	last := t.Sectors - 1
	return []Write{
		{int64(last-arraySects) * Sector, array},
		{int64(last) * Sector, t.header(array, last, 1, last-arraySects)},
		{2 * Sector, array},
		{0, t.protective()},
		{Sector, t.header(array, 1, last, 2)},
	}, nil
}

func (t *Table) check() error {
	if t.Sectors < minSectors || len(t.Partitions) > entries {
		return fmt.Errorf("partition table: %d partitions on %d sectors do not fit", len(t.Partitions), t.Sectors)
	}
	lastUsable := t.Sectors - 2 - arraySects
	for i, p := range t.Partitions {
		if p.Type == (GUID{}) {
			continue
		}
		if p.First < FirstUsable || p.Last > lastUsable || p.First > p.Last {
			return fmt.Errorf("partition table: partition %d from sector %d to %d: want it within %d to %d", i+1, p.First, p.Last, FirstUsable, lastUsable)
		}
		for j, q := range t.Partitions[:i] {
			if q.Type != (GUID{}) && p.First <= q.Last && q.First <= p.Last {
				return fmt.Errorf("partition table: partitions %d and %d overlap", j+1, i+1)
			}
		}
		if len(utf16.Encode([]rune(p.Name))) > 36 {
			return fmt.Errorf("partition table: name %q is longer than 36 characters", p.Name)
		}
	}
	return nil
}

func (t *Table) header(array []byte, lba, other, at uint64) []byte {
	h := make([]byte, Sector)
	le := binary.LittleEndian
	copy(h, signature)
	le.PutUint32(h[8:], revision)
	le.PutUint32(h[12:], headerSize)
	le.PutUint64(h[24:], lba)
	le.PutUint64(h[32:], other)
	le.PutUint64(h[40:], FirstUsable)
	le.PutUint64(h[48:], t.Sectors-2-arraySects)
	copy(h[56:], t.Disk[:])
	le.PutUint64(h[72:], at)
	le.PutUint32(h[80:], entries)
	le.PutUint32(h[84:], entrySize)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(array))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize]))
	return h
}

// protective is the MBR that tells old tools that the disk is in use.
func (t *Table) protective() []byte {
	m := make([]byte, Sector)
	copy(m[446:], []byte{0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0})
	binary.LittleEndian.PutUint32(m[458:], uint32(min(t.Sectors-1, 0xffffffff)))
	m[510], m[511] = 0x55, 0xaa
	return m
}

// Grow returns the table for a disk of size bytes with the last partition (by
// place) reaching to its end, in whole MiB, and whether anything changed. It
// never shrinks.
func (t *Table) Grow(size int64) (*Table, bool) {
	g := *t
	g.Partitions = slices.Clone(t.Partitions)
	g.FromBackup = false
	if s := uint64(size / Sector); s > g.Sectors {
		g.Sectors = s
	}
	at := -1
	for i, p := range g.Partitions {
		if p.Type != (GUID{}) && (at < 0 || p.First > g.Partitions[at].First) {
			at = i
		}
	}
	if at >= 0 {
		const mib = 1 << 20 / Sector
		if end := (g.Sectors - 1 - arraySects) / mib * mib; end > 0 && end-1 > g.Partitions[at].Last {
			g.Partitions[at].Last = end - 1
		}
	}
	changed := g.Sectors != t.Sectors || t.FromBackup || at >= 0 && g.Partitions[at].Last != t.Partitions[at].Last
	return &g, changed
}

// Disk is where a table is written.
type Disk interface {
	io.WriterAt
	Sync() error
}

// Store writes the table, each part durable before the next.
func (t *Table) Store(d Disk) error {
	writes, err := t.Encode()
	if err != nil {
		return err
	}
	for _, w := range writes {
		if _, err := d.WriteAt(w.Data, w.Offset); err != nil {
			return fmt.Errorf("write partition table: %w", err)
		}
		if err := d.Sync(); err != nil {
			return fmt.Errorf("write partition table: %w", err)
		}
	}
	return nil
}

// Equal reports whether both describe the same partitions on the same disk.
func (t *Table) Equal(o *Table) bool {
	a, err := t.Encode()
	b, oerr := o.Encode()
	if err != nil || oerr != nil || len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i].Data, b[i].Data) {
			return false
		}
	}
	return true
}
