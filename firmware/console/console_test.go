package console

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/ha/member"
)

const prompt = "gw-a:/> "

func TestInteractive(t *testing.T) {
	f := newFakes(t)
	o := newOperator(t, f.run)
	o.expect(t, "Twinkeep 0.1.")
	o.expect(t, prompt)

	o.types("ha\r")
	o.expect(t, "This device is a HA MASTER\r\nThis device is currently ACTIVE (will forward traffic)\r\nThis device has been active: 12 seconds\r\nHA cluster peer is ALIVE\r\n")
	o.expect(t, prompt)
	o.types("ha -deactivate\r")
	o.expect(t, "deactivate done")
	o.expect(t, prompt)

	// Tab completes as far as it can, then lists; ? explains and leaves the line.
	o.types("clu\t")
	o.expect(t, "cluster ")
	o.types("?")
	got := o.expect(t, "interfaces   Show the interfaces that carry heartbeats")
	if !strings.Contains(got, "events       Show what happened") {
		t.Errorf("? after cluster gives:\n%s", got)
	}
	o.types("st\t\r")
	o.expect(t, "1 (local)")
	o.expect(t, prompt)
	o.types("ifstat -ma\t\r")
	o.expect(t, "10:00:00:00:28:07")
	o.expect(t, prompt)
	o.types("service restart g\t\r")
	o.expect(t, "service gatewayd is being restarted")
	o.expect(t, prompt)
	o.types("log --service ?had\r")
	o.expect(t, "<string>  only lines of this service")
	o.expect(t, "line 5")
	o.expect(t, prompt)

	// A mistake costs nothing.
	o.types("hardwear\r")
	o.expect(t, "unknown command \"hardwear\"")
	o.expect(t, prompt)
	o.types("ha 'x\r")
	o.expect(t, "a quote ' is not closed")
	o.expect(t, prompt)
	o.types("hardware\r")
	o.expect(t, "error: GET /v1/hardware: 404 Not Found")
	o.expect(t, prompt)

	// Flags do not outlive their line; history brings a line back.
	o.types("ha --json\r")
	o.expect(t, "\"state\": \"ACTIVE\"")
	o.expect(t, prompt)
	o.types("ha\r")
	o.expect(t, "HA MASTER")
	o.expect(t, prompt)
	o.types("\x1b[A\x1b[A\r")
	o.expect(t, "\"state\": \"ACTIVE\"")
	o.expect(t, prompt)

	o.types("exit\r")
	o.left()
	if diff := cmp.Diff([]string{"had deactivate", "restart gatewayd"}, f.got()); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
}

func TestCtrlC(t *testing.T) {
	f := newFakes(t)
	o := newOperator(t, f.run)
	o.expect(t, prompt)

	// At the prompt it empties the line.
	o.types("reboot --yes\x03version\r")
	o.expect(t, "Twinkeep 0.1 (go")
	o.expect(t, prompt)

	// It ends a command that follows, and only that.
	o.types("log --follow --lines 2\r")
	if got := o.expect(t, "new after 5"); strings.Contains(got, "line 3") || !strings.Contains(got, "line 4") {
		t.Errorf("--lines 2 gives:\n%s", got)
	}
	o.types("\x03")
	o.expect(t, "^C")
	o.expect(t, prompt)
	o.types("cluster events --follow\r")
	o.expect(t, "started: first")
	f.mu.Lock()
	f.events = append(f.events, member.Event{Seq: 2, Severity: "notice", Name: "peer_gone", Text: "second"})
	f.mu.Unlock()
	o.expect(t, "peer_gone: second")
	o.types("\x03")
	o.expect(t, "^C")
	o.expect(t, prompt)

	// It ends a question and an edit, also with something typed.
	o.types("shutdown\r")
	o.expect(t, "Type yes to shutdown: ")
	o.types("ye\x03")
	o.expect(t, "^C")
	o.expect(t, prompt)
	o.types("node edit\r")
	o.expect(t, "Paste")
	o.types("version: 1\rhostna\x03")
	o.expect(t, "^C")
	o.expect(t, prompt)
	o.types("version\r")
	o.expect(t, "Twinkeep 0.1 (go")
	o.expect(t, prompt)

	o.types("\x04") // Ctrl-D
	o.left()
	if diff := cmp.Diff([]string{"follow ended"}, f.got()); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
}

// TestPipe feeds the console a script: it runs to the end of it.
func TestPipe(t *testing.T) {
	f := newFakes(t)
	var out screen
	if err := Interactive(t.Context(), strings.NewReader("version\rha -activate\rservice list\r"), &out, Options{Run: f.run}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Twinkeep unknown", "activate done", "crash-loop"} {
		out.expect(t, want)
	}
}

func TestNodeEdit(t *testing.T) {
	f := newFakes(t)
	f.node, f.file = badStatus(), badFile
	f.node.Hostname = "gw-a"
	o := newOperator(t, f.run)
	got := o.expect(t, prompt)
	for _, want := range []string{
		"/etc/twinkeep/node.yaml is bad and not in force; nothing is forwarded.",
		"line 4, column 22: interfaces[0].zone: \"man\" is not known",
		"  - {name: G1, zone: man}\r\n" + strings.Repeat(" ", 4+21) + "^",
		"To fix it: node show",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q before the first prompt:\n%s", want, got)
		}
	}

	paste := func(file string) {
		o.types("node edit\r")
		o.expect(t, "Ctrl-C leaves things as they are.")
		o.types(strings.ReplaceAll(file, "\n", "\r") + ".\r")
	}
	paste(badFile)
	o.expect(t, "    hint: one of: lan, wan")
	o.expect(t, "error: the node file has faults")
	o.expect(t, "hint: nothing was changed")
	o.expect(t, prompt)
	paste(strings.Replace(badFile, "man", "lan", 1))
	o.expect(t, "The node file is saved and in force.")
	o.expect(t, "missing: interface G4 has no NIC")
	o.expect(t, "had: reload done")
	o.expect(t, prompt)
	// What was pasted is not in the history.
	o.types("\x1b[A")
	o.expect(t, "node edit")
	o.types("\x03exit\r")
	o.left()
	if diff := cmp.Diff([]string{"put version: 1\n", "had reload"}, f.got()); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
}

func TestDaemonsDown(t *testing.T) {
	o := newOperator(t, t.TempDir())
	o.expect(t, "error: gatewayd does not answer: there is no ")
	o.expect(t, "hint: it is not running; see log, then service restart gatewayd")
	o.expect(t, ":/> ")
	o.types("ha\r")
	o.expect(t, "error: had does not answer: there is no ")
	o.expect(t, "service restart had")
	o.expect(t, ":/> ")
	o.types("exit\r")
	o.left()
}

// TestCommand runs commands as from a shell.
func TestCommand(t *testing.T) {
	f := newFakes(t)
	tests := []struct {
		args, in string
		want     string // in the output
		wantErr  string // in the error
	}{
		{args: "ha -activate", want: "activate done"},
		{args: "ha -activate -deactivate", wantErr: "none of the others can be"},
		{args: "ha -json -activate", want: `"message": "activate done"`},
		{args: "cluster state", want: "1 (local)"},
		{args: "cluster events", want: "started: first"},
		{args: "ifstat G1", want: "Driver:     igb"},
		{args: "ifstat G9", wantErr: `there is no interface "G9"`},
		{args: "service list", want: "crash-loop"},
		{args: "log --lines 1", want: "line 5"},
		{args: "node show", want: "hostname: gw-a"},
		{args: "node check -", in: badFile, want: "^\n    hint: one of: lan, wan", wantErr: "the node file has faults"},
		{args: "node check -", in: strings.Replace(badFile, "man", "wan", 1), want: "The node file is good."},
		{args: "node edit", in: strings.Replace(badFile, "man", "wan", 1), want: "in force"},
		{args: "reboot", in: "no\n", wantErr: "nothing was done"},
		{args: "reboot", in: "yes\n", want: "This device restarts."},
		{args: "shutdown -yes", want: "switches itself off"},
		{args: "service restart had", want: "service had is being restarted"},
		{args: "version", want: "Twinkeep 0.1"},
		{args: "exit", wantErr: "unknown command"},
		{args: "completion bash", want: "bash completion"},
		{args: "--help", want: "Available Commands"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			var out bytes.Buffer
			root := NewCommand(Options{Run: "/nonexistent", Version: "0.1"})
			root.SetOut(&out)
			root.SetErr(&out)
			root.SetIn(strings.NewReader(tt.in))
			root.SetArgs(Normalize(root, append([]string{"--run", f.run}, strings.Fields(tt.args)...)))
			err := root.ExecuteContext(t.Context())
			if (err != nil) != (tt.wantErr != "") || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("error %v, want %q", err, tt.wantErr)
			}
			if !strings.Contains(out.String(), tt.want) {
				t.Errorf("no %q in:\n%s", tt.want, out.String())
			}
		})
	}
	if diff := cmp.Diff([]string{"had activate", "had activate", "put check=1version: 1\n", "put version: 1\n", "had reload", "reboot", "poweroff", "restart had"}, f.got()); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
}

func TestNormalize(t *testing.T) {
	tests := []struct{ args, want string }{
		{"ha -activate", "ha --activate"},
		{"ha -activat", "ha -activat"},
		{"ha -h", "ha -h"},
		{"cluster events -follow -run=/x", "cluster events --follow --run=/x"},
		{"-json ifstat -maclist", "--json ifstat --maclist"},
		{"ifstat -- -maclist", "ifstat -- -maclist"},
	}
	for _, tt := range tests {
		if got := strings.Join(Normalize(NewCommand(Options{}), strings.Fields(tt.args)), " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.args, got, tt.want)
		}
	}
}

// openPTY gives a terminal: what is written to master is typed, what is read from it is seen.
func openPTY(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip(err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx") // in the poller, so that Close ends a Read
	t.Cleanup(func() { master.Close() })
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return master, terminal
}

// TestShell runs a shell from a console on a real terminal: its keys must reach the shell and, after it, the console.
func TestShell(t *testing.T) {
	f := newFakes(t)
	master, terminal := openPTY(t)
	o := &operator{screen: new(screen), t: t, keys: master, done: make(chan error, 1)}
	go io.Copy(o.screen, master)
	before, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		o.done <- Interactive(t.Context(), terminal, terminal, Options{
			Run: f.run, Shell: []string{"/bin/sh", "-c", "echo ready; read a; read b; echo shell has $a $b; exit 3"},
		})
	}()
	o.expect(t, prompt)
	for range 2 {
		o.types("shell\r")
		o.expect(t, "ready")
		o.types("one\rtwo\r")
		o.expect(t, "shell has one two")
		o.expect(t, prompt)
	}
	o.types("log --follow\r")
	o.expect(t, "new after 5")
	o.types("\x03")
	o.expect(t, prompt)
	o.types("exit\r")
	o.left()
	after, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the terminal was not put back (-before +after):\n%s", diff)
	}
}

// TestHangUp takes the terminal away from under a command that follows.
func TestHangUp(t *testing.T) {
	f := newFakes(t)
	master, terminal := openPTY(t)
	o := &operator{screen: new(screen), t: t, keys: master, done: make(chan error, 1)}
	var copied sync.WaitGroup
	copied.Go(func() { io.Copy(o.screen, master) })
	go func() { o.done <- Interactive(t.Context(), terminal, terminal, Options{Run: f.run}) }()
	o.expect(t, prompt)
	o.types("log --follow\r")
	o.expect(t, "new after 5")
	master.Close()
	o.left()
	copied.Wait()
}

// TestIdle: a console at which nobody types ends.
func TestIdle(t *testing.T) {
	f := newFakes(t)
	r, w := io.Pipe()
	defer w.Close()
	var out screen
	done := make(chan error, 1)
	go func() {
		done <- Interactive(t.Context(), r, &out, Options{Run: f.run, Operator: "anna", Idle: 200 * time.Millisecond})
	}()
	if _, err := io.WriteString(w, "version\r"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if text := out.text.String(); !strings.Contains(text, "Twinkeep unknown") || !strings.Contains(text, "No command for 200ms: this console ends.") {
		t.Errorf("the console says %q", text)
	}
}
