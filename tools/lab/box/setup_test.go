package box

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// TestFirstSetup types at the serial console of a new disk: setup, login, a forgotten password, failsafe, factory reset. The keys of SSH, the box's own and who
// may log in, survive a power cut, and nothing of them a factory reset.
func TestFirstSetup(t *testing.T) {
	t.Parallel()
	l := newLife(t, Variant{Revision: 100, Cmdline: quick}, false)
	l.forwardSSH()
	l.on()
	l.setup()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	l.must(err)
	key, err := ssh.NewSignerFromKey(private)
	l.must(err)
	if _, err := l.ssh("ha", ssh.Password("wrong horse")); err == nil {
		t.Error("a wrong password lets in from the network")
	}
	out, err := l.ssh("ha", ssh.Password("correct horse"))
	if err != nil || !strings.Contains(out, "ACTIVE") {
		t.Errorf("ssh: %v\n%s", err, out)
	}
	out, err = l.ssh("ssh key add "+strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))+" anna", ssh.Password("correct horse"))
	if err != nil {
		t.Errorf("ssh key add: %v\n%s", err, out)
	}
	l.must(l.Enter("exit"))
	l.login()
	if strings.Contains(l.Said(), "correct horse") {
		t.Error("the password was shown")
	}
	if out := l.shell("cat /data/config/admin; ls -l /data/config"); !strings.Contains(out, "$argon2id$") || strings.Contains(out, "-rw-r--r--") {
		t.Errorf("%s", out)
	}
	l.cut()

	// It is asked for after a power cut too. In the menu there is a way without any service.
	l.on()
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(40 * time.Millisecond): // as a key that is held; the loader looks for a tenth of a second
				l.Type(" ")
			}
		}
	}()
	l.see(`failsafe \(slot A\)`)
	close(stop)
	time.Sleep(2 * time.Second)
	l.must(l.Type("\x1b[B")) // cursor down
	time.Sleep(time.Second)
	l.must(l.Type("\r"))
	l.see(`init: failsafe: consoles only`)
	l.see(`init: ready console`)
	l.must(l.Enter(""))
	l.login()
	if !strings.Contains(l.Said(), "FAILSAFE: nothing runs but this console") {
		t.Error("the console does not say where it is")
	}
	if out := l.shell("ip addr show up; nft list tables; ls /run/twinkeep"); strings.Contains(out, "10.1.0.2") || strings.Contains(out, "had.sock") {
		t.Errorf("something runs: %s", out)
	}
	l.runs("A", "good", 100)
	l.must(l.Enter("reboot"))
	l.see(`Type yes to reboot: `)
	l.must(l.Enter("yes"))
	l.see(`Password: `)
	for end := time.Now().Add(patience); ; time.Sleep(time.Second) { // neither sshd nor the role is waited for
		out, err := l.ssh("ha", ssh.PublicKeys(key))
		if err == nil && strings.Contains(out, "currently ACTIVE") {
			break
		}
		if time.Now().After(end) {
			t.Errorf("after the power cut, by the key: %v\n%s", err, out)
			break
		}
	}
	before := l.hostKey
	l.must(l.Enter("factory-reset"))
	l.see(`Type erase`)
	l.must(l.Enter("erase"))
	l.hostKey = ""
	l.setup()
	if out, err := l.ssh("ha", ssh.PublicKeys(key)); err == nil || !strings.Contains(err.Error(), "unable to authenticate") || l.hostKey == "" || l.hostKey == before {
		t.Errorf("after the factory reset, by the key of before: %v, host key %s, before it %s\n%s", err, l.hostKey, before, out)
	}
	l.cut()
}

// setup answers the questions of the first setup of a new box.
func (l *life) setup() {
	l.Helper()
	l.see(`First setup`)
	for _, step := range []struct{ see, answer string }{
		{`Member ID of this device \(1 to 8\) \[1\]: `, "1"}, {`Members in the cluster.*: `, ""}, {`Cluster ID.*: `, "7"}, {`Cluster key.*: `, ""},
		{`Registration interface.*: `, ""}, {`Management address.*: `, "10.1.0.2/24"}, {`Sync interface.*: `, ""},
		{`not shown again(?s:.*)yes, or again: `, "yes"}, {`Admin password.*: `, "correct horse"}, {`The same again: `, "correct horse"},
	} {
		l.see(step.see)
		l.must(l.Enter(step.answer))
	}
	l.see(`(?s)saved and in force.*role assumed|role assumed.*saved and in force`)
}

// upgradeBySSH installs what is on the second disk from the workstation. What is cut short changes nothing.
func (l *life) upgradeBySSH() {
	l.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	l.must(err)
	key, err := ssh.NewSignerFromKey(private)
	l.must(err)
	l.must(l.Enter("ssh key add")) // a line with the key would be wrapped
	l.see(`Public key: `)
	l.must(l.Enter(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))))
	l.see(`may log in now`)
	l.prompt()
	l.command("ssh status") // shows the host key
	file, err := os.ReadFile(l.cfg.Second)
	l.must(err)
	out, err := l.pipe("upgrade install -", ssh.PublicKeys(key), bytes.NewReader(file[:len(file)/3]))
	if err == nil || !strings.Contains(out, "nothing has changed") {
		l.Errorf("a third of an upgrade file: %v\n%s", err, out)
	}
	l.runs("A", "good", 100)
	out, _ = l.pipe("upgrade install -", ssh.PublicKeys(key), bytes.NewReader(file)) // the restart may be faster than its answer
	if !strings.Contains(out, "is in slot B and boots next, on trial. This device restarts") {
		l.Errorf("upgrade by SSH: %s", out)
	}
}

// login tries a wrong password first.
func (l *life) login() {
	l.Helper()
	l.see(`Password: `)
	l.must(l.Enter("wrong horse"))
	l.see(`password is wrong`)
	l.see(`Password: `)
	l.must(l.Enter("correct horse"))
	l.prompt()
}

// forwardSSH leads to the console over the network.
func (l *life) forwardSSH() {
	l.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	l.must(err)
	l.cfg.SSH = ln.Addr().(*net.TCPAddr).Port
	l.must(ln.Close())
}

// ssh runs one command over the network. The host key must be hostKey; while that is empty it is the one that the console has shown, and kept there.
func (l *life) ssh(command string, auth ssh.AuthMethod) (string, error) {
	l.Helper()
	return l.pipe(command, auth, nil)
}

// pipe does so with something at its standard input.
func (l *life) pipe(command string, auth ssh.AuthMethod, in io.Reader) (string, error) {
	l.Helper()
	shown := func(_ string, _ net.Addr, key ssh.PublicKey) error {
		fingerprint := ssh.FingerprintSHA256(key)
		switch {
		case l.hostKey == "" && !strings.Contains(l.Said(), fingerprint):
			return fmt.Errorf("the console has not shown the host key %s", fingerprint)
		case l.hostKey != "" && l.hostKey != fingerprint:
			return fmt.Errorf("the host key is %s, and was %s", fingerprint, l.hostKey)
		}
		l.hostKey = fingerprint
		return nil
	}
	addr := fmt.Sprintf("127.0.0.1:%d", l.cfg.SSH)
	tcp, err := net.Dial("tcp", addr) // QEMU takes it whether the box answers or not
	if err != nil {
		return "", err
	}
	defer tcp.Close()
	tcp.SetDeadline(time.Now().Add(patience))
	conn, channels, requests, err := ssh.NewClientConn(tcp, addr, &ssh.ClientConfig{User: "admin", Auth: []ssh.AuthMethod{auth}, HostKeyCallback: shown})
	if err != nil {
		return "", err
	}
	c := ssh.NewClient(conn, channels, requests)
	defer c.Close()
	s, err := c.NewSession()
	if err != nil {
		return "", err
	}
	defer s.Close()
	s.Stdin = in
	out, err := s.CombinedOutput(command)
	return string(out), err
}
