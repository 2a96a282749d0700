package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/filesystem/fat32"

	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp"
	"github.com/twinkeep/twinkeep/tools/image/disk"
	"github.com/twinkeep/twinkeep/tools/lab/nbd"
)

// replay makes the disks that power cuts leave, as fork does, and judges them without booting: far more moments can be looked at. What the
// loader would start must be a whole image, and so must what it would start next if that one is on trial and fails. The data partition must be
// whole once its journal is replayed, and hold what was acknowledged, as the box's own code reads it.
func replay(ctx context.Context, o options, scenes []*scene) error {
	began := time.Now()
	dir, err := os.MkdirTemp(o.work, "replay-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	boots, unreadable, per, repaired := make(map[string]int), make(map[string]int), make(map[string]int), 0
	var failures []string
	sectors, lost, n := 0, 0, 0
	for ; n < o.replay && !o.late(); n++ {
		c := cutOf(scenes, o.seed, n)
		v, err := c.judge(ctx, dir)
		if ctx.Err() != nil {
			break
		}
		sectors, lost = sectors+v.sectors, lost+v.lost
		per[c.Name]++
		if err != nil {
			failures = append(failures, fmt.Sprintf("cut %d during %s, after %d of %d writes: %v", n, c.Name, c.at, len(c.Records), err))
			continue
		}
		if v.repaired {
			repaired++
		}
		boots[v.slot]++
		for _, name := range v.unreadable {
			unreadable[name]++
		}
	}
	fmt.Printf("%d power cuts judged without a boot in %.0f s: %s\n", n, time.Since(began).Seconds(), counts(per))
	fmt.Printf("write cache: %d sectors, %d of them lost\n", sectors, lost)
	fmt.Printf("the loader would start: %s; entries caught half removed, which no reader can open: %v\n", counts(boots), unreadable)
	if len(failures) > 0 {
		return fmt.Errorf("%d are not as they should be:\n%s", len(failures), strings.Join(failures, "\n"))
	}
	fmt.Printf("in each of them that is a whole image, and so is the one behind it; the data partition has what was acknowledged (%d needed e2fsck after the journal)\n", repaired)
	return nil
}

// verdict is what a disk is like after a cut.
type verdict struct {
	sectors, lost int
	slot          string
	unreadable    []string // entries
	repaired      bool     // the data partition
}

func (c cut) judge(ctx context.Context, dir string) (v verdict, err error) {
	name := filepath.Join(dir, "disk")
	if v.sectors, v.lost, err = c.disk(ctx, name); err != nil {
		return v, err
	}
	d, err := espOf(name)
	if err == nil {
		v.slot, err = judge(d)
		v.unreadable = d.unreadable
	}
	if err == nil {
		v.repaired, err = c.judgeData(ctx, name, filepath.Join(dir, "files"))
	}
	return v, err
}

const espOffset = 1 << 20

// espOf reads the EFI system partition of a disk.
func espOf(name string) (*crashed, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d := &crashed{base: make([]byte, disk.ESPSize), over: make(map[int64][]byte)}
	_, err = f.ReadAt(d.base, espOffset)
	return d, err
}

// crashed is the partition after a power cut: base with sectors over it.
type crashed struct {
	base []byte
	over map[int64][]byte
	// unreadable are the entries that judge left out.
	unreadable []string
}

func (d *crashed) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(d.base)) {
		return 0, io.EOF
	}
	n := copy(p, d.base[off:])
	for s := off / nbd.Sector; s*nbd.Sector < off+int64(n); s++ {
		if b, ok := d.over[s]; ok {
			lo, hi := max(off, s*nbd.Sector), min(off+int64(n), (s+1)*nbd.Sector)
			copy(p[lo-off:hi-off], b[lo-s*nbd.Sector:])
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *crashed) WriteAt(p []byte, off int64) (int, error) {
	if off%nbd.Sector != 0 || len(p)%nbd.Sector != 0 {
		return 0, errors.New("not whole sectors")
	}
	for i := 0; i < len(p); i += nbd.Sector {
		d.over[(off+int64(i))/nbd.Sector] = append([]byte(nil), p[i:i+nbd.Sector]...)
	}
	return len(p), nil
}

// judge tells which slot the loader would start.
func judge(d *crashed) (string, error) {
	if _, err := esp.Reclaim(d); err != nil {
		return "", err
	}
	f, err := fat32.Read(storage{d}, disk.ESPSize, 0, nbd.Sector)
	if err != nil {
		return "", err
	}
	list, err := f.ReadDir(strings.TrimPrefix(upgrade.EntriesDir, "/"))
	if err != nil {
		return "", err
	}
	var table upgrade.Table
	for _, e := range list {
		name := e.Name()
		if upgrade.SlotOf(name) == "" || upgrade.IsFailsafe(name) {
			continue
		}
		text, err := readFile(f, upgrade.EntriesDir+"/"+name)
		if err != nil {
			// An entry that is being removed: its cluster is free already, its name
			// still there. The loader leaves out what it cannot read; if it can, the
			// image is still there too, for that is replaced after the removal.
			d.unreadable = append(d.unreadable, name)
			continue
		}
		entry, err := upgrade.ParseEntry(name, text)
		if err != nil {
			return "", fmt.Errorf("%w: %q", err, text)
		}
		table = append(table, entry)
	}
	order := table.Order()
	for _, e := range order {
		image, err := readFile(f, e.Slot.Image())
		if err != nil {
			return "", fmt.Errorf("%s: %w", e.Name(), err)
		}
		if int64(len(image)) != e.Size || sha256.Sum256(image) != e.SHA256 {
			return "", fmt.Errorf("%s names an image of %d bytes that is not whole (%d)", e.Name(), e.Size, len(image))
		}
		if e.State(false) == upgrade.Good {
			first := order[0]
			return fmt.Sprintf("%s %s", first.Slot, first.State(false)), nil
		}
	}
	return "", fmt.Errorf("no good entry is left: %+v", order)
}

func readFile(f *fat32.FileSystem, name string) ([]byte, error) {
	r, err := f.OpenFile(strings.TrimPrefix(name, "/"), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// storage is the partition as the FAT library wants to see it. The library
// refuses a partition whose two allocation tables differ, as they do between two
// writes; firmware reads the first one, so that is shown in place of both.
type storage struct{ *crashed }

func (s storage) ReadAt(p []byte, off int64) (int, error) {
	boot := make([]byte, nbd.Sector)
	if _, err := s.crashed.ReadAt(boot, 0); err != nil {
		return 0, err
	}
	le := binary.LittleEndian
	first, size := int64(le.Uint16(boot[14:]))*nbd.Sector, int64(le.Uint32(boot[36:]))*nbd.Sector
	if off >= first+size && off+int64(len(p)) <= first+2*size {
		off -= size
	}
	return s.crashed.ReadAt(p, off)
}

var _ backend.Storage = storage{}

var errSequential = errors.New("sequential access to a partition")

func (storage) Writable() (backend.WritableFile, error) { return nil, backend.ErrIncorrectOpenMode }
func (storage) Sys() (*os.File, error)                  { return nil, backend.ErrNotSuitable }
func (storage) Stat() (fs.FileInfo, error)              { return nil, errSequential }
func (storage) Path() string                            { return "" }
func (storage) Close() error                            { return nil }
func (storage) Read([]byte) (int, error)                { return 0, errSequential }
func (storage) Seek(int64, int) (int64, error)          { return 0, errSequential }
