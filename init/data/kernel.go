package data

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/init/gpt"
)

// Options of Open.
type Options struct {
	Partition string        // GUID of the partition the loader came from, or ""
	Patience  time.Duration // how long the disk may take to appear
	Probe     func()        // loads drivers of disks that have appeared
	Say       func(format string, args ...any)
}

// Open finds the disk, grows, creates or repairs the data partition and mounts
// it at Mountpoint. It writes StateFile as soon as the disk is found, also when
// the rest fails: an upgrade needs the EFI system partition only.
func Open(o Options) (Disk, error) {
	f, err := find(o.Partition, o.Patience, o.Probe, o.Say)
	if err != nil {
		return Disk{}, err
	}
	d := Disk{Name: f.name, ESP: partitionFile(f.name, f.esp+1), Data: partitionFile(f.name, f.data+1)}
	head, err := f.head()
	if err != nil {
		o.Say("data partition: %v", err)
	}
	condition := Inspect(head)
	if err != nil {
		// A disk that cannot be read is not a blank one.
		condition = Foreign
	}
	if f.table.FromBackup {
		o.Say("disk %s: the partition table was damaged, it is restored from its backup", f.name)
	}
	if grown, err := f.grow(condition == Blank); err != nil {
		o.Say("disk %s: %v", f.name, err)
	} else if grown {
		o.Say("disk %s: the data partition has %d MiB now", f.name, f.table.Partitions[f.data].Size()>>20)
	}
	if err := d.store(); err != nil {
		return d, err
	}
	if err := waitFor(d.Data, 5*time.Second); err != nil {
		return d, err
	}
	e := ext4{d.Data, Mountpoint, o.Say}
	outcome, err := Bring(condition, e, o.Say)
	d.Lost = outcome.Lost
	_, serr := os.Stat(filepath.Join(Mountpoint, ResetFile))
	switch asked := err == nil && serr == nil; {
	case asked && outcome.ReadOnly:
		o.Say("data partition: a factory reset was asked for, and nothing can be erased: destroy the disk")
		err = errors.Join(errors.New("a disk that is to be erased is not used"), unix.Unmount(Mountpoint, 0))
	case asked:
		o.Say("data partition: factory reset, all configuration, keys and journals are erased")
		outcome.Created = true
		err = reset(e)
	}
	if err != nil {
		return d, fmt.Errorf("data partition %s: %w", d.Data, err)
	}
	if outcome.ReadOnly {
		return d, d.store()
	}
	if err := e.settle(outcome.Created); err != nil {
		o.Say("data partition: %v", err)
	}
	if outcome.Created {
		if err := e.finish(); err != nil {
			return d, fmt.Errorf("data partition %s: %w", d.Data, err)
		}
	}
	return d, d.store()
}

func (d Disk) store() error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return os.WriteFile(StateFile, append(b, '\n'), 0o644)
}

// reset makes a mounted partition anew. After a power cut in the middle it is
// unfinished, and the next boot creates it.
func reset(e ext4) error {
	if err := unix.Unmount(e.dir, 0); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	return errors.Join(e.Create(), e.Mount())
}

// ext4 is the edge on the kernel.
type ext4 struct {
	device, dir string // dir: where it is mounted
	say         func(format string, args ...any)
}

var _ Edge = ext4{}

// mountFlags are those of every mount of the partition.
const mountFlags = unix.MS_NOATIME | unix.MS_NOSUID | unix.MS_NODEV

func (e ext4) Mount() error {
	// data=ordered and barriers are the defaults. A damaged file system must not
	// be damaged further: it becomes read-only, and is repaired at the next boot.
	if err := unix.Mount(e.device, e.dir, "ext4", mountFlags, "errors=remount-ro"); err != nil {
		return fmt.Errorf("mount %s: %w", e.device, err)
	}
	err := tryOut(e.dir)
	if !inconsistent(err) {
		return nil // full or failing: what is there can still be read
	}
	if uerr := unix.Unmount(e.dir, 0); uerr != nil {
		return fmt.Errorf("unmount %s: %w", e.device, uerr)
	}
	return fmt.Errorf("mounted %s, but: %w", e.device, err)
}

// Writable writes the first sector again, as it is; a power cut in between leaves it whole.
func (e ext4) Writable() error {
	f, err := os.OpenFile(e.device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, gpt.Sector)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil // whether it can be written is not known, and the check sees to the rest
	}
	if _, err = f.WriteAt(b, 0); err == nil {
		err = f.Sync()
	}
	return err
}

// MountReadOnly mounts without replaying the journal, which would have to be written.
func (e ext4) MountReadOnly() error {
	if err := unix.Mount(e.device, e.dir, "ext4", mountFlags|unix.MS_RDONLY, "noload"); err != nil {
		return fmt.Errorf("mount %s read-only: %w", e.device, err)
	}
	return nil
}

// tryOut writes a file. A file system can mount and yet have tables so wrong that
// nothing can be written; nothing else would have it repaired.
func tryOut(dir string) error {
	name := filepath.Join(dir, "tried-out")
	return errors.Join(writeDurably(name, []byte("x")), os.Remove(name))
}

// inconsistent tells an error of ext4 about itself: EFSCORRUPTED and EFSBADCRC
// (kernel: fs/ext4/ext4.h).
func inconsistent(err error) bool {
	return errors.Is(err, unix.EUCLEAN) || errors.Is(err, unix.EBADMSG)
}

// Check runs e2fsck. Its exit status is a bit mask: 1 and 2 mean corrected. It
// runs again when it was not satisfied: with the first superblock gone and a
// journal to replay the first run restores the superblock and gives up.
func (e ext4) Check() error {
	var err error
	for range 3 {
		var out []byte
		out, err = exec.Command(Checker, "-f", "-y", e.device).CombinedOutput()
		var exit *exec.ExitError
		if err == nil || errors.As(err, &exit) && exit.ExitCode() >= 0 && exit.ExitCode() < 4 {
			return nil
		}
		for line := range strings.Lines(string(out)) {
			e.say("e2fsck: %s", strings.TrimSpace(line))
		}
		err = fmt.Errorf("e2fsck: %w", err)
	}
	return err
}

// Create writes the template. It is unfinished until finish.
func (e ext4) Create() error {
	packed, err := os.ReadFile(Template)
	if err != nil {
		return err
	}
	dec, err := zstd.NewReader(nil)
	if err != nil {
		return err
	}
	defer dec.Close()
	fs, err := dec.DecodeAll(packed, nil)
	if err != nil {
		return fmt.Errorf("template of the file system: %w", err)
	}
	f, err := os.OpenFile(e.device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return writeTemplate(f, fs)
}

// block is the unit in which the template is written.
const block = 64 << 10

// writeTemplate writes all but the first sector, durably; that one says that the file system is not finished.
func writeTemplate(f gpt.Disk, fs []byte) error {
	if len(fs) < block || len(fs)%block != 0 {
		return fmt.Errorf("template of the file system has %d bytes", len(fs))
	}
	if err := markUnfinished(f); err != nil {
		return err
	}
	for off := gpt.Sector; off < len(fs); {
		end := min(len(fs), (off/block+1)*block)
		if _, err := f.WriteAt(fs[off:end], int64(off)); err != nil {
			return fmt.Errorf("create the file system: %w", err)
		}
		off = end
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("create the file system: %w", err)
	}
	return nil
}

// finish takes the mark of an unfinished file system away when it is mounted and has its size. Until then there is one superblock only, which the kernel writes
// again and again, and a power cut can tear; nothing could repair that. Unmounting it makes the copies in the other groups durable.
func (e ext4) finish() error {
	if err := unix.Unmount(e.dir, 0); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	f, err := os.OpenFile(e.device, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(markFinished(f), f.Close()); err != nil {
		return err
	}
	return e.Mount()
}

// markUnfinished has the file system made anew, at this boot or at the next one.
func markUnfinished(f gpt.Disk) error {
	first := make([]byte, gpt.Sector)
	copy(first, unfinished)
	return flushed(f, first, 0)
}

// markFinished clears the first sector, which ext4 does not use.
func markFinished(f gpt.Disk) error { return flushed(f, make([]byte, gpt.Sector), 0) }

// flushed writes and flushes.
func flushed(f gpt.Disk, p []byte, off int64) error {
	_, err := f.WriteAt(p, off)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("create the file system: %w", err)
	}
	return nil
}

// ioctls of ext4 (kernel: fs/ext4/ext4.h): _IOW('f', 16, __u64) and, since 6.0,
// _IOW('f', 44, struct fsuuid).
const (
	iocResize  = 0x40086610
	iocSetUUID = 0x4008662c
)

// settle gives a new file system its identity and lets it fill the partition.
func (e ext4) settle(fresh bool) error {
	dir, err := os.Open(e.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	var errs []error
	if fresh {
		u := struct {
			length, flags uint32
			uuid          [16]byte
		}{length: 16}
		rand.Read(u.uuid[:])
		u.uuid[6], u.uuid[8] = u.uuid[6]&0x0f|0x40, u.uuid[8]&0x3f|0x80
		if err := ioctl(dir, iocSetUUID, unsafe.Pointer(&u)); err != nil {
			errs = append(errs, fmt.Errorf("set the UUID: %w", err))
		}
	}
	blocks, err := sizeInBlocks(e.device)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	// Asking for the size that it has already is harmless.
	if err := ioctl(dir, iocResize, unsafe.Pointer(&blocks)); err != nil {
		errs = append(errs, fmt.Errorf("grow the file system to %d blocks: %w", blocks, err))
	}
	return errors.Join(errs...)
}

const fsBlock = 4096

func sizeInBlocks(device string) (uint64, error) {
	f, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, err := f.Seek(0, io.SeekEnd)
	return uint64(n) / fsBlock, err
}

func ioctl(f *os.File, req uint, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(req), uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

// blkpg is struct blkpg_ioctl_arg with its struct blkpg_partition (linux/blkpg.h).
type blkpg struct {
	op, flags, length int32
	_                 int32
	data              unsafe.Pointer
}

type blkpgPartition struct {
	start, length int64 // bytes
	number        int32
	names         [128]byte
	_             [4]byte
}

const (
	blkpgIoctl  = 0x1269
	blkpgResize = 3
)

// resizePartition tells the kernel, which refuses to read the table anew while a
// partition is in use.
func resizePartition(disk *os.File, number int, offset, size int64) error {
	p := blkpgPartition{start: offset, length: size, number: int32(number)}
	a := blkpg{op: blkpgResize, length: int32(unsafe.Sizeof(p)), data: unsafe.Pointer(&p)}
	return ioctl(disk, blkpgIoctl, unsafe.Pointer(&a))
}

// Config makes the configuration live on the data partition: what the image
// brings in etc (/etc/twinkeep) is copied where it is missing, and the folder
// on the disk is mounted over it.
func Config(etc string) error { return config(Mountpoint, etc) }

func config(dir, etc string) error {
	disk := filepath.Join(dir, ConfigDir)
	if err := os.MkdirAll(disk, 0o700); err != nil {
		return err
	}
	// On a full disk, or one that cannot be written, what the box was configured with counts all the same.
	err := copyMissing(etc, disk)
	if err != nil {
		err = fmt.Errorf("keep what the image brings: %w", err)
	}
	if merr := unix.Mount(disk, etc, "", unix.MS_BIND, ""); merr != nil {
		return errors.Join(err, fmt.Errorf("mount %s over %s: %w", disk, etc, merr))
	}
	return err
}

func copyMissing(from, to string) error {
	list, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range list {
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		if e.IsDir() {
			if err := os.MkdirAll(dst, 0o755); err != nil {
				return err
			}
			if err := copyMissing(src, dst); err != nil {
				return err
			}
			continue
		}
		if _, err := os.Lstat(dst); err == nil || !e.Type().IsRegular() {
			continue
		}
		data, err := os.ReadFile(src)
		if err != nil {
			return err
		}
		if err := writeDurably(dst, data); err != nil {
			return err
		}
	}
	return syncDir(to)
}

// writeDurably writes a file so that a power cut leaves all of it or nothing.
func writeDurably(name string, data []byte) error {
	tmp := name + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp)) // on a full disk the half of it is in the way
	}
	return os.Rename(tmp, name)
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
