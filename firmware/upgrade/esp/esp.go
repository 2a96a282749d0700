// Package esp carries out upgrades on the EFI system partition: it reads the
// entries and images that are there, writes a new image beside the slots, reads
// it back, and applies the changes that package upgrade decides.
package esp

import (
	"crypto/sha256"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/upgrade"
)

// Volume is a mounted EFI system partition, or a folder that looks like one.
type Volume struct {
	Root string
}

// staged is the image that is being written, and staging the entry.
const (
	staged  = "/EFI/twinkeep/new.efi"
	staging = "/new.tmp"
)

func (v Volume) path(name string) string { return filepath.Join(v.Root, name) }

// Table reads the entries of the slots. Files that are not ours are left alone;
// ours that cannot be read are reported and left out.
func (v Volume) Table() (upgrade.Table, error) {
	list, err := os.ReadDir(v.path(upgrade.EntriesDir))
	if err != nil {
		return nil, fmt.Errorf("read the boot entries: %w", err)
	}
	var t upgrade.Table
	var errs []error
	for _, f := range list {
		name := f.Name()
		if c := strings.ToLower(name); !strings.HasSuffix(c, ".conf") || c[0] != 'a' && c[0] != 'b' {
			continue
		}
		text, err := readSome(v.path(upgrade.EntriesDir+"/"+name), upgrade.MaxEntry+1)
		if err == nil {
			var e upgrade.Entry
			if e, err = upgrade.ParseEntry(name, text); err == nil {
				t = append(t, e)
			}
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return t, errors.Join(errs...)
}

func readSome(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// Release reads what the image in a slot says of itself.
func (v Volume) Release(s upgrade.Slot) (upgrade.Release, error) {
	r, err := release(v.path(s.Image()))
	if err != nil {
		return r, fmt.Errorf("image in slot %s: %w", s, err)
	}
	return r, nil
}

func release(name string) (upgrade.Release, error) {
	f, err := pe.Open(name)
	if err != nil {
		return upgrade.Release{}, fmt.Errorf("not an EFI executable: %w", err)
	}
	defer f.Close()
	sec := f.Section(".osrel")
	if sec == nil || sec.VirtualSize > sec.Size || sec.Size > 64<<10 || f.Section(".linux") == nil || f.Section(".initrd") == nil {
		return upgrade.Release{}, errors.New("an EFI executable without kernel, initramfs or description")
	}
	text, err := sec.Data()
	if err != nil {
		return upgrade.Release{}, err
	}
	return upgrade.ParseRelease(text[:sec.VirtualSize])
}

// Running finds the slot that runs: entry is what the boot loader says it
// started, e.g. "b+1.conf"; without it the slot whose image is the release that
// runs, if there is exactly one. Else it is "".
func (v Volume) Running(entry string, running upgrade.Release) upgrade.Slot {
	if s := upgrade.SlotOf(entry); s != "" {
		return s
	}
	var is []upgrade.Slot
	for _, s := range []upgrade.Slot{upgrade.A, upgrade.B} {
		if r, err := v.Release(s); err == nil && r == running {
			is = append(is, s)
		}
	}
	if len(is) == 1 {
		return is[0]
	}
	return ""
}

// Verify compares the image in a slot with what its entry says.
func (v Volume) Verify(e upgrade.Entry) error {
	if e.Size == 0 {
		return nil // the entry does not say
	}
	sum, size, err := hashFile(v.path(e.Slot.Image()))
	if err != nil {
		return fmt.Errorf("image in slot %s: %w", e.Slot, err)
	}
	if size != e.Size || sum != e.SHA256 {
		return fmt.Errorf("image in slot %s is damaged: %d bytes with SHA-256 %x, it was written with %d and %x", e.Slot, size, sum, e.Size, e.SHA256)
	}
	return nil
}

func hashFile(name string) (sum [32]byte, size int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return sum, 0, err
	}
	defer f.Close()
	// What is read shall come from the disk.
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return sum, 0, err
	}
	h := sha256.New()
	size, err = io.Copy(h, f)
	h.Sum(sum[:0])
	return sum, size, err
}

// ErrFull says that the image does not fit.
var ErrFull = errors.New("the EFI system partition is full")

// Stage writes an image beside the slots, makes it durable, and reads it back
// from the disk. No slot is touched. image must end with an error if it is not
// the one that c describes (bundle.Reader does). progress may be nil.
func (v Volume) Stage(image io.Reader, c upgrade.Candidate, progress func(written int64)) (err error) {
	name := v.path(staged)
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(v.Root, &st); err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	// Some clusters more, for the folder and the entry.
	if free, need := int64(st.Bavail)*st.Bsize, c.Size+64<<10; free < need {
		return fmt.Errorf("%w: %d KiB are free, %d are needed", ErrFull, free>>10, need>>10)
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(name)
			v.sync()
		}
	}()
	n, err := io.Copy(&counter{w: f, progress: progress}, image)
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case err != nil:
		return fmt.Errorf("write the image: %w", err)
	case n != c.Size:
		return fmt.Errorf("write the image: %d bytes came, %d were announced", n, c.Size)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write the image: %w", err)
	}
	if err := v.sync(); err != nil {
		return err
	}
	sum, size, err := hashFile(name)
	if err != nil {
		return fmt.Errorf("read the image back: %w", err)
	}
	if size != c.Size || sum != c.SHA256 {
		return errors.New("read the image back: the disk returned something else than was written; replace the disk. The slots are as they were")
	}
	return nil
}

type counter struct {
	w        io.Writer
	n        int64
	progress func(int64)
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if c.n += int64(n); c.progress != nil {
		c.progress(c.n)
	}
	return n, err
}

// sync makes everything on the partition durable, also the tables of the FAT
// file system, which fsync of a file does not promise. syncfs alone leaves it in
// the disk's own cache: FAT has no sync_fs in the kernel, and only its fsync, here
// of the root folder, flushes the disk.
func (v Volume) sync() error {
	d, err := os.Open(v.Root)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := errors.Join(unix.Syncfs(int(d.Fd())), d.Sync()); err != nil {
		return fmt.Errorf("write to the EFI system partition: %w", err)
	}
	return nil
}

// Apply makes the changes in order, each durable before the next. After an error
// the rest is not done: every state in between boots.
func (v Volume) Apply(ops []upgrade.Op) error {
	for _, op := range ops {
		if err := v.apply(op); err != nil {
			return fmt.Errorf("%v: %w", op, err)
		}
		if err := v.sync(); err != nil {
			return fmt.Errorf("%v: %w", op, err)
		}
	}
	return nil
}

// Failsafe writes the failsafe entries that are missing: disks of older releases
// have none.
func (v Volume) Failsafe() error {
	for _, s := range []upgrade.Slot{upgrade.A, upgrade.B} {
		name := v.path(upgrade.EntriesDir + "/" + s.Failsafe())
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := v.Apply([]upgrade.Op{{Kind: upgrade.WriteEntry, Name: s.Failsafe(), Data: s.FailsafeEntry()}}); err != nil {
			return err
		}
	}
	return nil
}

func (v Volume) apply(op upgrade.Op) error {
	switch op.Kind {
	case upgrade.RemoveEntry:
		return os.Remove(v.path(upgrade.EntriesDir + "/" + op.Name))
	case upgrade.ReplaceImage:
		return os.Rename(v.path(staged), v.path(upgrade.Slot(op.Name).Image()))
	case upgrade.WriteEntry:
		tmp := v.path(upgrade.EntriesDir + staging)
		if err := os.WriteFile(tmp, op.Data, 0o644); err != nil {
			return err
		}
		if err := v.sync(); err != nil {
			return err
		}
		return os.Rename(tmp, v.path(upgrade.EntriesDir+"/"+op.Name))
	}
	return fmt.Errorf("unknown change %d", op.Kind)
}
