package sshd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// hello reads the server's version line of a connection; it fails when the connection was refused.
func hello(c net.Conn) error {
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	defer c.SetReadDeadline(time.Time{})
	buf := make([]byte, 8)
	if _, err := io.ReadFull(c, buf); err != nil {
		return err
	}
	if string(buf) != "SSH-2.0-" {
		return fmt.Errorf("%q", buf)
	}
	return nil
}

func (b *box) connect() net.Conn {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

func (b *box) connections() int {
	b.t.Helper()
	st, err := b.client.SSH(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return len(st.Connections)
}

// TestGarbage: what is no SSH ends its own connection, and nothing else.
func TestGarbage(t *testing.T) {
	b := newBox(t)
	b.setPassword()
	rng := rand.New(rand.NewPCG(3, 4))
	random := make([]byte, 64<<10)
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	stays := b.login()
	for what, text := range map[string][]byte{
		"nothing":             nil,
		"HTTP":                []byte("GET / HTTP/1.1\r\nHost: gw\r\n\r\n"),
		"an endless version":  append([]byte("SSH-2.0-"), bytes.Repeat([]byte("x"), 1<<20)...),
		"an old version":      []byte("SSH-1.5-x\r\n"),
		"random bytes":        random,
		"a packet of 4 GB":    append([]byte("SSH-2.0-x\r\n\xff\xff\xff\xff"), random...),
		"a packet of nothing": append([]byte("SSH-2.0-x\r\n\x00\x00\x00\x00"), random...),
		"random packets":      append([]byte("SSH-2.0-x\r\n\x00\x00\x01\x00\x04\x14"), random...),
		"a lie about padding": append([]byte("SSH-2.0-x\r\n\x00\x00\x00\x0c\xff\x14"), random...),
		"lines before it":     bytes.Repeat([]byte("hello\r\n"), 10_000),
	} {
		c := b.connect()
		c.Write(text) // it may be over before all is written
		c.(*net.TCPConn).CloseWrite()
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, c); err != nil && os.IsTimeout(err) {
			t.Errorf("%s: the connection stays", what)
		}
		c.Close()
	}
	waitFor(t, "the end of the connections", func() bool { return b.connections() == 1 })
	if out, err := newSession(t, stays).Output("ha"); err != nil || !strings.Contains(string(out), "ha") {
		t.Errorf("another connection: %q, %v", out, err)
	}
	if st, _ := b.client.SSH(t.Context()); st.Counts.Crashes != 0 {
		t.Errorf("%d crashes", st.Counts.Crashes)
	}
}

// TestFlood: a source that opens connections and says nothing gets its share of places and no more, however many it opens; who is
// in stays in, and the processes stay small.
func TestFlood(t *testing.T) {
	b := newBox(t)
	b.setPassword()
	stays := b.login()
	served := 0
	var silent []net.Conn
	for range 300 {
		c := b.connect()
		silent = append(silent, c)
	}
	for _, c := range silent[:20] {
		if hello(c) == nil {
			served++
		}
	}
	if served != maxPerSource {
		t.Errorf("%d connections were served, want %d", served, maxPerSource)
	}
	if n := b.connections(); n > maxPerSource+1 {
		t.Errorf("%d connections", n)
	}
	k := b.frontPID()
	if n := threadsAndFiles(t, k); n > 100 {
		t.Errorf("the front has %d threads and descriptors", n)
	}
	if rss := memory(t, k); rss > 64<<10 {
		t.Errorf("the front has %d KiB", rss)
	}
	if err := newSession(t, stays).Run("ha"); err != nil {
		t.Error(err)
	}
	for _, c := range silent {
		c.Close()
	}
	waitFor(t, "the end of the flood", func() bool { return b.connections() == 1 })
	if _, err := b.dial(User, ssh.Password(password)); err != nil {
		t.Errorf("behind the flood: %v", err)
	}
	waitFor(t, "the log of the flood", func() bool { return strings.Contains(b.log.String(), "connections refused") })
	if n := strings.Count(b.log.String(), "connections refused"); n > 20 {
		t.Errorf("%d lines of log", n)
	}
}

// TestManyPasswords: passwords at the same time are compared one after the other, and end in being shut out.
func TestManyPasswords(t *testing.T) {
	b := newBox(t)
	b.setPassword()
	var wg sync.WaitGroup
	for range maxPerSource {
		wg.Go(func() {
			for range 4 {
				if c, err := b.dial(User, ssh.RetryableAuthMethod(ssh.PasswordCallback(func() (string, error) { return "wrong password", nil }), 3)); err == nil {
					c.Close()
					t.Error("a wrong password lets in")
				}
			}
		})
	}
	wg.Wait()
	if st, _ := b.client.SSH(t.Context()); len(st.ShutOut) != 1 || st.Counts.Failures > freeFailures+maxPerSource {
		t.Errorf("%+v", st)
	}
}

// TestManyConsoles: consoles are bounded.
func TestManyConsoles(t *testing.T) {
	b := newBox(t)
	b.setPassword()
	open := 0
	for range 3 {
		c := b.login()
		for range maxPerLogin + 2 {
			s, err := c.NewSession()
			if err != nil {
				continue
			}
			out, err := s.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if s.Start("stay") == nil {
				var pid int
				if _, err := fmt.Fscan(out, &pid); err == nil {
					open++
				}
			}
		}
	}
	if open != maxSessions {
		t.Errorf("%d consoles are open, want %d", open, maxSessions)
	}
}

func (b *box) frontPID() int {
	b.t.Helper()
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(os.Getpid()), "-f", FrontCommand).Output()
	fields := strings.Fields(string(out))
	if len(fields) == 0 {
		b.t.Fatalf("no front: %v", err)
	}
	pid, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil {
		b.t.Fatal(err)
	}
	return pid
}

func threadsAndFiles(t *testing.T, pid int) int {
	t.Helper()
	n := 0
	for _, dir := range []string{"task", "fd"} {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", pid, dir))
		if err != nil {
			t.Fatal(err)
		}
		n += len(list)
	}
	return n
}

// memory of a process in KiB.
func memory(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d KiB", n)
	return n
}

// TestUntrustedFront: a front that says what it likes gets nothing that it has not proved, and never breaks the keeper.
func TestUntrustedFront(t *testing.T) {
	k := testKeeper(t)
	ours, theirs, err := channelPair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	f := &front{channel: ours}
	k.conns[1] = &conn{id: 1, source: netip.MustParseAddrPort("10.0.0.1:1")}
	k.guard.admit(0, 1, addr("10.0.0.1"))
	command := "ha"
	for what, m := range map[string]message{
		"to sign what it likes":    {Op: opSign, Data: make([]byte, signedLen+1)},
		"something else":           {Op: "root"},
		"what only the keeper has": {Op: opConnection, Conn: 1},
	} {
		if err := k.asked(f, m); err == nil {
			t.Errorf("it may ask for %s", what)
		}
	}
	for _, m := range []message{{Op: opOpen, Conn: 1, Command: &command}, {Op: opOpen, Conn: 2}, {Op: opLogin, Conn: 1, User: User, Key: newKey(t).PublicKey().Marshal()}, {Op: opDone, Session: 9}, {Op: opClosed, Conn: 9}} {
		if err := k.asked(f, m); err != nil {
			t.Errorf("%+v: %v", m, err)
		}
	}
	if k.conns[1].known || len(k.sessions) > 0 {
		t.Error("it got in")
	}
}

func testKeeper(t testing.TB) *keeper {
	t.Helper()
	host, _, err := hostKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &keeper{
		Options: Options{ConfigDir: t.TempDir(), Program: "/bin/false", Log: discard()}, host: host, guard: newGuard(),
		conns: make(map[uint64]*conn), sessions: make(map[uint64]*session), refused: make(map[string]uint64),
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"op":"open","conn":1,"terminal":{"type":"xterm","cols":80,"rows":24},"command":"ha"}`))
	f.Add([]byte(`{"op":"password","id":1,"conn":1,"user":"admin","password":"eA=="}`))
	f.Add([]byte(`{"op":"login","conn":1,"key":"AAAA"}`))
	f.Add([]byte(`{"op":"sign","data":"AAAA"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decode(data)
		if err != nil {
			return
		}
		k := testKeeper(t)
		ours, theirs, err := channelPair()
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		defer theirs.Close()
		k.conns[1] = &conn{id: 1, source: netip.MustParseAddrPort("10.0.0.1:1")}
		k.guard.admit(0, 1, addr("10.0.0.1"))
		k.asked(&front{channel: ours, proc: new(os.Process)}, m)
		k.hashes.Lock() // whatever compares a password has begun or waits
		k.mu.Lock()
		defer k.mu.Unlock()
		defer k.hashes.Unlock()
		for _, c := range k.conns {
			if c.known {
				t.Fatalf("%s got in", data)
			}
		}
		if len(k.sessions) > 0 {
			t.Fatalf("%s has a console", data)
		}
	})
}

// TestFrontAlone: the front ends with its keeper.
func TestFrontAlone(t *testing.T) {
	ours, theirs, err := channelPair()
	if err != nil {
		t.Fatal(err)
	}
	other, err := newChannel(theirs)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- newSpeaker(other).run() }()
	ours.send(message{Op: opReply, Key: newKey(t).PublicKey().Marshal()})
	ours.Close()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the front stays")
	}
}

// TestSettings: where it listens follows the node file.
func TestSettings(t *testing.T) {
	dir, run := t.TempDir(), t.TempDir()
	s := settings{}.read(dir, run)
	if s.port != 22 {
		t.Errorf("without a node file: port %d", s.port)
	}
	write := func(text string) settings {
		os.Remove(filepath.Join(dir, "node.yaml")) // another file, whatever the clock says
		if err := os.WriteFile(filepath.Join(dir, "node.yaml"), []byte("version: 1\nhostname: a\ninterfaces: [{name: G1, zone: lan, address: 10.0.0.2/24}]\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		s = s.read(dir, run)
		return s
	}
	for _, c := range []struct {
		text string
		want uint16
	}{{"ssh: {port: 2222}\n", 2222}, {"colour: blue # a fault: as before\n", 2222}, {"ssh: {enabled: false}\n", 0}, {"\n", 22}} {
		if got := write(c.text).port; got != c.want {
			t.Errorf("%q: port %d, want %d", c.text, got, c.want)
		}
	}
}

// TestRestart: host key and keys survive; a damaged host key is put aside.
func TestRestart(t *testing.T) {
	b := newBox(t)
	if _, err := b.client.AddSSHKey(context.Background(), string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(b.key.PublicKey())))); err != nil {
		t.Fatal(err)
	}
	before := b.hostKey
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	b.start()
	if !bytes.Equal(before.Marshal(), b.hostKey.Marshal()) {
		t.Error("another host key")
	}
	if _, err := b.dial(User, ssh.PublicKeys(b.key)); err != nil {
		t.Error(err)
	}
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(b.state, hostFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the host key: %v, %v", info, err)
	}
	if err := os.WriteFile(path, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	if bytes.Equal(before.Marshal(), b.hostKey.Marshal()) || !strings.Contains(b.log.String(), "was damaged") {
		t.Error("a damaged host key")
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
}
