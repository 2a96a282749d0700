// Package mount mounts the kernel's file systems at boot and unmounts what was
// added at the end. Root is the initramfs; nothing on a disk is needed.
package mount

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Point is one line of the mount table.
type Point struct {
	Source, Target, Type string
	Flags                uintptr
	Data                 string
	// Required points are those without which the box cannot work; the
	// others may be missing from the kernel.
	Required bool
}

// Table is what PID 1 mounts, in order.
//
// /run and /tmp are separate, so that a full /tmp does not keep the sockets in
// /run from being made. devtmpfs may be there already (CONFIG_DEVTMPFS_MOUNT
// does not apply to an initramfs, but a boot loader may differ).
var Table = []Point{
	{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "", true},
	{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "", true},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755", true},
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,ptmxmode=0666", false},
	{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777,size=16m", false},
	{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755,size=32m", true},
	{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777,size=32m", false},
	{"pstore", "/sys/fs/pstore", "pstore", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "", false},
	{"efivarfs", "/sys/firmware/efi/efivars", "efivarfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "", false},
}

// System is the part of the kernel this package uses; Kernel is the real one.
type System interface {
	MkdirAll(path string) error
	Mount(source, target, fstype string, flags uintptr, data string) error
	Unmount(target string, flags int) error
}

// Kernel is the running kernel.
type Kernel struct{}

var _ System = Kernel{}

// MkdirAll makes a mount point.
func (Kernel) MkdirAll(path string) error { return os.MkdirAll(path, 0o755) }

// Mount is mount(2).
func (Kernel) Mount(source, target, fstype string, flags uintptr, data string) error {
	return unix.Mount(source, target, fstype, flags, data)
}

// Unmount is umount2(2).
func (Kernel) Unmount(target string, flags int) error { return unix.Unmount(target, flags) }

// Failure is a point of the table that could not be mounted.
type Failure struct {
	Point Point
	Err   error
}

func (f Failure) Error() string {
	return fmt.Sprintf("mount %s on %s: %v", f.Point.Type, f.Point.Target, f.Err)
}

func (f Failure) Unwrap() error { return f.Err }

// All mounts the table in order and goes on after failures, which it returns.
// A point that is mounted already (EBUSY) is fine. Optional points whose file
// system or folder the kernel does not have are left out silently.
func All(sys System, table []Point) []Failure {
	var failures []Failure
	for _, p := range table {
		err := sys.MkdirAll(p.Target)
		if err == nil {
			err = sys.Mount(p.Source, p.Target, p.Type, p.Flags, p.Data)
		}
		switch {
		case err == nil, errors.Is(err, unix.EBUSY):
		case !p.Required && (errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM)):
			// EPERM: sysfs refuses to make a folder for a file system it does not know.
		default:
			failures = append(failures, Failure{p, err})
		}
	}
	return failures
}

// api are the file systems that stay to the end: unmounting them gains nothing
// and takes away what the last steps need.
var api = []string{"proc", "sysfs", "devtmpfs", "devpts", "rootfs", "tmpfs", "pstore", "efivarfs", "cgroup2"}

// UnmountAll unmounts everything that holds data, the newest first; mounts is
// the content of /proc/self/mounts. What is still busy is made read-only, so
// that it is clean on disk.
func UnmountAll(sys System, mounts []byte) error {
	var targets []string
	sc := bufio.NewScanner(bytes.NewReader(mounts))
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) >= 3 && !slices.Contains(api, f[2]) {
			targets = append(targets, unescape(f[1]))
		}
	}
	slices.Reverse(targets)
	var errs []error
	for _, t := range targets {
		err := sys.Unmount(t, 0)
		if err == nil {
			continue
		}
		if ro := sys.Mount("", t, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); ro != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w; make it read-only: %w", t, err, ro))
		}
	}
	return errors.Join(errs...)
}

// unescape undoes the octal escapes of /proc/self/mounts (blank is \040).
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
