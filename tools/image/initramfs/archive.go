// Package initramfs writes the file system of the image as a compressed newc
// archive. The same content gives the same bytes: entries are sorted, times
// are zero, owner is root, inode numbers count from 1.
package initramfs

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

// Archive collects entries. The zero value is an empty archive.
type Archive struct {
	records map[string]cpio.Record
}

// Dir adds a folder; parents are added with mode 0755 when the archive is
// written.
func (a *Archive) Dir(name string, mode uint64) error {
	return a.add(cpio.Directory(clean(name), mode))
}

// File adds a regular file.
func (a *Archive) File(name string, mode uint64, data []byte) error {
	return a.add(cpio.StaticRecord(data, cpio.Info{Name: clean(name), Mode: cpio.S_IFREG | mode}))
}

// Symlink adds a symbolic link.
func (a *Archive) Symlink(name, target string) error { return a.add(cpio.Symlink(clean(name), target)) }

// Char adds a character device. An unprivileged build can do this: it only
// writes bytes.
func (a *Archive) Char(name string, mode uint64, major, minor uint64) error {
	return a.add(cpio.CharDev(clean(name), mode, major, minor))
}

// clean gives names the form they have in an archive: relative, no dots.
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func (a *Archive) add(r cpio.Record) error {
	if r.Name == "" {
		return fmt.Errorf("archive: an entry has no name")
	}
	if a.records == nil {
		a.records = make(map[string]cpio.Record)
	}
	if _, dup := a.records[r.Name]; dup {
		return fmt.Errorf("archive: %s is added twice", r.Name)
	}
	a.records[r.Name] = r
	return nil
}

// Size is the sum of the sizes of all files, in bytes.
func (a *Archive) Size() int64 {
	var n int64
	for _, r := range a.records {
		n += int64(r.FileSize)
	}
	return n
}

// Content returns what a regular file holds.
func (a *Archive) Content(name string) ([]byte, bool) {
	r, ok := a.records[clean(name)]
	if !ok || r.Mode&cpio.S_IFMT != cpio.S_IFREG {
		return nil, false
	}
	data := make([]byte, r.FileSize)
	if n, err := r.ReadAt(data, 0); uint64(n) != r.FileSize && err != nil {
		return nil, false
	}
	return data, true
}

// Names lists the entries, sorted.
func (a *Archive) Names() []string {
	names := make([]string, 0, len(a.records))
	for n := range a.records {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// WriteCPIO writes the archive uncompressed.
func (a *Archive) WriteCPIO(w io.Writer) error {
	for _, name := range a.Names() {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := a.records[dir]; !ok {
				a.records[dir] = cpio.Directory(dir, 0o755)
			}
		}
	}
	rw := cpio.Newc.Writer(w)
	// Sorting puts a folder before what is in it.
	for i, name := range a.Names() {
		r := a.records[name]
		r.Info = cpio.Info{
			Ino: uint64(i + 1), Mode: r.Mode, NLink: 1,
			FileSize: r.FileSize, Rmajor: r.Rmajor, Rminor: r.Rminor, Name: r.Name,
		}
		if err := rw.WriteRecord(r); err != nil {
			return fmt.Errorf("archive: write %s: %w", name, err)
		}
	}
	if err := cpio.WriteTrailer(rw); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	return nil
}

// Compress packs data with zstd. One encoder thread: with more, the bytes
// depend on how they share the work. The window covers all three Go programs,
// which have much in common; the kernel refuses windows above 128 MiB.
func Compress(data []byte) ([]byte, error) {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(zstd.SpeedBestCompression),
		zstd.WithWindowSize(64<<20))
	if err != nil {
		return nil, fmt.Errorf("compress the archive: %w", err)
	}
	defer enc.Close()
	return enc.EncodeAll(data, nil), nil
}

// Pack writes and compresses.
func (a *Archive) Pack() ([]byte, error) {
	var raw bytes.Buffer
	if err := a.WriteCPIO(&raw); err != nil {
		return nil, err
	}
	return Compress(raw.Bytes())
}

// Differences names the entries that are not the same in both archives.
func (a *Archive) Differences(b *Archive) []string {
	var out []string
	for _, name := range a.Names() {
		if other, ok := b.records[name]; !ok || !cpio.Equal(a.records[name], other) {
			out = append(out, name)
		}
	}
	for _, name := range b.Names() {
		if _, ok := a.records[name]; !ok {
			out = append(out, name)
		}
	}
	return out
}
