package esp

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/secureboot"
	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/firmware/upgrade/bundle"
	"github.com/twinkeep/twinkeep/hal/watchdog"
	"github.com/twinkeep/twinkeep/init/data"
	"github.com/twinkeep/twinkeep/init/loader"
)

// Mountpoint of the EFI system partition while somebody works on it.
const Mountpoint = "/run/twinkeep/esp"

const lockFile = "/run/twinkeep/esp.lock"

// ErrNoDisk says that this image does not run from a disk.
var ErrNoDisk = errors.New("this system does not run from a disk, so there is nothing to upgrade: it is replaced where it was started from")

// System is the running box with its EFI system partition.
type System struct {
	Volume
	Box   upgrade.Box
	Disk  data.Disk
	place Place
	close func() error
}

// Place is where the slots are: the box that runs, which is the zero value, or a
// folder that stands for one (folder.go).
type Place struct{ Root string }

// Open opens the running box.
func Open() (*System, error) { return Place{}.Open() }

// Open mounts the partition of the running box and reads what is there. Only one
// at a time has it open. Close it.
func (p Place) Open() (_ *System, err error) {
	if p.Root != "" {
		return p.openFolder()
	}
	d, err := data.Read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoDisk
	}
	if err != nil {
		return nil, err
	}
	lock, err := openLock(lockFile)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	if err := os.MkdirAll(Mountpoint, 0o700); err != nil {
		return nil, err
	}
	// Left mounted by a process that was killed.
	unix.Unmount(Mountpoint, 0)
	if err := reclaim(d.ESP); err != nil {
		return nil, fmt.Errorf("EFI system partition %s: %w", d.ESP, err)
	}
	// iocharset: the kernel's default may not be in the image.
	if err := unix.Mount(d.ESP, Mountpoint, "vfat", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME, "umask=0077,iocharset=iso8859-1,shortname=mixed"); err != nil {
		return nil, fmt.Errorf("mount the EFI system partition %s: %w", d.ESP, err)
	}
	s := &System{Volume: Volume{Mountpoint}, Disk: d, place: p}
	s.close = func() error {
		return errors.Join(s.sync(), unix.Unmount(Mountpoint, 0), lock.Close())
	}
	if err := s.read(); err != nil {
		return nil, errors.Join(err, unix.Unmount(Mountpoint, 0))
	}
	return s, nil
}

// lockPatience is how long another one may have the partition open. Looking at
// it takes a moment, an installation a minute.
const lockPatience = 10 * time.Second

func openLock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := takeLock(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func takeLock(f *os.File) error {
	for end := time.Now().Add(lockPatience); ; time.Sleep(100 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock the EFI system partition: %w", err)
		}
		if time.Now().After(end) {
			return errors.New("another upgrade, rollback or confirmation is under way")
		}
	}
}

// Close unmounts the partition. Closing again does nothing.
func (s *System) Close() error {
	c := s.close
	s.close = func() error { return nil }
	return c()
}

func (s *System) read() error {
	var entry string
	if s.place.Root == "" {
		text, err := os.ReadFile(upgrade.ReleaseFile)
		if err != nil {
			return err
		}
		if s.Box.Release, err = upgrade.ParseRelease(text); err != nil {
			return err
		}
		info, err := loader.Read(loader.Vars)
		if err != nil {
			return err
		}
		entry = info.Entry
	} else if err := s.readFolder(&entry); err != nil {
		return err
	}
	var err error
	if s.Box.Table, err = s.Volume.Table(); s.Box.Table == nil && err != nil {
		return err
	}
	s.Box.Running = s.Volume.Running(entry, s.Box.Release)
	if s.trialLoader() {
		s.Box.Watchdog = cmp.Or(watchdog.Loader(os.DirFS("/sys")), upgrade.NoWatchdog)
	}
	return nil
}

// trialLoader tells whether the partition has a trial loader that the firmware would start. Disks of older releases have none.
func (v Volume) trialLoader() bool {
	image, err := readSome(v.path(upgrade.TrialLoader), 1<<20)
	return err == nil && secureboot.Check("", image) == nil
}

// Keys are the public keys that upgrade files must be signed with.
func (p Place) Keys() ([]ed25519.PublicKey, error) {
	name := upgrade.KeysFile
	if p.Root != "" {
		name = filepath.Join(p.Root, folderKeys)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("keys for upgrades: %w", err)
	}
	return bundle.ParseKeys(string(text))
}

// BootID is another one after every start of the machine.
func (p Place) BootID() (string, error) {
	name := "/proc/sys/kernel/random/boot_id"
	if p.Root != "" {
		name = filepath.Join(p.Root, folderBoot)
	}
	text, err := os.ReadFile(name)
	return strings.TrimSpace(string(text)), err
}

// Counted tells whether the running image was started on trial; the entries on
// the disk tell whether it still is.
func (p Place) Counted() (known, counted bool) {
	if p.Root != "" {
		return false, false
	}
	info, err := loader.Read(loader.Vars)
	return err == nil && info.Entry != "", info.CountPath != ""
}
