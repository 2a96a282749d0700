package watchdog

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// fake is a device that keeps a transcript of what is done to it.
type fake struct {
	options    uint32
	timeout    int // what GETTIMEOUT returns unless it was set
	max        int // longest timeout that it accepts
	boot       int
	supportErr error
	bootErr    error
	writeErr   error
	log        []string
}

func (f *fake) note(s string) { f.log = append(f.log, s) }

func (f *fake) Write(b []byte) (int, error) {
	f.note("write " + string(b))
	return len(b), f.writeErr
}

func (f *fake) Close() error { f.note("close"); return nil }

func (f *fake) support() (uint32, uint32, string, error) {
	return f.options, 3, "fake timer", f.supportErr
}

func (f *fake) get(req uint) (int, error) {
	if req == unix.WDIOC_GETBOOTSTATUS {
		return f.boot, f.bootErr
	}
	return f.timeout, nil
}

func (f *fake) set(req uint, v int) error {
	if req != unix.WDIOC_SETTIMEOUT || v > f.max {
		return unix.EINVAL
	}
	f.timeout = v
	return nil
}

func TestStart(t *testing.T) {
	tests := []struct {
		name    string
		dev     fake
		ask     time.Duration
		timeout time.Duration
		info    Info
		err     string
		log     []string
	}{
		{
			name: "usual", dev: fake{options: setTimeout | magicClose, timeout: 30, max: 60}, ask: 10 * time.Second,
			timeout: 10 * time.Second, info: Info{Identity: "fake timer", Firmware: 3, CanDisarm: true},
			log: []string{"write \x00"},
		},
		{
			name: "rounded up, reset by watchdog", dev: fake{options: setTimeout, max: 60, boot: cardReset},
			ask: 1500 * time.Millisecond, timeout: 2 * time.Second,
			info: Info{Identity: "fake timer", Firmware: 3, Boot: cardReset}, log: []string{"write \x00"},
		},
		{
			name: "fixed timeout, knows nothing of the boot", dev: fake{timeout: 120, bootErr: unix.EOPNOTSUPP},
			ask: 10 * time.Second, timeout: 120 * time.Second, info: Info{Identity: "fake timer", Firmware: 3},
			log: []string{"write \x00"},
		},
		{
			name: "timeout too long", dev: fake{options: setTimeout, max: 60}, ask: 2 * time.Minute,
			err: "set timeout of 120 s: invalid argument", log: []string{"write V", "close"},
		},
		{
			name: "no timeout", dev: fake{}, ask: time.Second,
			err: "get timeout: device says 0 s", log: []string{"write V", "close"},
		},
		{
			name: "not a watchdog", dev: fake{supportErr: unix.ENOTTY}, ask: time.Second,
			err: "get identity: inappropriate ioctl for device", log: []string{"write V", "close"},
		},
		{
			name: "dead", dev: fake{timeout: 10, writeErr: unix.EIO}, ask: time.Second,
			err: "restart watchdog timer: input/output error", log: []string{"write \x00", "write V", "close"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, err := start(&tt.dev, tt.ask)
			if tt.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.err) {
					t.Fatalf("error %v, want %s", err, tt.err)
				}
			} else if err != nil {
				t.Fatal(err)
			} else if diff := cmp.Diff(tt.info, w.Info()); diff != "" || w.Timeout() != tt.timeout {
				t.Errorf("timeout %v, want %v; info (-want +got):\n%s", w.Timeout(), tt.timeout, diff)
			}
			if diff := cmp.Diff(tt.log, tt.dev.log); diff != "" {
				t.Errorf("done to the device (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDisarm(t *testing.T) {
	tests := []struct {
		name string
		log  []string
		err  bool
		dev  fake
	}{
		{name: "alive", log: []string{"write V", "close"}},
		{name: "dead", dev: fake{writeErr: unix.EIO}, log: []string{"write V", "close"}, err: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := (&Watchdog{dev: &tt.dev}).Disarm(); (err != nil) != tt.err {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff(tt.log, tt.dev.log); diff != "" {
				t.Errorf("done to the device (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBootStatus(t *testing.T) {
	for status, want := range map[BootStatus]string{
		0:                    "normal",
		cardReset:            "reset by watchdog",
		overheat | cardReset: "reset by watchdog, overheated",
		fanFault | 0x4000:    "fan failed, unknown status 0x4000",
	} {
		if got := status.String(); got != want || status.ByWatchdog() != (status&0x20 != 0) {
			t.Errorf("BootStatus(%#x) = %q, ByWatchdog %t; want %q", uint32(status), got, status.ByWatchdog(), want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(dir, "none"), time.Second); !errors.Is(err, ErrAbsent) {
		t.Errorf("no device: %v", err)
	}
	if _, err := Open(plain, time.Second); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("plain file: %v", err)
	}
	if text, err := os.ReadFile(plain); err != nil || string(text) != "precious" {
		t.Errorf("plain file now has %q, %v", text, err)
	}
	if _, err := Open("/dev/null", time.Second); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("other device: %v", err)
	}
	for _, d := range []time.Duration{0, -time.Second, MaxTimeout + 1} {
		if _, err := Open(plain, d); err == nil || !strings.Contains(err.Error(), "is not between") {
			t.Errorf("timeout %v: %v", d, err)
		}
	}
}

var hardware = flag.String("watchdog", "", "watchdog `device` to try TestHardware on; the machine resets if it fails")

// TestHardware arms and disarms a real device. Past the timeout, a machine that still runs has proved the disarming.
func TestHardware(t *testing.T) {
	if *hardware == "" {
		t.Skip("needs -watchdog /dev/watchdog0 on a machine that may be reset")
	}
	const timeout = 2 * time.Second
	w, err := Open(*hardware, timeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v, timeout %v", w.Info(), w.Timeout())
	if w.Timeout() != timeout {
		t.Errorf("timeout %v, want %v", w.Timeout(), timeout)
	}
	for range 6 { // alive beyond the timeout thanks to Keepalive
		time.Sleep(timeout / 4)
		if err := w.Keepalive(); err != nil {
			t.Error(err)
		}
	}
	if _, err := Open(*hardware, timeout); !errors.Is(err, unix.EBUSY) {
		t.Errorf("second open: %v, want EBUSY", err)
	}
	if err := w.Disarm(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * timeout)
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name, want, loader string
		identities         map[string]string
	}{
		{"none", "/dev/watchdog0", "", nil},
		{"one", "/dev/watchdog0", "tco", map[string]string{"watchdog0": "iTCO_wdt"}},
		{"software only", "/dev/watchdog0", "", map[string]string{"watchdog0": software}},
		{"software came first", "/dev/watchdog1", "tco", map[string]string{"watchdog0": software, "watchdog1": "iTCO_wdt"}},
		{"two devices", "/dev/watchdog9", "i6300esb", map[string]string{"watchdog10": "iTCO_wdt", "watchdog9": "i6300ESB timer", "watchdog2": software}},
		{"one that the loader does not know", "/dev/watchdog0", "", map[string]string{"watchdog0": "SP5100 TCO timer"}},
		{"it does not say", "/dev/watchdog1", "", map[string]string{"watchdog0": software, "watchdog1": ""}},
	} {
		class, sys := fstest.MapFS{}, fstest.MapFS{}
		for name, identity := range c.identities {
			class[name+"/dev"] = &fstest.MapFile{Data: []byte("252:0\n")}
			if identity != "" {
				class[name+"/identity"] = &fstest.MapFile{Data: []byte(identity + "\n")}
				sys["class/watchdog/"+name+"/identity"] = class[name+"/identity"]
			}
			sys["class/watchdog/"+name+"/dev"] = class[name+"/dev"]
		}
		if got := Find(class); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		for chipset, want := range map[string]string{"0x2918": c.loader, "0x4b00": strings.TrimPrefix(c.loader, "tco")} {
			sys["bus/pci/devices/0000:00:1f.0/vendor"] = &fstest.MapFile{Data: []byte("0x8086\n")}
			sys["bus/pci/devices/0000:00:1f.0/device"] = &fstest.MapFile{Data: []byte(chipset + "\n")}
			if got := Loader(sys); got != want {
				t.Errorf("%s: for the trial loader on %s %q, want %q", c.name, chipset, got, want)
			}
		}
	}
}
