// Package watchdog drives the machine's watchdog timer, which resets the machine when nobody restarts it in time.
//
// Opening the device starts the timer. From then on [Watchdog.Keepalive] has to be called well within every
// [Watchdog.Timeout], a third of it is usual. [Watchdog.Disarm] stops the timer for an orderly end; a process that
// dies leaves it running and the machine resets. That is the point of it.
//
// The interface is Linux's Documentation/watchdog/watchdog-api.rst.
package watchdog

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// software is how the kernel's timer without hardware calls itself (drivers/watchdog/softdog.c). It does not survive a kernel that stands still.
const software = "Software Watchdog"

// Find returns the watchdog of the machine: the first that is a device, else the first. class is /sys/class/watchdog; if it names none, the path is
// /dev/watchdog0, which [Open] finds absent then.
func Find(class fs.FS) string {
	first := ""
	names, _ := fs.Glob(class, "watchdog*")
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }) // 10 after 9
	for _, name := range names {
		identity, _ := fs.ReadFile(class, name+"/identity") // absent without CONFIG_WATCHDOG_SYSFS
		if strings.TrimSpace(string(identity)) != software {
			return "/dev/" + name
		}
		if first == "" {
			first = name
		}
	}
	if first == "" {
		first = "watchdog0"
	}
	return "/dev/" + first
}

// Loader is how the trial loader (tools/image/trialloader) calls the watchdog that [Find] gives; "" when it cannot arm that one. sys is /sys.
func Loader(sys fs.FS) string {
	read := func(name string) string {
		text, _ := fs.ReadFile(sys, name) // absent: not that one
		return strings.TrimSpace(string(text))
	}
	class, err := fs.Sub(sys, "class/watchdog")
	if err != nil {
		return ""
	}
	switch read("class/watchdog/" + strings.TrimPrefix(Find(class), "/dev/") + "/identity") {
	case "i6300ESB timer": // drivers/watchdog/i6300esb.c
		return "i6300esb"
	case "iTCO_wdt": // drivers/watchdog/iTCO_wdt.c, of many chipsets; the loader knows ICH9
		const lpc = "bus/pci/devices/0000:00:1f.0/"
		if read(lpc+"vendor") == "0x8086" && read(lpc+"device") == "0x2918" {
			return "tco"
		}
	}
	return ""
}

// ErrAbsent says that the machine has no watchdog, or that no driver for it is loaded.
var ErrAbsent = errors.New("no watchdog device: the machine has none, or its driver is not loaded")

// Status bits, from linux/watchdog.h. The device uses the same bits to say what it can do and why it last acted.
const (
	overheat   = 0x0001
	fanFault   = 0x0002
	extern1    = 0x0004
	extern2    = 0x0008
	powerUnder = 0x0010
	cardReset  = 0x0020
	powerOver  = 0x0040
	setTimeout = 0x0080
	magicClose = 0x0100
)

// Info is what the device says about itself, read once when it is opened.
type Info struct {
	Identity string // name of the device, e.g. "i6300ESB timer"
	Firmware uint32 // version of its firmware, 0 if it has none
	// CanDisarm tells whether the driver honours Disarm's magic close. If clear, closing stops the timer in any
	// case. Neither holds for a driver loaded with nowayout.
	CanDisarm bool
	// Boot holds the device's own status bits at the last boot.
	Boot BootStatus
}

// BootStatus says why the device thinks that the machine was last reset: WDIOF_* bits of linux/watchdog.h.
type BootStatus uint32

// ByWatchdog reports whether the watchdog caused the last reset.
func (b BootStatus) ByWatchdog() bool { return b&cardReset != 0 }

// String names the bits, e.g. "reset by watchdog", or says "normal".
func (b BootStatus) String() string {
	var causes []string
	for _, c := range []struct {
		bit  BootStatus
		name string
	}{
		{cardReset, "reset by watchdog"}, {overheat, "overheated"}, {fanFault, "fan failed"},
		{powerUnder, "power too low"}, {powerOver, "power too high"}, {extern1, "external relay 1"},
		{extern2, "external relay 2"},
	} {
		if b&c.bit != 0 {
			causes = append(causes, c.name)
			b &^= c.bit
		}
	}
	if b != 0 {
		causes = append(causes, fmt.Sprintf("unknown status %#x", uint32(b)))
	}
	if len(causes) == 0 {
		return "normal"
	}
	return strings.Join(causes, ", ")
}

// Watchdog is an open device whose timer runs. It is not safe for concurrent use.
type Watchdog struct {
	dev     device
	info    Info
	timeout time.Duration
}

// device is one open watchdog of the kernel.
type device interface {
	io.WriteCloser
	support() (options, firmware uint32, identity string, err error)
	get(req uint) (int, error)
	set(req uint, value int) error
}

// MaxTimeout is the longest timeout that Open accepts. Hardware takes far less; this guards against nonsense.
const MaxTimeout = time.Hour

// Open starts the watchdog at path with the given timeout, rounded up to whole seconds and between 1 s and
// [MaxTimeout]. Without a device it returns an error that is [ErrAbsent]. The device may grant another timeout than the
// one asked for, or have a fixed one: see [Watchdog.Timeout].
func Open(path string, timeout time.Duration) (*Watchdog, error) {
	if timeout <= 0 || timeout > MaxTimeout {
		return nil, fmt.Errorf("open watchdog: timeout %v is not between 1s and %v", timeout, MaxTimeout)
	}
	dev, err := openKernel(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return nil, fmt.Errorf("open watchdog %s: %w", path, ErrAbsent)
	case errors.Is(err, unix.EBUSY):
		return nil, fmt.Errorf("open watchdog %s: another process has it: %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("open watchdog %s: %w", path, err)
	}
	w, err := start(dev, timeout)
	if err != nil {
		return nil, fmt.Errorf("open watchdog %s: %w", path, err)
	}
	return w, nil
}

// start configures an open device. If it cannot, it tries to stop the timer, for nobody would restart it.
func start(dev device, timeout time.Duration) (_ *Watchdog, err error) {
	w := &Watchdog{dev: dev}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Disarm())
		}
	}()
	options, firmware, identity, err := dev.support()
	if err != nil {
		return nil, fmt.Errorf("get identity: %w", err)
	}
	w.info = Info{Identity: identity, Firmware: firmware, CanDisarm: options&magicClose != 0}

	// Some drivers know nothing of the last boot; that is no reason to do without them.
	if boot, err := dev.get(unix.WDIOC_GETBOOTSTATUS); err == nil {
		w.info.Boot = BootStatus(boot)
	}
	if options&setTimeout != 0 {
		seconds := int((timeout + time.Second - 1) / time.Second)
		if err := dev.set(unix.WDIOC_SETTIMEOUT, seconds); err != nil {
			return nil, fmt.Errorf("set timeout of %d s: %w; the device may allow less only", seconds, err)
		}
	}
	granted, err := dev.get(unix.WDIOC_GETTIMEOUT)
	if err != nil {
		return nil, fmt.Errorf("get timeout: %w", err)
	}
	if granted <= 0 {
		return nil, fmt.Errorf("get timeout: device says %d s", granted)
	}
	w.timeout = time.Duration(granted) * time.Second
	return w, w.Keepalive()
}

// Info returns what the device said when it was opened.
func (w *Watchdog) Info() Info { return w.info }

// Timeout returns the time without Keepalive after which the machine resets.
func (w *Watchdog) Timeout() time.Duration { return w.timeout }

// Keepalive restarts the timer.
func (w *Watchdog) Keepalive() error {
	// Any byte but the magic 'V' only restarts the timer; unlike the ioctl, every driver has this.
	if _, err := w.dev.Write([]byte{0}); err != nil {
		return fmt.Errorf("restart watchdog timer: %w", err)
	}
	return nil
}

// Disarm stops the timer and closes the device. A driver loaded with nowayout goes on counting without an error.
func (w *Watchdog) Disarm() error {
	if _, err := w.dev.Write([]byte{'V'}); err != nil {
		return errors.Join(fmt.Errorf("disarm watchdog: %w", err), w.dev.Close())
	}
	if err := w.dev.Close(); err != nil {
		return fmt.Errorf("disarm watchdog: %w", err)
	}
	return nil
}
