// Package halvm tries the hardware side of the firmware on machines of QEMU: lamps, buttons, buzzer, sensor, power-fail
// input and watchdog of the image itself, seen from outside the machine.
package halvm

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/box"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
)

var (
	imageDir = flag.String("image", "", "`folder` of make pieces; without it the tests of the PC are skipped")
	armDir   = flag.String("arm", "", "`folder` of make pieces BOARD=qemu-arm64; without it the tests of the ARM machine are skipped")
	armDisk  = flag.String("armdisk", "", "`folder` of make image BOARD=qemu-arm64; without it the disk of the ARM machine is skipped")
	keepDir  = flag.String("keep", "", "keep consoles and traces in this `folder`")
)

// patience for one step. Under emulation on a busy machine a boot takes a minute.
const patience = 3 * time.Minute

// node is a member of a pair whose peer is not there: it becomes ACTIVE. Its timing bears the stalls of emulation.
var node = box.Node("{beat: 200ms, lease: 1500ms, dead: 2500ms, silence: 5s}", "")

// machine is one that runs.
type machine struct {
	*testing.T
	*qemu.Process
	*qemu.Console
	dir     string
	monitor string // socket of QMP
}

// start switches a machine on. args are those of the machine itself; kernel, initramfs and console are added.
func start(t *testing.T, binary, kernel, initramfs, console string, args []string, files ...qemu.File) *machine {
	t.Helper()
	m := newMachine(t)
	initrd := filepath.Join(m.dir, "initrd")
	m.must(qemu.WriteInitrd(initrd, initramfs, append(files, qemu.File{Path: "/etc/twinkeep/node.yaml", Mode: 0o600, Data: []byte(node)})))
	m.launch(binary, append(args, "-kernel", kernel, "-initrd", initrd, "-append", "console="+console+" panic=1 reboot=k twinkeep.journal=console")...)
	return m
}

// newMachine is one with a folder for its files.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{T: t, dir: t.TempDir()}
	if *keepDir != "" {
		m.dir = filepath.Join(*keepDir, t.Name())
		m.must(os.RemoveAll(m.dir))
		m.must(os.MkdirAll(m.dir, 0o755))
	}
	return m
}

// launch starts QEMU with a console and a monitor.
func (m *machine) launch(binary string, args ...string) {
	m.Helper()
	// Sockets have short paths.
	run, err := os.MkdirTemp("", "halvm")
	m.must(err)
	m.Cleanup(func() { os.RemoveAll(run) })
	console := filepath.Join(run, "con")
	m.monitor = filepath.Join(run, "qmp")
	args = append(args, qemu.Bare(console, "")...)
	args = append(args, qemu.Monitor(m.monitor)...)
	l := qemu.NewLauncher()
	m.Cleanup(func() { l.Close() })
	m.Process, err = qemu.Launch(l, m.Name(), binary, append(args, "-D", filepath.Join(m.dir, "trace")))
	m.must(err)
	m.Console, err = m.OpenConsole(m.Context(), console, filepath.Join(m.dir, "console.log"))
	m.must(err)
	m.Cleanup(func() {
		l.Close()
		<-m.Ended()
		if m.Failed() {
			said := m.Said()
			m.Logf("console:\n%s\n%v", said[max(0, len(said)-5000):], m.Wait(context.Background()))
		}
	})
}

func (m *machine) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

// until waits for something to be so.
func (m *machine) until(what string, ok func() bool) {
	m.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
		if m.ended() {
			if !ok() {
				m.Fatalf("the machine ended (%v) before: %s", m.Wait(m.Context()), what)
			}
			return
		}
	}
	m.Fatalf("never: %s", what)
}

// ended tells whether QEMU has ended.
func (m *machine) ended() bool { return !m.Running() }

// see waits until the console says what matches, behind what was seen before.
func (m *machine) see(pattern string) []string {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), patience)
	defer cancel()
	found, err := m.Expect(ctx, pattern)
	m.must(err)
	return found
}

// qmp gives QEMU one command.
func (m *machine) qmp(command string, args any) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), patience)
	defer cancel()
	q, err := qemu.DialQMP(ctx, m.monitor)
	m.must(err)
	defer q.Close()
	m.must(q.Execute(ctx, command, args, nil))
}

// key presses a key for so long, as the machine counts it.
func (m *machine) key(qcode string, hold time.Duration) {
	m.Helper()
	m.qmp("send-key", map[string]any{
		"keys": []any{map[string]any{"type": "qcode", "data": qcode}}, "hold-time": hold.Milliseconds(),
	})
}

// prompt is what the console asks with.
var prompt = qemu.Prompt("gw-a", "twinkeep")

// command types one on the console and gives what it says up to the next prompt.
func (m *machine) command(line string) string {
	m.Helper()
	m.must(m.Enter(line))
	m.see(qemu.Echo(line))
	return m.see(`(?s)(.*?)` + prompt)[1]
}

// trace gives the lines of QEMU's trace that hold word.
func (m *machine) trace(word string) []string {
	m.Helper()
	data, err := os.ReadFile(filepath.Join(m.dir, "trace"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, word) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// last is the number at the end of the newest line of the trace that holds word, -1 without one.
func (m *machine) last(word string) int {
	lines := m.trace(word)
	if len(lines) == 0 {
		return -1
	}
	f := strings.Fields(lines[len(lines)-1])
	n, err := strconv.Atoi(f[len(f)-1])
	if err != nil {
		m.Fatalf("trace %q: %v", lines[len(lines)-1], err)
	}
	return n
}

// twoNICs are G1 and G2, in networks where nobody answers.
func twoNICs() []string { return append(qemu.UserNIC("a", ""), qemu.UserNIC("b", "")...) }

// accel is how this host runs machines of its own architecture.
func accel(t *testing.T) []string {
	t.Helper()
	a, err := qemu.Choose(qemu.ThisHost())
	if err != nil {
		t.Fatal(err)
	}
	return a.Args()
}
