package sshd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/console"
	"github.com/twinkeep/twinkeep/firmware/login"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp/esptest"
)

const password = "correct horse"

// TestMain is also the program that the keeper starts: the front, and a console that does as it is told.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case FrontCommand:
			if err := Front(os.Args[2]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case ConsoleCommand:
			os.Exit(fakeConsole(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

func fakeConsole(args []string) int {
	flag := func(name string) (string, bool) {
		i := slices.Index(args, "--"+name)
		if i < 0 {
			return "", false
		}
		return args[i+1], true
	}
	operator, _ := flag(OperatorFlag)
	line, command := flag(CommandFlag)
	size := func() string {
		ws, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		if err != nil {
			return "no terminal"
		}
		return fmt.Sprintf("%dx%d %s", ws.Col, ws.Row, os.Getenv("TERM"))
	}
	if !command {
		fmt.Printf("console of %s, %s\n", operator, size())
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			if in.Text() == "exit" {
				return 0
			}
			fmt.Printf("<%s> %s\n", in.Text(), size())
		}
		return 3
	}
	switch line {
	case "cat":
		io.Copy(os.Stdout, os.Stdin)
		return 0
	case "fail":
		fmt.Fprintln(os.Stderr, "it failed")
		return 7
	case "die":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "stay":
		fmt.Println(os.Getpid())
		time.Sleep(time.Minute)
	case upgradeLine: // what the product runs, with a folder for the slots
		run, _ := flag("run")
		err := console.Command(context.Background(), line, console.Options{Run: run, Operator: operator, Slots: esp.Place{Root: filepath.Join(run, "slots")}})
		if err != nil {
			console.PrintError(os.Stderr, err)
			return 1
		}
		return 0
	case "env":
		fmt.Println(strings.Join(os.Environ(), " "))
		return 0
	}
	fmt.Printf("%q by %s\n", line, operator)
	return 0
}

// box is a keeper that runs.
type box struct {
	t            *testing.T
	config, run  string
	state        string
	addr         string
	log          *safeBuffer
	stop         func() error
	client       *api.Client
	hostKey      ssh.PublicKey
	key, foreign ssh.Signer
}

type safeBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newBox(t *testing.T) *box {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("the front gives up root, so this test begins as root")
	}
	b := &box{t: t, config: t.TempDir(), run: t.TempDir(), state: t.TempDir(), log: new(safeBuffer), key: newKey(t), foreign: newKey(t)}
	// The front is nobody: its root must be reachable only before it gives up root, but the test's directories are closed anyway.
	b.start()
	t.Cleanup(func() {
		if b.stop != nil {
			if err := b.stop(); err != nil {
				t.Errorf("sshd: %v", err)
			}
		}
		if t.Failed() {
			t.Logf("log:\n%s", b.log)
		}
	})
	return b
}

func (b *box) start() {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	o := Options{
		ConfigDir: b.config, StateDir: b.state, RunDir: b.run, Program: self, Ready: func() { close(ready) },
		Log: slog.New(slog.NewTextHandler(b.log, nil)),
		Listen: func() (net.Listener, error) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err == nil {
				b.addr = ln.Addr().String()
			}
			return ln, err
		},
	}
	go func() { done <- Run(ctx, o) }()
	select {
	case <-ready:
	case err := <-done:
		b.t.Fatal(err)
	}
	b.stop = func() error {
		b.stop = nil
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Second):
			return errors.New("it does not end")
		}
	}
	b.client = api.NewClient(b.run)
	status, err := b.client.SSH(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	if b.hostKey, _, _, _, err = ssh.ParseAuthorizedKey([]byte(status.HostKey)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) setPassword() {
	b.t.Helper()
	if err := login.Set(b.config, password); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) dial(user string, auth ...ssh.AuthMethod) (*ssh.Client, error) {
	return ssh.Dial("tcp", b.addr, &ssh.ClientConfig{User: user, Auth: auth, HostKeyCallback: ssh.FixedHostKey(b.hostKey), Timeout: 20 * time.Second})
}

func (b *box) login() *ssh.Client {
	b.t.Helper()
	c, err := b.dial(User, ssh.Password(password))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

// waitFor waits until cond holds.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for: %s", what)
		}
	}
}

func newSession(t *testing.T, c *ssh.Client) *ssh.Session {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestCommands(t *testing.T) {
	b := newBox(t)
	b.setPassword()
	c := b.login()
	if out, err := newSession(t, c).Output("ha -activate"); err != nil || string(out) != "\"ha -activate\" by admin from 127.0.0.1 by password\n" {
		t.Errorf("%q, %v", out, err)
	}
	s := newSession(t, c)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	s.Stdin = bytes.NewReader(big)
	if out, err := s.Output("cat"); err != nil || !bytes.Equal(out, big) {
		t.Errorf("%d of %d bytes came back, %v", len(out), len(big), err)
	}
	s = newSession(t, c)
	var stderr bytes.Buffer
	s.Stderr = &stderr
	var exit *ssh.ExitError
	if err := s.Run("fail"); !errors.As(err, &exit) || exit.ExitStatus() != 7 || stderr.String() != "it failed\n" {
		t.Errorf("%v, %q", err, stderr.String())
	}
	if err := newSession(t, c).Run("die"); !errors.As(err, &exit) || exit.ExitStatus() != 128+9 {
		t.Errorf("killed: %v", err)
	}
	s = newSession(t, c)
	if err := s.Setenv("LD_PRELOAD", "/tmp/x"); err == nil {
		t.Error("a variable was taken")
	}
	if out, err := s.Output("env"); err != nil || strings.Contains(string(out), "TWINKEEP") || strings.Contains(string(out), "LD_PRELOAD") {
		t.Errorf("environment %q, %v", out, err)
	}
}

const upgradeLine = "upgrade install - --no-reboot"

// TestUpgrade: an upgrade file of some MB comes through the connection; one that is cut off changes nothing.
func TestUpgrade(t *testing.T) {
	b := newBox(t)
	b.setPassword()
	slots := esptest.New(t, filepath.Join(b.run, "slots"), esptest.Release(100))
	c := b.login()
	file := esptest.Bundle(t, esptest.Release(101), 8<<20)
	install := func(in io.Reader) (out, progress string, err error) {
		s := newSession(t, c)
		var stderr bytes.Buffer
		s.Stdin, s.Stderr = in, &stderr
		text, err := s.Output(upgradeLine)
		return string(text), stderr.String(), err
	}
	before := slots.List()
	var exit *ssh.ExitError
	if out, stderr, err := install(bytes.NewReader(file[:len(file)/2])); !errors.As(err, &exit) || exit.ExitStatus() != 1 || out != "" || !strings.Contains(stderr, "nothing has changed") {
		t.Errorf("half a file: %q %q %v", out, stderr, err)
	}
	if after := slots.List(); after != before {
		t.Errorf("half a file has changed the slots from\n%sto\n%s", before, after)
	}
	out, stderr, err := install(bytes.NewReader(file))
	if err != nil || !strings.Contains(out, "slot B") || strings.Contains(out, "%") || !strings.Contains(stderr, "100%") {
		t.Errorf("%q %q %v", out, stderr, err)
	}
	if r := slots.Start(); r.Revision != 101 {
		t.Errorf("%v was started", r)
	}
}

func TestNothingElse(t *testing.T) {
	b := newBox(t)
	b.setPassword()
	c := b.login()
	for _, kind := range []string{"direct-tcpip", "direct-streamlocal@openssh.com", "tun@openssh.com", "x"} {
		if ch, _, err := c.OpenChannel(kind, ssh.Marshal(struct {
			Host string
			Port uint32
			From string
			FP   uint32
		}{"127.0.0.1", 22, "127.0.0.1", 1})); err == nil {
			ch.Close()
			t.Errorf("channel %s was opened", kind)
		}
	}
	if _, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("it listens for the client")
	}
	s := newSession(t, c)
	if err := s.RequestSubsystem("sftp"); err == nil {
		t.Error("sftp was started")
	}
	for _, r := range []string{"auth-agent-req@openssh.com", "x11-req", "pty-req"} {
		if ok, err := s.SendRequest(r, true, nil); ok || err != nil {
			t.Errorf("%s: %v, %v", r, ok, err)
		}
	}
	if err := s.Run(strings.Repeat("x", maxCommand+1)); err == nil {
		t.Error("a command without bounds was run")
	}
}

func TestTerminal(t *testing.T) {
	b := newBox(t)
	b.setPassword()
	s := newSession(t, b.login())
	if err := s.RequestPty("xterm-256color", 33, 101, nil); err != nil {
		t.Fatal(err)
	}
	in, _ := s.StdinPipe()
	out, _ := s.StdoutPipe()
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	defer time.AfterFunc(time.Minute, func() { s.Close() }).Stop() // a line that never comes ends the test
	expect := func(text string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Fatalf("no %q: %v", text, lines.Err())
	}
	expect("console of admin from 127.0.0.1 by password, 101x33 xterm-256color")
	if err := s.WindowChange(50, 120); err != nil {
		t.Fatal(err)
	}
	go func() { // the size may come behind what is typed: they travel apart
		for range 100 {
			fmt.Fprint(in, "hello\n")
			time.Sleep(20 * time.Millisecond)
		}
		fmt.Fprint(in, "exit\n")
	}()
	expect("<hello> 120x50")
	go io.Copy(io.Discard, out)
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	waitFor(t, "the log of the logout", func() bool {
		st, err := b.client.SSH(t.Context())
		return err == nil && len(st.Connections) == 1 && st.Connections[0].Sessions == 0
	})
}

// TestHangUp: a console ends with its connection, also one that nobody feeds.
func TestHangUp(t *testing.T) {
	b := newBox(t)
	b.setPassword()
	for _, tty := range []bool{false, true} {
		c := b.login()
		s := newSession(t, c)
		if tty {
			s.RequestPty("vt100", 24, 80, nil)
		}
		out, _ := s.StdoutPipe()
		if err := s.Start("stay"); err != nil {
			t.Fatal(err)
		}
		var pid int
		if _, err := fmt.Fscan(out, &pid); err != nil || pid == 0 {
			t.Fatal(err)
		}
		c.Close()
		waitFor(t, fmt.Sprintf("the end of the console, with a terminal: %v", tty), func() bool { return syscall.Kill(pid, 0) != nil })
	}
	waitFor(t, "the end of the connections", func() bool {
		st, err := b.client.SSH(t.Context())
		return err == nil && len(st.Connections) == 0
	})
}

func TestWhoGetsIn(t *testing.T) {
	b := newBox(t)
	try := func(what, user string, want bool, auth ...ssh.AuthMethod) {
		t.Helper()
		c, err := b.dial(user, auth...)
		if err == nil {
			c.Close()
		}
		if (err == nil) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	try("no password is set", User, false, ssh.Password(""))
	try("nothing", User, false)
	try("a key that is not on the list", User, false, ssh.PublicKeys(b.foreign))
	os.WriteFile(filepath.Join(b.config, login.FileName), nil, 0o600)
	try("an empty password file", User, false, ssh.Password(""))
	b.setPassword()
	try("the password", User, true, ssh.Password(password))
	try("a wrong password", User, false, ssh.Password(password+" "))
	try("a password without end", User, false, ssh.Password(strings.Repeat("x", 200_000)))
	try("another user with the password", "root", false, ssh.Password(password))

	line := string(ssh.MarshalAuthorizedKey(b.key.PublicKey()))
	if _, err := b.client.AddSSHKey(t.Context(), strings.TrimSpace(line)+" anna@laptop"); err != nil {
		t.Fatal(err)
	}
	try("the key", User, true, ssh.PublicKeys(b.key))
	try("the key behind another", User, true, ssh.PublicKeys(b.foreign, b.key))
	try("another user with the key", "root", false, ssh.PublicKeys(b.key))
	try("the public key without the private", User, false, ssh.PublicKeys(thief{b.key.PublicKey(), b.foreign}))
	if log := b.log.String(); strings.Contains(log, password) || !strings.Contains(log, "login failed") || !strings.Contains(log, "user=root source=127.0.0.1") {
		t.Errorf("log:\n%s", log)
	}

	c, err := b.dial(User, ssh.PublicKeys(b.key))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.RemoveSSHKey(t.Context(), "anna@laptop"); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil {
		t.Error("what came in by a key survives it")
	}
	try("the key that was removed", User, false, ssh.PublicKeys(b.key))
}

// thief has a public key, but not the private one.
type thief struct {
	public ssh.PublicKey
	ssh.Signer
}

func (t thief) PublicKey() ssh.PublicKey { return t.public }

func TestShutOut(t *testing.T) {
	b := newBox(t)
	b.setPassword()
	for range freeFailures {
		if _, err := b.dial(User, ssh.Password("wrong password")); err == nil {
			t.Fatal("a wrong password lets in")
		}
	}
	if _, err := b.dial(User, ssh.Password(password)); err == nil {
		t.Error("a source with failed logins is not shut out")
	}
	st, err := b.client.SSH(t.Context())
	if err != nil || len(st.ShutOut) != 1 || st.ShutOut[0].Source != "127.0.0.1" || st.Counts.Failures != freeFailures || st.Counts.Refused == 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if !strings.Contains(b.log.String(), "shut_out_for=30s") {
		t.Error("it is not logged")
	}
}
