package watchdog

import (
	"golang.org/x/sys/unix"
)

// kernel is the file descriptor of a watchdog device. It is not an *os.File, whose finalizer could close it.
type kernel int

var _ device = kernel(0)

// openKernel looks before it opens, for opening starts the timer, and closing writes to whatever is there.
func openKernel(path string) (kernel, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return -1, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return -1, unix.ENOTTY
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	return kernel(fd), err
}

func (k kernel) Write(b []byte) (int, error) { return unix.Write(int(k), b) }
func (k kernel) Close() error                { return unix.Close(int(k)) }

func (k kernel) support() (options, firmware uint32, identity string, err error) {
	info, err := unix.IoctlGetWatchdogInfo(int(k))
	if err != nil {
		return 0, 0, "", err
	}
	return info.Options, info.Version, unix.ByteSliceToString(info.Identity[:]), nil
}

func (k kernel) get(req uint) (int, error) {
	// The kernel writes a C int; IoctlGetInt would read a Go int, twice as wide.
	v, err := unix.IoctlGetUint32(int(k), req)
	return int(int32(v)), err
}

func (k kernel) set(req uint, value int) error {
	return unix.IoctlSetPointerInt(int(k), req, value)
}
