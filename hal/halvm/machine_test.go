// Package halvm tries the hardware side of the firmware on machines of QEMU: lamps, buttons, buzzer, sensor, power-fail
// input and watchdog of the image itself, seen from outside the machine.
package halvm

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

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
const node = `version: 1
hostname: gw-a
board: auto
cluster:
  id: 7
  name: lab
  member: 1
  key: bGFiLWxhYi1sYWItbGFiLWxhYi1sYWItbGFiLWxhYiE=
  mode: active-up
  checksums: invalid
  members:
    - {id: 1, name: gw-a, priority: 120}
    - {id: 2, name: gw-b, priority: 100}
  timing: {beat: 200ms, lease: 1500ms, dead: 2500ms, silence: 5s}
interfaces:
  - {name: G1, zone: lan, address: 10.1.0.2/24, vips: [10.1.0.1]}
  - {name: G2, zone: wan, address: 192.0.2.2/24, vips: [192.0.2.1]}
`

// machine is one that runs.
type machine struct {
	*testing.T
	dir  string
	cmd  *exec.Cmd
	con  net.Conn
	done chan struct{}
	err  error

	mu   sync.Mutex
	text []byte // what the console said
	from int    // where the next see begins
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
	m := &machine{T: t, dir: t.TempDir(), done: make(chan struct{})}
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
	if _, err := exec.LookPath(binary); err != nil {
		m.Fatalf("%v: install it with: tools/need.sh hardware", err)
	}
	// Sockets have short paths.
	run, err := os.MkdirTemp("", "halvm")
	m.must(err)
	m.Cleanup(func() { os.RemoveAll(run) })
	args = append(args, "-nodefaults", "-no-user-config", "-display", "none",
		"-chardev", "socket,id=con,server=on,wait=off,path="+filepath.Join(run, "con"), "-serial", "chardev:con",
		"-chardev", "socket,id=qmp,server=on,wait=off,path="+filepath.Join(run, "qmp"), "-mon", "chardev=qmp,mode=control",
		"-D", filepath.Join(m.dir, "trace"))
	m.cmd = exec.Command(binary, args...)
	var stderr bytes.Buffer
	m.cmd.Stderr = &stderr
	l := qemu.NewLauncher()
	m.must(l.Start(m.cmd))
	m.Cleanup(func() {
		l.Close()
		<-m.done
		if m.con != nil {
			m.con.Close()
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if *keepDir != "" {
			os.WriteFile(filepath.Join(m.dir, "console.log"), m.text, 0o644)
		}
		if m.Failed() {
			m.Logf("console:\n%s\nQEMU: %s", m.text[max(0, len(m.text)-5000):], stderr.Bytes())
		}
	})
	go func() {
		m.err = m.cmd.Wait()
		close(m.done)
	}()
	m.con = m.dial(filepath.Join(run, "con"))
	go m.listen()
}

func (m *machine) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *machine) dial(path string) net.Conn {
	m.Helper()
	for {
		c, err := net.Dial("unix", path)
		if err == nil {
			return c
		}
		select {
		case <-m.done:
			m.Fatalf("QEMU ended at once: %v", m.err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (m *machine) listen() {
	buf := make([]byte, 4096)
	for {
		n, err := m.con.Read(buf)
		m.mu.Lock()
		m.text = append(m.text, buf[:n]...)
		m.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// until waits for something to be so.
func (m *machine) until(what string, ok func() bool) {
	m.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
		select {
		case <-m.done:
			if !ok() {
				m.Fatalf("the machine ended (%v) before: %s", m.err, what)
			}
			return
		default:
		}
	}
	m.Fatalf("never: %s", what)
}

// see waits until the console says what matches, behind what was seen before.
func (m *machine) see(pattern string) []string {
	m.Helper()
	re := regexp.MustCompile(pattern)
	var out []string
	m.until("console says "+pattern, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		at := re.FindSubmatchIndex(m.text[m.from:])
		if at == nil {
			return false
		}
		out = nil
		for i := 0; i < len(at); i += 2 {
			out = append(out, string(m.text[m.from:][at[i]:at[i+1]]))
		}
		m.from += at[1]
		return true
	})
	return out
}

// qmp gives QEMU one command.
func (m *machine) qmp(command string, args any) {
	m.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	path := ""
	for i, a := range m.cmd.Args {
		if strings.HasPrefix(a, "socket,id=qmp") && m.cmd.Args[i-1] == "-chardev" {
			path = a[strings.Index(a, "path=")+5:]
		}
	}
	q, err := qemu.DialQMP(ctx, path)
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

// command types one on the console and gives what it says up to the next prompt.
func (m *machine) command(line string) string {
	m.Helper()
	_, err := io.WriteString(m.con, line+"\r")
	m.must(err)
	m.see(regexp.QuoteMeta(line))
	return m.see(`(?s)(.*?)gw-a[^\n]*> $`)[1]
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

// accel is how this host runs machines of its own architecture.
func accel(t *testing.T) []string {
	t.Helper()
	a, err := qemu.Choose(qemu.ThisHost())
	if err != nil {
		t.Fatal(err)
	}
	return a.Args()
}
