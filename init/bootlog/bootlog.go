// Package bootlog keeps the journals and kernel crashes of the last boots on
// the data partition, so that one can read after a crash what led to it.
//
// Files are NUMBER.log, the journal of a boot; NUMBER.old, its earlier half when
// it was long; NUMBER.crash, what the kernel said when that boot ended in a
// panic (from pstore). Numbers count boots.
package bootlog

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of what is kept.
const (
	Boots    = 16      // older ones are removed
	maxHalf  = 1 << 20 // bytes of a journal file before the next one is begun
	maxCrash = 1 << 20 // bytes of a crash
)

// Log is the journal of the running boot. It is an io.Writer for whole lines,
// and not safe for concurrent use.
type Log struct {
	dir    string
	number int
	f      *os.File
	size   int
}

// Open begins the journal of a new boot in dir.
func Open(dir string) (*Log, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	numbers, err := List(dir)
	if err != nil {
		return nil, err
	}
	l := &Log{dir: dir, number: 1}
	if n := len(numbers); n > 0 {
		l.number = numbers[n-1] + 1
	}
	for ; len(numbers) >= Boots || len(numbers) > 0 && sizes(dir) > share(dir); numbers = numbers[1:] {
		if err := remove(dir, numbers[0]); err != nil {
			return nil, err
		}
	}
	if l.f, err = l.create(l.number, ".log"); err != nil {
		return nil, err
	}
	return l, nil
}

// create makes a file; on a full disk at the price of older boots.
func (l *Log) create(n int, ext string) (f *os.File, err error) {
	err = l.makingRoom(func() error {
		f, err = os.OpenFile(l.path(n, ext), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		return err
	})
	return f, err
}

// makingRoom removes the oldest boots, one at a time, while the disk is too full for what is to be done. The boot before this one is kept: it is the one
// that somebody wants to see.
func (l *Log) makingRoom(do func() error) error {
	for {
		err := do()
		if !errors.Is(err, unix.ENOSPC) {
			return err
		}
		numbers, lerr := List(l.dir)
		if lerr != nil || len(numbers) == 0 || numbers[0] >= l.number-1 {
			return err
		}
		if rerr := remove(l.dir, numbers[0]); rerr != nil {
			return errors.Join(err, rerr)
		}
	}
}

var extensions = []string{".old", ".log", ".crash"}

// remove forgets a boot.
func remove(dir string, n int) error {
	for _, ext := range extensions {
		if err := os.Remove(path(dir, n, ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sizes is what all boots in dir take.
func sizes(dir string) (n int64) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if i, err := e.Info(); err == nil && fileName.MatchString(e.Name()) {
			n += i.Size()
		}
	}
	return n
}

// share is how much of the disk earlier boots may take: a quarter, for the policy is on it too.
func share(dir string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 1 << 62
	}
	return int64(st.Blocks/4) * st.Bsize
}

// Number of this boot.
func (l *Log) Number() int { return l.number }

func (l *Log) path(n int, ext string) string { return path(l.dir, n, ext) }

func path(dir string, n int, ext string) string {
	return filepath.Join(dir, fmt.Sprintf("%08d%s", n, ext))
}

// Write adds lines. On a full disk older boots make room for them; what then finds none is lost.
func (l *Log) Write(p []byte) (int, error) {
	if l.f == nil {
		return 0, os.ErrClosed
	}
	if l.size+len(p) > maxHalf {
		if err := l.turn(); err != nil {
			return 0, err
		}
	}
	done := 0
	err := l.makingRoom(func() error {
		n, err := l.f.Write(p[done:])
		done += n
		return err
	})
	l.size += done
	return done, err
}

func (l *Log) turn() error {
	// It is not there when it was renamed before and the disk then had no room for the next one.
	if err := os.Rename(l.path(l.number, ".log"), l.path(l.number, ".old")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := l.create(l.number, ".log")
	if err != nil {
		return err
	}
	l.f.Close()
	l.f, l.size = f, 0
	return nil
}

// Close ends the journal, durably. Later writes are refused.
func (l *Log) Close() error {
	if l.f == nil {
		return nil
	}
	err := errors.Join(l.f.Sync(), l.f.Close())
	l.f = nil
	return err
}

// TakeCrash moves what pstore kept of the boot before this one to the disk, and
// tells whether there was anything. The firmware's memory, which is small and
// wears out, is free again afterwards.
func (l *Log) TakeCrash(pstore string) (bool, error) {
	entries, err := os.ReadDir(pstore)
	if err != nil || len(entries) == 0 {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	// dmesg-efi-170000000001 is part 1, the end of the story; the later parts are
	// what came before.
	slices.SortFunc(entries, func(a, b fs.DirEntry) int {
		return cmp.Or(cmp.Compare(len(b.Name()), len(a.Name())), strings.Compare(b.Name(), a.Name()))
	})
	var text []byte
	for _, e := range entries {
		b, err := readSome(filepath.Join(pstore, e.Name()))
		if err != nil {
			return false, err
		}
		text = append(append(text, b...), '\n')
	}
	if err := l.keepCrash(text[max(0, len(text)-maxCrash):]); err != nil {
		return false, fmt.Errorf("keep the crash log, which is in the firmware until there is room: %w", err)
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.Remove(filepath.Join(pstore, e.Name())))
	}
	return true, errors.Join(errs...)
}

// keepCrash writes the whole text or nothing.
func (l *Log) keepCrash(text []byte) error {
	return l.makingRoom(func() error {
		name := l.path(l.number-1, ".crash")
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		_, err = f.Write(text)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			os.Remove(name)
		}
		return err
	})
}

func readSome(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxCrash))
}

var fileName = regexp.MustCompile(`^(\d{8})\.(?:log|old|crash)$`)

// List gives the numbers of the boots in dir, the newest last.
func List(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, e := range entries {
		if m := fileName.FindStringSubmatch(e.Name()); m != nil {
			n, _ := strconv.Atoi(m[1]) // eight digits
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Show writes the journal and the crash of a boot: 0 is the running one, -1 the
// one before.
func Show(w io.Writer, dir string, boot int) error {
	numbers, err := List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("no journals of earlier boots are kept here: there is no data partition")
	}
	if err != nil {
		return err
	}
	at := len(numbers) - 1 + boot
	if boot > 0 || at < 0 {
		return fmt.Errorf("boot %d is not kept: there are 0 to %d", boot, 1-len(numbers))
	}
	for _, ext := range extensions {
		f, err := os.Open(path(dir, numbers[at], ext))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if ext == ".crash" {
			fmt.Fprintln(w, "--- the kernel's last words ---")
		}
		_, err = io.Copy(w, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
