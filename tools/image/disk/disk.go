// Package disk writes the image of a whole disk: a GUID partition table, the
// EFI system partition with its files, and room for the data partition, which
// PID 1 fills at the first boot. It needs no root, no loop device and no
// mount, and the same input gives the same bytes.
package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/filesystem/fat32"

	"github.com/twinkeep/twinkeep/init/gpt"
)

const mib = 1 << 20

// Names of the partitions. PID 1 and the upgrade find them by these.
const (
	ESPName  = "twinkeep-esp"
	DataName = "twinkeep-data"
)

// Layout of the disk in bytes.
const (
	// ESPSize has room for two slots and a third image while it is written, of
	// 24 MB each, and for them to grow by half in ten years.
	ESPSize = 128 * mib
	// DataSize is what the image itself carries; PID 1 grows it to the disk.
	DataSize  = 16 * mib
	espOffset = 1 * mib
	// Size of the image.
	Size = espOffset + ESPSize + DataSize + mib
)

// size of an image whose EFI system partition has esp bytes.
func size(esp int64) int64 { return Size - ESPSize + esp }

// File on the EFI system partition.
type File struct {
	Path string // absolute, with slashes
	Data []byte
}

// Write writes an image with these files to a new file.
func Write(name string, files []File) error { return WriteSized(name, ESPSize, files) }

// WriteSized is Write with an EFI system partition of esp bytes, a multiple of 1 MiB: kernels of other architectures are
// larger.
func WriteSized(name string, esp int64, files []File) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if err := f.Truncate(size(esp)); err != nil {
		return err
	}
	if err := table(esp, files).Store(f); err != nil {
		return err
	}
	if err := writeESP(f, esp, files); err != nil {
		return fmt.Errorf("EFI system partition: %w", err)
	}
	return nil
}

// table: the GUIDs come from the content, so that they are the same in every
// build and different for different images. PID 1 gives each disk its own at
// the first boot.
func table(esp int64, files []File) *gpt.Table {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%s %d\n", f.Path, len(f.Data))
		h.Write(f.Data)
	}
	sum := h.Sum(nil)
	end := espOffset + esp
	return &gpt.Table{
		Disk: guid(sum, "disk"), Sectors: uint64(size(esp) / gpt.Sector),
		Partitions: []gpt.Partition{
			{Type: gpt.TypeESP, ID: guid(sum, ESPName), First: espOffset / gpt.Sector, Last: uint64(end/gpt.Sector - 1), Name: ESPName},
			{Type: gpt.TypeLinux, ID: guid(sum, DataName), First: uint64(end / gpt.Sector), Last: uint64((end+DataSize)/gpt.Sector - 1), Name: DataName},
		},
	}
}

func guid(seed []byte, purpose string) gpt.GUID {
	sum := sha256.Sum256(append([]byte(purpose+"\n"), seed...))
	g := gpt.GUID(sum[:16])
	g[7] = g[7]&0x0f | 0x80 // RFC 9562 version 8: made up by us
	g[8] = g[8]&0x3f | 0x80
	return g
}

func writeESP(f *os.File, size int64, files []File) error {
	// The times of the files come from here; the library offers no other way.
	old, had := os.LookupEnv("SOURCE_DATE_EPOCH")
	if err := os.Setenv("SOURCE_DATE_EPOCH", "946684800"); err != nil { // 2000-01-01; FAT begins in 1980
		return err
	}
	defer func() {
		if had {
			os.Setenv("SOURCE_DATE_EPOCH", old)
		} else {
			os.Unsetenv("SOURCE_DATE_EPOCH")
		}
	}()
	esp, err := fat32.Create(window{f}, size, 0, gpt.Sector, "TWINKEEP", true)
	if err != nil {
		return err
	}
	made := []string{"/"}
	for _, file := range files {
		var parents []string
		for d := path.Dir(file.Path); !slices.Contains(made, d); d = path.Dir(d) {
			parents = append(parents, d)
			made = append(made, d)
		}
		slices.Reverse(parents)
		for _, d := range parents {
			if err := esp.Mkdir(d); err != nil {
				return fmt.Errorf("make %s: %w", d, err)
			}
		}
		w, err := esp.OpenFile(file.Path, os.O_CREATE|os.O_RDWR)
		if err != nil {
			return fmt.Errorf("create %s: %w", file.Path, err)
		}
		if _, err := w.Write(file.Data); err != nil {
			return fmt.Errorf("write %s: %w", file.Path, err)
		}
		if err := w.Close(); err != nil {
			return fmt.Errorf("write %s: %w", file.Path, err)
		}
	}
	return mendParents(window{f})
}

// mendParents corrects the entries ".." of the folders in the root: by the FAT
// specification they name cluster 0, and go-diskfs v1.9.4 writes the number of
// the root's cluster, which fsck.vfat takes for a fault.
func mendParents(w window) error {
	boot := make([]byte, gpt.Sector)
	if _, err := w.ReadAt(boot, 0); err != nil {
		return err
	}
	le := binary.LittleEndian
	cluster := int64(boot[13]) * gpt.Sector
	data := (int64(le.Uint16(boot[14:])) + int64(boot[16])*int64(le.Uint32(boot[36:]))) * gpt.Sector
	at := func(n uint32) int64 { return data + (int64(n)-2)*cluster }

	root := make([]byte, cluster)
	if _, err := w.ReadAt(root, at(le.Uint32(boot[44:]))); err != nil {
		return err
	}
	const entry, attrDir, attrLong = 32, 0x10, 0x0f
	for e := root; len(e) >= entry && e[0] != 0; e = e[entry:] {
		if e[11]&attrLong == attrLong || e[11]&attrDir == 0 {
			continue
		}
		first := uint32(le.Uint16(e[20:]))<<16 | uint32(le.Uint16(e[26:]))
		dotdot := make([]byte, entry)
		if _, err := w.ReadAt(dotdot, at(first)+entry); err != nil {
			return err
		}
		if !bytes.HasPrefix(dotdot, []byte("..  ")) {
			return fmt.Errorf("folder %q has no entry for its parent", e[:11])
		}
		le.PutUint16(dotdot[20:], 0)
		le.PutUint16(dotdot[26:], 0)
		if _, err := w.WriteAt(dotdot, at(first)+entry); err != nil {
			return err
		}
	}
	return nil
}

// window is the EFI system partition as the FAT library wants to see it.
type window struct{ f *os.File }

var _ backend.Storage = window{}

func (w window) ReadAt(p []byte, off int64) (int, error)  { return w.f.ReadAt(p, off+espOffset) }
func (w window) WriteAt(p []byte, off int64) (int, error) { return w.f.WriteAt(p, off+espOffset) }
func (w window) Writable() (backend.WritableFile, error)  { return w, nil }
func (w window) Sys() (*os.File, error)                   { return w.f, nil }
func (w window) Stat() (fs.FileInfo, error)               { return w.f.Stat() }
func (w window) Path() string                             { return w.f.Name() }
func (window) Close() error                               { return nil }
func (window) Read([]byte) (int, error)                   { return 0, errSequential }
func (window) Write([]byte) (int, error)                  { return 0, errSequential }
func (window) Seek(int64, int) (int64, error)             { return 0, errSequential }

var errSequential = errors.New("sequential access to a partition")
