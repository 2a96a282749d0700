// Package evdev reads keys from the kernel's input devices and plays tones on them: buttons of gpio-keys and ACPI, the PC
// speaker. The interface is Linux's Documentation/input/input.rst.
package evdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Types and codes of linux/input-event-codes.h.
const (
	evKey   = 0x01
	evSound = 0x12
	sndTone = 0x02
)

// eventSize is that of struct input_event where long has 64 bits: two times, type, code, value.
const eventSize = 24

// keyBytes hold a bit for every key (KEY_MAX is 0x2ff).
const keyBytes = 0x300 / 8

// ErrAbsent says that there is no such device, or that its driver is not loaded.
var ErrAbsent = errors.New("no such input device: is its driver loaded, and evdev?")

// Find gives the event devices ("event3") whose name matches pattern ("*" is any text), in the sysfs mounted at root.
// ACPI lists some buttons twice, so there may be several.
func Find(root, pattern string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(root, "class/input/event*/device/name"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, file := range files {
		name, err := os.ReadFile(file)
		if err != nil {
			continue // it has gone
		}
		if match(pattern, strings.TrimSpace(string(name))) {
			out = append(out, filepath.Base(filepath.Dir(filepath.Dir(file))))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("input device %q: %w", pattern, ErrAbsent)
	}
	return out, nil
}

// match is a comparison in which "*" stands for any text, slashes among it: names have them.
func match(pattern, s string) bool {
	ok, err := filepath.Match(strings.ReplaceAll(pattern, "/", "\x01"), strings.ReplaceAll(s, "/", "\x01"))
	return err == nil && ok
}

// Change is a key that went down or came up.
type Change struct {
	Code uint16
	Down bool
}

// Decode takes one struct input_event. ok is false for everything that is no change of a key: other types, and
// repetitions by the keyboard.
func Decode(b []byte) (c Change, ok bool) {
	if len(b) != eventSize {
		return Change{}, false
	}
	value := binary.NativeEndian.Uint32(b[20:])
	c = Change{Code: binary.NativeEndian.Uint16(b[18:]), Down: value == 1}
	return c, binary.NativeEndian.Uint16(b[16:]) == evKey && value <= 1
}

// Device is an open input device.
type Device struct{ f *os.File }

// Open opens /dev/input/NAME in the device tree at dev ("/dev"). The kernel's file is pollable, so Close ends a Next.
func Open(dev, name string, write bool) (*Device, error) {
	flags := os.O_RDONLY
	if write {
		flags = os.O_RDWR
	}
	f, err := os.OpenFile(filepath.Join(dev, "input", name), flags|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open input device: %w", err)
	}
	return &Device{f}, nil
}

// Close closes it.
func (d *Device) Close() error { return d.f.Close() }

// Next waits for a change of a key.
func (d *Device) Next() (Change, error) {
	var buf [eventSize]byte
	for {
		n, err := d.f.Read(buf[:])
		if err != nil {
			return Change{}, fmt.Errorf("read input device: %w", err)
		}
		if c, ok := Decode(buf[:n]); ok {
			return c, nil
		}
	}
}

// Down tells whether a key is down now.
func (d *Device) Down(code uint16) (bool, error) {
	var keys [keyBytes]byte
	if int(code/8) >= len(keys) {
		return false, fmt.Errorf("key %d: want at most %d", code, keyBytes*8-1)
	}
	// EVIOCGKEY(len): _IOC(_IOC_READ, 'E', 0x18, len)
	req := uintptr(2)<<30 | uintptr(len(keys))<<16 | 'E'<<8 | 0x18
	var errno unix.Errno
	conn, err := d.f.SyscallConn()
	if err == nil {
		err = conn.Control(func(fd uintptr) {
			_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, req, uintptr(unsafe.Pointer(&keys[0])))
		})
	}
	if err == nil && errno != 0 {
		err = errno
	}
	if err != nil {
		return false, fmt.Errorf("ask input device for its keys: %w", err)
	}
	return keys[code/8]>>(code%8)&1 == 1, nil
}

// Tone plays a tone until the next, 0 Hz is silence. The device must be open for writing.
func (d *Device) Tone(hertz int) error {
	var b [eventSize]byte
	binary.NativeEndian.PutUint16(b[16:], evSound)
	binary.NativeEndian.PutUint16(b[18:], sndTone)
	binary.NativeEndian.PutUint32(b[20:], uint32(hertz))
	if _, err := d.f.Write(b[:]); err != nil {
		return fmt.Errorf("play a tone of %s Hz: %w", strconv.Itoa(hertz), err)
	}
	return nil
}

// Gone tells whether an error means that the device is no longer there, or was closed.
func Gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, fs.ErrClosed) || errors.Is(err, fs.ErrNotExist)
}
