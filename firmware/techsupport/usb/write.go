package usb

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Write writes a file onto a volume of /dev. content is called once, on another goroutine than the caller's; when it fails, nothing is left. The
// name that is given back has a number in it when there was such a file.
func Write(v Volume, name string, content func(io.Writer) error) (written string, err error) {
	return write(filepath.Join("/dev", v.Name), v.Filesystem, name, content)
}

func write(device, filesystem, name string, content func(io.Writer) error) (written string, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread has a mount namespace of its own, and ends with the goroutine: whatever happens, nothing stays mounted.
		runtime.LockOSThread()
		written, err = inNamespace(device, filesystem, name, content)
	}()
	<-done
	return written, err
}

func inNamespace(device, filesystem, name string, content func(io.Writer) error) (string, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return "", fmt.Errorf("a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", fmt.Errorf("a private mount namespace: %w", err)
	}
	dir, err := os.MkdirTemp("", "usb")
	if err != nil {
		return "", err
	}
	defer os.Remove(dir)
	options := ""
	if filesystem == "vfat" {
		options = "umask=0077,iocharset=iso8859-1,shortname=mixed,errors=remount-ro" // as the EFI system partition
	}
	if err := unix.Mount(device, dir, filesystem, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME, options); err != nil {
		return "", mountError(device, err)
	}
	written, err := into(dir, name, content)
	// What the kernel still keeps is written now; unmounting says nothing of it.
	if unmountErr := unix.Unmount(dir, 0); err == nil && unmountErr != nil {
		err = fmt.Errorf("unmount %s: %w", device, unmountErr)
	}
	return written, describe(device, err)
}

func mountError(device string, err error) error {
	switch {
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES):
		return &Error{device + " is write-protected", "move its switch, or take another stick"}
	case errors.Is(err, unix.EINVAL):
		return &Error{device + ": its file system is damaged, or not what it looks like", "check it elsewhere, or format it with FAT32 or ext4"}
	case errors.Is(err, unix.ENODEV):
		return &Error{device + ": this kernel does not know its file system", "format it with FAT32"}
	}
	return fmt.Errorf("mount %s: %w", device, err)
}

// describe says what an error of writing means.
func describe(device string, err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return &Error{device + " is full", "delete something from it, or take another stick; nothing of the archive was left on it"}
	case errors.Is(err, unix.EROFS):
		return &Error{device + " turned read-only while it was written: it is damaged", "take another stick"}
	case errors.Is(err, unix.EIO), errors.Is(err, unix.ENXIO):
		return &Error{device + " failed while it was written", "was it taken out? Take another stick"}
	}
	return err
}

// tries is how many names are tried when there are such files.
const tries = 100

// into writes the file into a directory: under another name first, so that nobody takes half a file for a whole one.
func into(dir, name string, content func(io.Writer) error) (string, error) {
	temp := filepath.Join(dir, name+".part")
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	err = content(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(temp))
	}
	final := name
	for i := 2; ; i++ {
		if _, err := os.Lstat(filepath.Join(dir, final)); errors.Is(err, os.ErrNotExist) {
			break
		}
		if i > tries {
			return "", errors.Join(fmt.Errorf("there are too many files called %s", name), os.Remove(temp))
		}
		stem, ext, _ := strings.Cut(name, ".")
		final = fmt.Sprintf("%s-%d.%s", stem, i, ext)
	}
	if err := os.Rename(temp, filepath.Join(dir, final)); err != nil {
		return "", errors.Join(err, os.Remove(temp))
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", err
	}
	return final, errors.Join(d.Sync(), unix.Syncfs(int(d.Fd())), d.Close())
}
