package halvm

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/qemu"
)

// Lamps of a PS/2 keyboard, as bits of ps2_set_ledstate: board/qemu-panel.yaml says what each shows.
const (
	scrollLock = 1 // the status
	numLock    = 2 // active
	capsLock   = 4 // attention
)

const ledTrace = "ps2_set_ledstate"

// panel switches on a PC with a keyboard as its front panel.
func panel(t *testing.T, cmdline string, files ...qemu.File) *machine {
	t.Helper()
	return panelWith(t, cmdline, nil, files...)
}

// panelWith does so with further devices.
func panelWith(t *testing.T, cmdline string, devices []string, files ...qemu.File) *machine {
	t.Helper()
	if *imageDir == "" {
		t.Skip("starts machines for minutes; run it with: make test-hardware")
	}
	wav := filepath.Join(t.TempDir(), "speaker.wav")
	if *keepDir != "" {
		wav = filepath.Join(*keepDir, t.Name()+".wav")
	}
	args := append([]string{"-M", "q35,pcspk-audiodev=snd", "-audiodev", "wav,id=snd,path=" + wav}, accel(t)...)
	args = append(args, "-m", "256",
		"-smbios", "type=1,manufacturer=QEMU,product=Twinkeep panel", "-trace", ledTrace, "-device", "i6300esb",
		"-action", "reboot=shutdown,shutdown=poweroff,panic=none,watchdog=reset",
		"-blockdev", "null-co,node-name=n0,size=1048576", "-device", "nvme,serial=1,drive=n0",
		"-device", "virtio-rng-pci")
	args = append(args, twoNICs()...)
	args = append(args, devices...)
	m := start(t, "qemu-system-x86_64", filepath.Join(*imageDir, "vmlinux"), filepath.Join(*imageDir, "initramfs.cpio"), "ttyS0,115200 "+cmdline, args, files...)
	t.Cleanup(func() {
		if info, err := os.Stat(wav); err == nil {
			t.Logf("the speaker gave %d bytes of sound", info.Size())
		}
	})
	return m
}

// states are the distinct states that the lamps went through since a line of the trace.
func (m *machine) states(since int) (out []string) {
	lines := m.trace(ledTrace)
	for _, l := range lines[min(since, len(lines)):] {
		f := strings.Fields(l)
		out = append(out, f[len(f)-1])
	}
	return out
}

// TestPanel: from the role to the lamp, and from the button to the reset, watched from outside the machine.
func TestPanel(t *testing.T) {
	t.Parallel()
	m := panel(t, "")
	m.see(`init: PID 1`)
	m.see(`hald\S* .*the case shows active`)
	// Under emulation the keyboard follows slowly, and not every flash of the flicker reaches it.
	if got := m.changes(0, scrollLock); got < 3 {
		t.Errorf("the status lamp changed %d times while the box booted", got)
	}
	m.until("the lamps of status and active are lit", func() bool { return m.last(ledTrace) == scrollLock|numLock })
	n := len(m.trace(ledTrace))
	time.Sleep(3 * time.Second)
	if got := m.states(n); len(got) > 0 {
		t.Errorf("the lamps of an active member change: %v", got)
	}

	out := ""
	m.until("the watchdog, whose driver nothing waits for, and the disk's temperature, which is read within 5 s", func() bool {
		out = m.command("hardware")
		return strings.Contains(out, "Watchdog: i6300ESB timer, active") && strings.Contains(out, " C, ok")
	})
	t.Log(out)
	for _, want := range []string{`Board: +qemu-panel`, `Case: +active`, `Watchdog: i6300ESB timer, active, 30 s`, `LED +scroll lock +status +lit`,
		`LED +num lock +active +lit`, `LED +caps lock +attention +dark`, `button +sleep +status +idle`, `input +power-fail .*good`, `sensor +disk +60/70 C +(49.9|50.0) C, ok`, `buzzer .*PC Speaker +-`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("hardware does not say %q", want)
		}
	}

	m.key("sleep", 200*time.Millisecond)
	m.see(`button sleep: show role`)
	m.until("one flash, twice", func() bool {
		return strings.Contains(strings.Join(m.states(n), " "), "1 0 1 0")
	})
	m.until("the status again", func() bool { return m.last(ledTrace) == scrollLock|numLock })

	m.command("hardware locate --for 2s")
	m.until("all lamps blink", func() bool { return m.blinks(n) })
	m.until("the status again", func() bool { return m.last(ledTrace) == scrollLock|numLock })
}

// changes counts how often a lamp went on or out since a line of the trace.
func (m *machine) changes(since, lamp int) (n int) {
	before := 0
	for _, s := range m.states(since) {
		now, err := strconv.Atoi(s)
		m.must(err)
		if now&lamp != before {
			n++
		}
		before = now & lamp
	}
	return n
}

// blinks tells whether all three lamps were lit and dark since a line of the trace.
func (m *machine) blinks(since int) bool {
	s := " " + strings.Join(m.states(since), " ") + " "
	return strings.Contains(s, " 7 ") && strings.Contains(s, " 0 ")
}

// TestFactoryReset: one long press is not enough, a second one restarts the machine.
func TestFactoryReset(t *testing.T) {
	t.Parallel()
	m := panel(t, "")
	m.see(`hald\S* .*the case shows active`)
	m.key("sleep", 6*time.Second)
	m.see(`button sleep: factory reset offered`)
	n := len(m.trace(ledTrace))
	m.until("all lamps blink", func() bool { return m.blinks(n) })
	m.see(`button sleep: factory reset cancelled`)
	m.until("the status again", func() bool { return m.last(ledTrace) == scrollLock|numLock })

	m.key("sleep", 6*time.Second)
	m.see(`button sleep: factory reset offered`)
	m.until("released", func() bool { return strings.Contains(m.command("hardware"), "waiting, pressed") })
	m.key("sleep", 4*time.Second)
	m.see(`button sleep: factory reset confirmed`)
	m.see(`init: services stopped, reboot`)
	m.until("QEMU ends with the reboot", m.ended)
}

// TestPowerFailAndButton: a failing supply gives the role away and makes the member unfit until it is back; the power
// button switches off in order.
func TestPowerFailAndButton(t *testing.T) {
	t.Parallel()
	m := panel(t, "")
	m.see(`hald\S* .*the case shows active`)
	m.key("calculator", 3*time.Second)
	m.see(`the power supply fails: the role is given away`)
	m.until("had knows it", func() bool { return strings.Contains(m.command("ha"), "the power supply fails") })
	m.until("the lamp of attention", func() bool { return m.last(ledTrace)&capsLock != 0 })
	m.see(`the power supply is back`)
	m.until("had has forgotten it", func() bool { return !strings.Contains(m.command("ha"), "the power supply fails") })
	m.qmp("system_powerdown", nil)
	m.see(`button power: this device switches itself off`)
	m.see(`init: services stopped, poweroff`)
	m.until("QEMU ends", m.ended)
	if m.last(ledTrace) != 0 {
		t.Errorf("lamps are lit after the end: %d", m.last(ledTrace))
	}
}
