package esp

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/firmware/upgrade/bundle"
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
	close func() error
}

// Open mounts the partition of the running box and reads what is there. Only one
// at a time has it open. Close it.
func Open() (_ *System, err error) {
	d, err := data.Read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoDisk
	}
	if err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	if err := takeLock(lock); err != nil {
		return nil, err
	}
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
	s := &System{Volume: Volume{Mountpoint}, Disk: d}
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
	text, err := os.ReadFile(upgrade.ReleaseFile)
	if err != nil {
		return err
	}
	if s.Box.Release, err = upgrade.ParseRelease(text); err != nil {
		return err
	}
	if s.Box.Table, err = s.Volume.Table(); s.Box.Table == nil && err != nil {
		return err
	}
	info, err := loader.Read(loader.Vars)
	s.Box.Running = s.Volume.Running(info.Entry, s.Box.Release)
	return err
}

// Keys are the public keys that upgrade files must be signed with.
func Keys() ([]ed25519.PublicKey, error) {
	text, err := os.ReadFile(upgrade.KeysFile)
	if err != nil {
		return nil, fmt.Errorf("keys for upgrades: %w", err)
	}
	return bundle.ParseKeys(string(text))
}
