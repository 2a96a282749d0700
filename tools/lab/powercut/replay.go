package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/filesystem/fat32"

	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp"
	"github.com/twinkeep/twinkeep/tools/image/disk"
	"github.com/twinkeep/twinkeep/tools/lab/box"
	"github.com/twinkeep/twinkeep/tools/lab/nbd"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
)

// replay records what a box writes during one upgrade, from the installation
// over the trial to the confirmation, and then makes the disks that power cuts at
// random moments of it would leave. Each is judged without booting it: what the
// loader would start must be a whole image, and so must what it would start next
// if that one is on trial and fails.
func replay(ctx context.Context, o options, m *box.Maker, accel qemu.Accel) error {
	t := &tally{begin: time.Now(), cuts: make(map[string]int), slots: make(map[string]int)}
	dir := filepath.Join(o.work, "replay")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	w, err := newWorker(0, dir, o.seed, m, accel, t)
	if err != nil {
		return err
	}
	base, records, err := w.recorded(ctx, filepath.Join(dir, "recording"))
	if err != nil {
		return err
	}
	fmt.Printf("recorded %d writes and flushes of an upgrade in %.0f s\n", len(records), time.Since(t.begin).Seconds())
	r := rand.New(rand.NewPCG(o.seed, 99))
	boots, unreadable := make(map[string]int), make(map[string]int)
	lost, n := 0, 0
	for ; n < o.replay && ctx.Err() == nil; n++ {
		at := r.IntN(len(records) + 1)
		d := &crashed{base: base, over: make(map[int64][]byte)}
		gone := d.apply(records[:at], r, []float64{0, 0.1, 0.5, 0.9, 1}[r.IntN(5)])
		lost += gone
		slot, err := judge(d)
		if err != nil {
			return fmt.Errorf("cut %d, after %d of %d writes with %d sectors lost: %w", n, at, len(records), gone, err)
		}
		boots[slot]++
		for _, name := range d.unreadable {
			unreadable[name]++
		}
	}
	fmt.Printf("%d power cuts replayed, %d sectors lost, in %.0f s; the loader would start: %v\n", n, lost, time.Since(t.begin).Seconds(), boots)
	fmt.Printf("entries caught half removed, which no reader can open: %v\n", unreadable)
	fmt.Println("in each of them that is a whole image, and so is the one behind it")
	return nil
}

// recorded takes the recording of an earlier run with the same -work, or makes
// one.
func (w *worker) recorded(ctx context.Context, file string) ([]byte, []nbd.Record, error) {
	var kept struct {
		Base    []byte
		Records []nbd.Record
	}
	if f, err := os.Open(file); err == nil {
		defer f.Close()
		err := gob.NewDecoder(f).Decode(&kept)
		return kept.Base, kept.Records, err
	}
	var err error
	if kept.Base, kept.Records, err = w.recordUpgrade(ctx); err != nil {
		return nil, nil, err
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	return kept.Base, kept.Records, gob.NewEncoder(f).Encode(kept)
}

// recordUpgrade runs a box and gives the EFI system partition as it was before,
// and everything that was written to it.
func (w *worker) recordUpgrade(ctx context.Context) ([]byte, []nbd.Record, error) {
	defer w.launcher.Close()
	defer w.off()
	if err := w.newDisk(); err != nil {
		return nil, nil, err
	}
	defer w.disk.Close()
	if _, err := w.back(ctx); err != nil {
		return nil, nil, err
	}
	// A first upgrade fills slot B, so that the recorded one replaces an image.
	for n := range 2 {
		if err := w.acknowledge(ctx); err != nil {
			return nil, nil, err
		}
		raw, err := os.ReadFile(w.file)
		if err != nil {
			return nil, nil, err
		}
		w.disk.StartRecording()
		if err := w.box.Enter("upgrade install /dev/vdb --force"); err != nil {
			return nil, nil, err
		}
		for _, pattern := range []string{`This device restarts`, `is permanent now`} {
			if _, err := w.see(ctx, pattern); err != nil {
				return nil, nil, err
			}
		}
		if err := w.acknowledge(ctx); err != nil {
			return nil, nil, err
		}
		if n == 1 {
			return raw[espOffset : espOffset+disk.ESPSize], inside(w.disk.Recorded()), nil
		}
	}
	return nil, nil, errors.New("not reached")
}

const espOffset = 1 << 20

// inside keeps what concerns the EFI system partition, with its own offsets.
func inside(all []nbd.Record) []nbd.Record {
	var out []nbd.Record
	for _, r := range all {
		r.Off -= espOffset
		if r.Flush || r.Off >= 0 && r.Off < disk.ESPSize {
			out = append(out, r)
		}
	}
	return out
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

// apply writes what was recorded; what comes behind the last flush survives
// sector by sector with probability keep. It returns how many are lost.
func (d *crashed) apply(records []nbd.Record, r *rand.Rand, keep float64) (lost int) {
	last := 0
	for i, x := range records {
		if x.Flush {
			last = i
		}
	}
	for i, x := range records {
		for at := 0; at < len(x.Data); at += nbd.Sector {
			if i > last && !x.FUA && r.Float64() >= keep {
				lost++
				continue
			}
			d.over[(x.Off+int64(at))/nbd.Sector] = x.Data[at : at+nbd.Sector]
		}
	}
	return lost
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
