package box

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/qemu"
)

var (
	imageDir = flag.String("image", "", "`folder` that make image has filled; without it the tests with machines are skipped")
	cacheDir = flag.String("cache", "", "cache of the image builder")
	keysDir  = flag.String("keys", "", "folder of the keys the image was built with")
	keepDir  = flag.String("keep", "", "keep disks and consoles in this `folder`")
)

// patience for one step. Under emulation on a busy machine a boot takes a minute.
const patience = 4 * time.Minute

// node is a member that is ACTIVE when its peer is not there.
var node = Node("{beat: 100ms, lease: 450ms, dead: 700ms, silence: 3s}", "  - {name: G3, sync: true, address: 169.254.77.1/30}\n")

// quick makes trials short.
const quick = "twinkeep.journal=console twinkeep.trial.healthy=3s twinkeep.trial.limit=90s"

// lives counts boxes.
var lives atomic.Int32

type life struct {
	*testing.T
	*Box
	maker    *Maker
	cfg      Config
	launcher *qemu.Launcher
	hostKey  string // of SSH, as a fingerprint
}

func newLife(t *testing.T, v Variant, secure bool) *life {
	t.Helper()
	if *imageDir == "" {
		t.Skip("starts machines for minutes; run it with: make test-image")
	}
	m, err := Load(*imageDir, *cacheDir, *keysDir)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if *keepDir != "" {
		dir = filepath.Join(*keepDir, fmt.Sprintf("%s-%d", t.Name(), lives.Add(1))) // a test may have two boxes
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	accel, err := qemu.Choose(qemu.ThisHost())
	if err != nil {
		t.Fatal(err)
	}
	l := &life{T: t, maker: m, launcher: qemu.NewLauncher(), cfg: Config{Dir: dir, Disk: filepath.Join(dir, "disk"), NICs: 3, SecureBoot: secure, Accel: accel}}
	t.Cleanup(func() {
		l.launcher.Close()
		if t.Failed() {
			log, _ := os.ReadFile(l.cfg.LogFile())
			t.Logf("console:\n%s", log[max(0, len(log)-6000):])
		}
	})
	i, err := m.Make(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Disk(l.cfg.Disk, i, 512<<20, v.Sign); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *life) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func (l *life) on() {
	l.Helper()
	b, err := Start(l.launcher, l.cfg)
	l.must(err)
	l.Box = b
}

func (l *life) cut() {
	l.Helper()
	l.must(l.PowerCut())
}

func (l *life) see(pattern string) []string {
	l.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := l.Expect(ctx, pattern)
	l.must(err)
	return m
}

// heard waits for what a daemon logs by itself: while a command ran, which said out, or after it.
func (l *life) heard(out, pattern string) {
	l.Helper()
	if !regexp.MustCompile(pattern).MatchString(out) {
		l.see(pattern)
	}
}

// prompt is what the boxes of these tests ask with.
var prompt = qemu.Prompt("gw-a", "gw-b", "gw-1", "twinkeep")

// prompt waits for the console of the box.
func (l *life) prompt() {
	l.Helper()
	l.see(prompt)
}

// command types one and gives what it said.
func (l *life) command(line string) string {
	l.Helper()
	l.must(l.Enter(line))
	l.see(qemu.Echo(line))
	return l.see(`(?s)(.*?)` + prompt)[1]
}

// shell runs one command in the rescue shell.
func (l *life) shell(line string) string {
	l.Helper()
	l.must(l.Enter("shell"))
	l.see(`\$ |# `)
	l.must(l.Enter(line + "; echo done-$((40+2))"))
	out := l.see(`(?s)(.*?)done-42`)[1]
	l.must(l.Enter("exit"))
	l.prompt()
	return out
}

// offer puts an upgrade file on the second disk for the next start.
func (l *life) offer(v Variant) {
	l.Helper()
	i, err := l.maker.Make(v)
	l.must(err)
	b, err := l.maker.Stick(i)
	l.must(err)
	l.cfg.Second = filepath.Join(l.cfg.Dir, "upgrade")
	l.must(os.WriteFile(l.cfg.Second, b, 0o600))
}

// runs checks which slot and revision runs, and how it is.
func (l *life) runs(slot, state string, revision uint64) {
	l.Helper()
	out := l.command("upgrade status")
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) > 3 && f[0] == slot && f[1] == "yes" {
			if !strings.Contains(line, state) || !strings.Contains(line, fmt.Sprint(revision)) {
				l.Fatalf("slot %s: %q, want %s and revision %d", slot, line, state, revision)
			}
			return
		}
	}
	l.Fatalf("slot %s does not run:\n%s", slot, out)
}

// first is what the disk is written with.
var first = Variant{Revision: 100, Cmdline: quick, Files: []qemu.File{{Path: "/etc/twinkeep/node.yaml", Mode: 0o600, Data: []byte(node)}}}

// ready waits until the box does its work. It may take the role before its last service is there: a fast boot does.
func (l *life) ready() {
	l.Helper()
	l.see(`(?s)init: ready .*?role assumed|role assumed.*?init: ready `)
}

func TestFirstBootAndState(t *testing.T) {
	t.Parallel()
	l := newLife(t, first, false)
	l.on()
	l.see(`data partition: blank, it is created`)
	l.ready()
	l.runs("A", "good", 100)
	before := l.shell("cat /data/ha/term; df /data; ls /data /data/config")
	for _, want := range []string{"node.yaml", "config"} {
		if !strings.Contains(before, want) {
			t.Errorf("%q is not in\n%s", want, before)
		}
	}
	l.shell("echo kept > /data/kept; sync")
	l.cut()

	l.on()
	l.see(`data partition /dev/vda2 mounted`)
	l.ready()
	if strings.Contains(l.Said(), "it is created") {
		t.Error("the second boot made the data partition anew")
	}
	if out := l.shell("cat /data/kept /data/ha/term"); !strings.Contains(out, "kept") {
		t.Errorf("lost: %s", out)
	}
	if out := l.command("log --boot -1 --lines 3"); !strings.Contains(out, "init") {
		t.Errorf("journal of the boot before: %s", out)
	}
	// Crash: the kernel's last words are kept.
	l.must(l.Enter("shell"))
	l.see(`\$ |# `)
	l.must(l.Enter("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger"))
	l.see(`the last boot ended in a kernel panic`)
	l.ready()
	if out := l.command("log --boot -1"); !strings.Contains(out, "sysrq") || !strings.Contains(out, "last words") {
		t.Errorf("crash log: %.3000s", out)
	}
	l.cut()
}

func TestDamagedData(t *testing.T) {
	t.Parallel()
	l := newLife(t, first, false)
	l.on()
	l.ready()
	l.shell("echo kept > /data/kept; sync")
	l.cut()
	spoil(l, 0, 4096) // the first superblock
	l.on()
	l.see(`data partition.*repaired`)
	l.see(`data partition: repaired`)
	l.ready()
	if out := l.shell("cat /data/kept"); !strings.Contains(out, "kept") {
		t.Errorf("lost by the repair: %s", out)
	}
	l.cut()
	spoil(l, 0, 370<<20)
	l.on()
	l.see(`IT IS CREATED ANEW, what it held is lost`)
	l.see(`data partition /dev/vda2 mounted`)
	l.see(`init: ready`)
	l.cut()
}

// spoil damages a part of the data partition.
func spoil(l *life, from, to int) {
	l.Helper()
	f, err := os.OpenFile(l.cfg.Disk, os.O_RDWR, 0)
	l.must(err)
	defer f.Close()
	const data = 129 << 20
	junk := make([]byte, 1<<20)
	for i := range junk {
		junk[i] = byte(i*7 + 1)
	}
	for at := from; at < to; at += len(junk) {
		_, err := f.WriteAt(junk[:min(len(junk), to-at)], int64(data+at))
		l.must(err)
	}
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	l := newLife(t, first, false)
	l.forwardSSH()
	l.offer(Variant{Revision: 200, Cmdline: quick})
	l.on()
	l.ready()
	l.upgradeBySSH()
	l.see(`init: on trial: b`)
	l.see(`the image in slot B is permanent now: test-200`)
	l.runs("B", "good", 200)
	l.cut()
	// A cold boot, with variables forgotten.
	l.must(l.cfg.Forget())
	l.on()
	l.ready()
	l.runs("B", "good", 200)
	if out := l.command("upgrade install /dev/vdb --no-reboot"); !strings.Contains(out, "is in slot A") {
		t.Errorf("%s", out)
	}
	l.cut()
	l.on() // the trial of slot A
	l.see(`init: on trial: a`)
	l.cut() // loses its power
	l.on()
	l.ready()
	l.runs("B", "good", 200)
	// An operator may want the other one all the same.
	l.must(l.Enter("upgrade rollback --yes"))
	l.see(`Slot A boots next. This device restarts`)
	l.see(`init: on trial: a`)
	l.see(`the image in slot A is permanent now: test-200`)
	l.runs("A", "good", 200)
	l.cut()
}

// broken are images that come to nothing, and how the box gets out of them.
func TestBrokenImages(t *testing.T) {
	t.Parallel()
	hog := filepath.Join(t.TempDir(), "hog")
	if *imageDir != "" {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", hog, "./testdata/hog")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	program, _ := os.ReadFile(hog)
	hanging := Variant{Cmdline: "rdinit=/nonexistent root=/dev/none rootwait loglevel=7"}
	for _, tt := range []struct {
		name string
		v    Variant
		seen string
		tco  bool // with the other watchdog
	}{
		{"panic", Variant{Initrd: []byte("this is no initramfs")}, `Kernel panic`, false},
		{"hang before PID 1", hanging, `Waiting for root device`, false},
		{"hang before PID 1 with a TCO timer", hanging, `Waiting for root device`, true},
		{"lock-up", Variant{Cmdline: quick, Files: []qemu.File{
			{Path: "/bin/hog", Mode: 0o755, Data: program},
			{Path: "/etc/twinkeep/services.d/hog.yaml", Data: []byte("name: hog\nargv: [/bin/hog]\n")},
		}}, `hog: the machine stands still`, false},
		{"never healthy", Variant{Cmdline: "twinkeep.journal=console twinkeep.trial.healthy=1h twinkeep.trial.limit=5s"}, `was not confirmed within`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLife(t, first, false)
			l.cfg.TCO = tt.tco
			tt.v.Revision = 300
			l.offer(tt.v)
			l.on()
			l.ready()
			l.must(l.Enter("upgrade install /dev/vdb"))
			l.see(`on trial. This device restarts`)
			l.see(tt.seen)
			l.ready()
			l.runs("A", "good", 100)
			if out := l.command("upgrade status"); !strings.Contains(out, "failed") {
				t.Errorf("the trial is not called failed:\n%s", out)
			}
			l.cut()
		})
	}
}

// TestRefusedImage: a slot that has rotted since it was written, so that the firmware refuses its image, does not leave the box standing at the loader.
func TestRefusedImage(t *testing.T) {
	t.Parallel()
	l := newLife(t, first, false)
	l.offer(Variant{Revision: 300, Cmdline: quick})
	l.on()
	l.ready()
	if out := l.command("upgrade install /dev/vdb --no-reboot"); !strings.Contains(out, "is in slot B") {
		t.Fatal(out)
	}
	l.cut()
	rot := filepath.Join(l.cfg.Dir, "rot")
	l.must(os.WriteFile(rot, []byte("no executable"), 0o600))
	if out, err := exec.Command("mcopy", "-o", "-i", fmt.Sprintf("%s@@%d", l.cfg.Disk, espFrom), rot, "::/EFI/twinkeep/B.efi").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l.on()
	l.see(`Trial: the firmware refuses the image`)
	l.ready()
	l.runs("A", "good", 100)
	if out := l.command("upgrade status"); !strings.Contains(out, "failed") {
		t.Errorf("the trial is not called failed:\n%s", out)
	}
	l.cut()
}

func TestSecureBoot(t *testing.T) {
	t.Parallel()
	v := first
	v.Sign = true
	l := newLife(t, v, true)
	l.offer(Variant{Revision: 200, Cmdline: quick}) // not signed
	l.on()
	l.ready()
	if out := l.command("secureboot status"); !strings.Contains(out, "setup mode") {
		t.Errorf("before: %s", out)
	}
	if out := l.command("secureboot enrol"); !strings.Contains(out, "keys are in the firmware") {
		t.Fatalf("enrol: %s", out)
	}
	l.cut()
	l.on()
	l.ready()
	if out := l.command("secureboot status"); !strings.Contains(out, "Secure boot is on") {
		t.Errorf("after: %s", out)
	}
	if out := l.command("upgrade install /dev/vdb"); !strings.Contains(out, "is not signed by a key in the firmware") {
		t.Errorf("an unsigned upgrade: %s", out)
	}
	l.runs("A", "good", 100)
	l.cut()
	// One bit of the image on the disk is changed.
	raw, err := os.ReadFile(l.cfg.Disk)
	l.must(err)
	i, err := l.maker.Make(v)
	l.must(err)
	mark := i.UKI[len(i.UKI)/2 : len(i.UKI)/2+64]
	at := strings.Index(string(raw), string(mark))
	if at < 0 {
		t.Fatal("the image is not found on the disk")
	}
	raw[at] ^= 1
	l.must(os.WriteFile(l.cfg.Disk, raw, 0o600))
	l.on()
	l.see(`Access [Dd]enied|Security [Vv]iolation`)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := l.Expect(ctx, `init: PID 1`); err == nil {
		t.Error("the tampered image starts")
	}
	l.cut()
}

func TestFactoryReset(t *testing.T) {
	t.Parallel()
	l := newLife(t, first, false)
	l.on()
	l.ready()
	l.shell("echo secret > /data/secret; sync")
	l.must(l.Enter("factory-reset"))
	l.see(`Type erase`)
	l.must(l.Enter("erase"))
	l.see(`factory reset, all configuration, keys and journals are erased`)
	l.ready()
	if out := l.shell("ls /data"); strings.Contains(out, "secret") || !strings.Contains(out, "config") {
		t.Errorf("after the reset: %s", out)
	}
	// A disk that is full: the operator is told, and nothing else happens.
	l.heard(l.shell("echo secret > /data/secret; sync; cat /dev/zero > /data/fill"), `hald:.*the data partition is full`)
	// And read-only, as after an error that ext4 has found: there is no room for the wish.
	out := l.shell("echo u > /proc/sysrq-trigger; sleep 5; grep /data /proc/mounts")
	if !strings.Contains(out, "ext4 ro") {
		t.Errorf("read-only: %s", out)
	}
	l.heard(out, `hald:.*the data partition cannot be written`)
	l.must(l.Enter("factory-reset --yes"))
	l.see(`a factory reset was asked for: it is created`)
	l.ready()
	if out := l.shell("ls /data"); strings.Contains(out, "secret") || !strings.Contains(out, "config") {
		t.Errorf("after the second reset: %s", out)
	}
	l.cut()
}

// drive puts in a stick with a configuration.
func (l *life) drive(files map[string]string) {
	l.Helper()
	l.cfg.Second = filepath.Join(l.cfg.Dir, "drive")
	commands := [][]string{{"mformat", "-C", "-i", l.cfg.Second, "-f", "1440", "-v", "TWKCONFIG", "::"}}
	for name, text := range files {
		file := filepath.Join(l.cfg.Dir, name)
		l.must(os.WriteFile(file, []byte(text), 0o600))
		commands = append(commands, []string{"mcopy", "-i", l.cfg.Second, file, "::" + name})
	}
	for _, args := range commands {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			l.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
}

func TestConfigDrive(t *testing.T) {
	t.Parallel()
	v := first
	v.Files = nil
	l := newLife(t, v, false)
	l.drive(map[string]string{"node.yaml": node})
	l.on()
	l.see(`the node file was taken from the drive /dev/vdb`)
	l.ready()
	l.cut()
	l.cfg.Second = ""
	l.on()
	l.ready()
	l.cut()
}

func TestFlash(t *testing.T) {
	t.Parallel()
	l := newLife(t, first, false)
	l.on()
	l.ready()
	if out := l.command("flash /dev/vda"); !strings.Contains(out, "this system runs from /dev/vda") {
		t.Errorf("its own disk: %s", out)
	}
	l.cut()
	target := filepath.Join(l.cfg.Dir, "target")
	l.must(os.WriteFile(target, []byte("precious"), 0o600))
	l.must(os.Truncate(target, 400<<20))
	l.cfg.Target = target
	l.on()
	l.ready()
	l.must(l.Enter("flash /dev/vdb"))
	l.see(`data without a partition table`)
	l.must(l.Enter("/dev/vdb"))
	l.see(`is written and compared`)
	l.cut()
	l.cfg.Disk, l.cfg.Target = target, ""
	l.on()
	l.see(`data partition: blank, it is created`)
	l.see(`init: ready `)
	l.cut()
}
