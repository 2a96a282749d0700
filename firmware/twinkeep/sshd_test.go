package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/login"
	"github.com/twinkeep/twinkeep/tools/netnslab"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

const adminPassword = "correct horse battery"

// openSSH is OpenSSH's client at a host of the lab.
type openSSH struct {
	t    *testing.T
	dir  string // known_hosts, what gives the password
	port int
}

func newOpenSSH(t *testing.T, port int, members ...*pair.Member) *openSSH {
	t.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("there is no ssh: install openssh-client")
	}
	c := &openSSH{t: t, dir: t.TempDir(), port: port}
	var known strings.Builder
	for i, m := range members {
		host := fmt.Sprintf("10.1.0.%d", i+2)
		if port != 22 {
			host = fmt.Sprintf("[%s]:%d", host, port)
		}
		fmt.Fprintf(&known, "%s %s\n", host, c.status(m).HostKey)
	}
	c.write("known_hosts", known.String(), 0o600)
	c.password(adminPassword)
	return c
}

func (c *openSSH) write(name, text string, mode os.FileMode) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// password sets what is typed when one is asked for.
func (c *openSSH) password(word string) {
	c.t.Helper()
	c.write("askpass", "#!/bin/sh\necho '"+word+"'\n", 0o700)
}

// status is what sshd of a member says, once it does.
func (c *openSSH) status(m *pair.Member) (st api.SSHStatus) {
	c.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		out, err := exec.Command(binary, "--run", m.Run(), "--json", "ssh", "status").CombinedOutput()
		if err == nil {
			err = json.Unmarshal(out, &st)
		}
		if err == nil && (!st.Enabled || st.Port == uint16(c.port) && st.Problem == "") {
			return st
		}
		if time.Now().After(end) {
			c.t.Fatalf("ssh status: %v\n%s", err, out)
		}
	}
}

// at is ssh from a host to an address, with more arguments.
func (c *openSSH) at(ns *netnslab.NS, addr string, args ...string) *exec.Cmd {
	cmd := exec.Command("ip", append([]string{"netns", "exec", ns.Name, "ssh", "-F", "/dev/null", "-p", strconv.Itoa(c.port), "-o", "ConnectTimeout=3",
		"-o", "UserKnownHostsFile=" + filepath.Join(c.dir, "known_hosts"), "-o", "StrictHostKeyChecking=yes", "-o", "NumberOfPasswordPrompts=1", "-o", "LogLevel=ERROR",
		"-o", "IdentityAgent=none", "admin@" + addr}, args...)...)
	cmd.Env = append(os.Environ(), "SSH_ASKPASS="+filepath.Join(c.dir, "askpass"), "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none", "TERM=xterm")
	return cmd
}

// run gives output, standard error and exit code.
func (c *openSSH) run(ns *netnslab.NS, addr string, args ...string) (out, stderr string, code int) {
	c.t.Helper()
	var o, e bytes.Buffer
	cmd := c.at(ns, addr, args...)
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// says fails the test unless a command at a member's LAN address ends with this code and says this text.
func (c *openSSH) says(p *pair.Pair, addr string, code int, text string, args ...string) {
	c.t.Helper()
	out, stderr, got := c.run(p.ClientNS, addr, args...)
	if got != code || !strings.Contains(out+stderr, text) {
		c.t.Errorf("ssh %s %v: exit code %d, want %d with %q\n%s%s", addr, args, got, code, text, out, stderr)
	}
}

func withPassword(t *testing.T, members ...*pair.Member) {
	t.Helper()
	for _, m := range members {
		if err := login.Set(m.Dir, adminPassword); err != nil {
			t.Fatal(err)
		}
	}
}

// failedSSH is the exit code of OpenSSH's client when it does not get in.
const failedSSH = 255

// TestSSH: the console from the LAN with OpenSSH's client, by password and by key, at both members; nobody from elsewhere.
func TestSSH(t *testing.T) {
	p := pair.NewPair(t, binary)
	withPassword(t, p.A, p.B)
	p.StartBoth()
	c := newOpenSSH(t, 22, p.A, p.B)

	c.says(p, "10.1.0.2", 0, "ACTIVE", "ha")
	c.says(p, "10.1.0.3", 0, "STANDBY", "ha")
	c.says(p, "10.1.0.2", 1, "unknown command", "frobnicate")
	c.says(p, "10.1.0.2", 1, "gw-z", "cluster", "failover", "--to", "gw-z")
	c.says(p, "10.1.0.2", 1, "no shell over the network", "shell")
	c.says(p, "10.1.0.2", 1, "1. one master: OK", "cluster", "verify", "--for", "1s") // nobody uses the addresses: unknown
	c.password("wrong password")
	c.says(p, "10.1.0.2", failedSSH, "Permission denied", "ha")
	c.password(adminPassword)

	// A file through standard input.
	check := c.at(p.ClientNS, "10.1.0.2", "node", "check", "-")
	check.Stdin = strings.NewReader(pair.NodeFile(1) + "colour: blue\n")
	if out, err := check.CombinedOutput(); err == nil || !strings.Contains(string(out), `unknown key "colour"`) {
		t.Errorf("node check from standard input: %v\n%s", err, out)
	}

	// A key.
	id := filepath.Join(c.dir, "id")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "anna@laptop", "-f", id).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	public, err := os.ReadFile(id + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	byKey := []string{"-i", id, "-o", "BatchMode=yes"}
	c.says(p, "10.1.0.2", failedSSH, "Permission denied", append(byKey, "ha")...)
	c.says(p, "10.1.0.2", 0, "may log in now", append([]string{"ssh", "key", "add"}, strings.Fields(string(public))...)...)
	c.says(p, "10.1.0.2", 0, "ACTIVE", append(byKey, "ha")...)
	c.says(p, "10.1.0.3", failedSSH, "Permission denied", append(byKey, "ha")...)
	c.says(p, "10.1.0.2", 0, "anna@laptop", append(byKey, "ssh", "key", "list")...)

	// From nowhere else, and by no virtual address.
	for _, addr := range []string{"192.0.2.2", pair.WANVIP} {
		if _, stderr, code := c.run(p.ServerNS, addr, "ha"); code != failedSSH || !strings.Contains(stderr, "timed out") {
			t.Errorf("from the WAN to %s: exit code %d\n%s", addr, code, stderr)
		}
	}
	if _, stderr, code := c.run(p.ClientNS, pair.LANVIP, "ha"); code != failedSSH || strings.Contains(stderr, "verification failed") {
		t.Errorf("to the VIP: exit code %d\n%s", code, stderr)
	}

	log := p.A.Log()
	for _, text := range []string{
		`login failed" user=admin source=10.1.0.10 by=password`,
		`msg=login user=admin source=10.1.0.10 by="key SHA256:`,
		`msg=command operator="admin from 10.1.0.10 by password" line="\"cluster failover --to gw-z\""`,
		`\"ssh key add ssh-ed25519`,
	} {
		if !strings.Contains(log, text) {
			t.Errorf("the log does not say %s", text)
		}
	}
	if strings.Contains(log, adminPassword) || strings.Contains(log, "wrong password\"") || strings.Contains(log, `line="\"ha\""`) {
		t.Error("the log says too much")
	}
	if t.Failed() {
		t.Logf("log:\n%s", log)
	}
	p.A.Stop()
	p.A.Start()
	p.WaitStates("STANDBY", "ACTIVE")
	c.status(p.A)
	c.says(p, "10.1.0.2", 0, "STANDBY", append(byKey, "ha")...) // host key and list are the same after a restart
}

// TestSSHTerminal is the interactive console through a terminal: prompt, completion, a command, Ctrl-C, the end.
func TestSSHTerminal(t *testing.T) {
	p := pair.NewPair(t, binary)
	withPassword(t, p.A)
	p.StartBoth()
	c := newOpenSSH(t, 22, p.A)
	cmd := c.at(p.ClientNS, "10.1.0.2")
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 132})
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	screen := watch(t, terminal)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", p.A.Log())
		}
	})
	screen.expect("? shows what can be typed")
	screen.expect("gw-a:/> ")
	io.WriteString(screen, "cluster fail\t\t")
	screen.expect("failovers")
	io.WriteString(screen, "\x03ha\r")
	screen.expect("ACTIVE")
	screen.expect("gw-a:/> ")
	io.WriteString(screen, "log --follow\r")
	screen.expect("login")
	io.WriteString(screen, "\x03")
	screen.expect("^C")
	screen.expect("gw-a:/> ")
	io.WriteString(screen, "shell\r")
	screen.expect("no shell over the network")
	io.WriteString(screen, "exit\r")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
}

// TestSSHAlone: the front has no privileges; its death and that of the keeper, or a keeper that stands still, change nothing
// but the console over the network.
func TestSSHAlone(t *testing.T) {
	p := pair.NewPair(t, binary)
	withPassword(t, p.A)
	p.StartBoth()
	c := newOpenSSH(t, 22, p.A)
	stay := c.at(p.ClientNS, "10.1.0.2", "log", "--follow")
	out, err := stay.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stay.Start(); err != nil {
		t.Fatal(err)
	}
	out.Read(make([]byte, 1)) // it has logged in
	keeper := p.A.Process("sshd")
	var front int // in a network namespace of its own
	found, err := exec.Command("pgrep", "-P", strconv.Itoa(keeper), "-f", "sshd-front").Output()
	if _, scanErr := fmt.Sscan(string(found), &front); scanErr != nil {
		t.Fatalf("no front: %v, %v", err, scanErr)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", front))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Uid:\t65534\t65534\t65534\t65534\n", "Gid:\t65534\t65534\t65534\t65534\n", "Groups:\t \n", "CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n"} {
		if !strings.Contains(string(status), line) {
			t.Errorf("the front has more than %q:\n%s", line, status)
		}
	}
	if entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/root", front)); err != nil || len(entries) > 0 {
		t.Errorf("the root of the front has %v, %v", entries, err)
	}
	ours, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", keeper))
	if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", front)); err != nil || theirs == ours {
		t.Errorf("the network of the front is %s, %v", theirs, err)
	}
	count := p.A.Status().Failover.Count
	for _, pid := range []int{front, keeper} {
		syscall.Kill(pid, syscall.SIGKILL)
		p.Wait("the console over the network", func() bool {
			_, _, code := c.run(p.ClientNS, "10.1.0.2", "version")
			return code == 0
		})
	}
	if err := stay.Wait(); err == nil {
		t.Error("a session survives the front")
	}
	keeper = p.A.Process("sshd")
	syscall.Kill(keeper, syscall.SIGSTOP)
	time.Sleep(time.Second)
	syscall.Kill(keeper, syscall.SIGCONT)
	if s := p.A.Status(); s.State != "ACTIVE" || s.Failover.Count != count || len(s.Problems) > 0 {
		t.Errorf("the member noticed: %s, %+v, %v", s.State, s.Failover, s.Problems)
	}
}

// TestSSHPolicy: port, sources and off are the policy's.
func TestSSHPolicy(t *testing.T) {
	p := newPolicyPair(t)
	withPassword(t, p.A, p.B)
	p.A.Start()
	p.B.Start()
	p.WaitStates("DOWN", "DOWN")
	p.waitHeard()
	install := func(revision int, extra ...string) {
		t.Helper()
		operate(t, p.A, true, "policy", "install", p.sign(revision, document("", extra...)))
		p.waitRuns(uint64(revision), p.A, p.B)
	}
	management := "management: [{name: admins, from: [lan], source: [10.1.0.10], service: [ssh]}]"
	install(1, management, "services: {ssh: {port: 2222}}")
	p.ClientNS.Run("ip", "addr", "add", "10.1.0.11/24", "dev", "eth0")
	c := newOpenSSH(t, 2222, p.A, p.B)
	c.says(p.Pair, "10.1.0.2", 0, "revision 1", "policy", "status")
	c.says(p.Pair, "10.1.0.2", failedSSH, "timed out", "-b", "10.1.0.11", "ha")
	c.says(p.Pair, pair.LANVIP, failedSSH, "timed out", "ha")
	// A file through standard input, on all members.
	file, err := os.Open(p.sign(2, document("", management, "services: {ssh: {enabled: false, port: 2222}}")))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := c.at(p.ClientNS, "10.1.0.2", "policy", "install", "-")
	cmd.Stdin = file
	out, err := cmd.CombinedOutput() // it ends the connection that it came by, sooner or later than the answer
	p.waitRuns(2, p.A, p.B)
	t.Logf("policy install -: %v\n%s", err, out)
	p.Wait("sshd to be off", func() bool { return !c.status(p.A).Enabled && !c.status(p.B).Enabled })
	c.says(p.Pair, "10.1.0.2", failedSSH, "refused", "ha")
	install(3, "management: [{name: admins, from: [lan], service: [ping]}]", "services: {ssh: {port: 2222}}")
	p.Wait("sshd to be on", func() bool { return c.status(p.A).Enabled })
	c.says(p.Pair, "10.1.0.2", failedSSH, "timed out", "ha")
	install(4, "management: [{name: admins, from: [lan], service: [ssh], vips: true}]", "services: {ssh: {port: 2222}}")
	p.makeActive()
	known, err := os.ReadFile(filepath.Join(c.dir, "known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	c.write("known_hosts", strings.ReplaceAll(string(known), "10.1.0.2]", pair.LANVIP+"]"), 0o600)
	c.says(p.Pair, pair.LANVIP, 0, "ACTIVE", "ha")
}

// TestSSHLockdown: who is locked down can be reached, at the port of the node file.
func TestSSHLockdown(t *testing.T) {
	p := labPair(t)
	for i, m := range []*pair.Member{p.A, p.B} {
		m.WriteNode(pair.NodeFile(i+1) + "registration: lan\nssh: {port: 2222}\n")
	}
	withPassword(t, p.A, p.B)
	p.StartBoth()
	c := newOpenSSH(t, 2222, p.A, p.B)
	operate(t, p.A, true, "license", "install", licenceFile(t, p.A, licenceFor(p.B, "lan")), "--force")
	p.Wait("lockdown", func() bool { return lockedDown(p.A) })
	c.says(p, "10.1.0.2", 0, "LOCKDOWN", "license")
	remove := c.at(p.ClientNS, "10.1.0.2", "license", "remove", "--force")
	if out, err := remove.CombinedOutput(); err != nil {
		t.Errorf("license remove: %v\n%s", err, out)
	}
}

// TestSSHFiles: an archive through standard output; and silent connections of many sources do not keep the operator out.
func TestSSHFiles(t *testing.T) {
	p := pair.NewPair(t, binary)
	withPassword(t, p.A, p.B)
	p.StartBoth()
	c := newOpenSSH(t, 22, p.A, p.B)
	saved := filepath.Join(c.dir, "a.tar.gz")
	out, err := os.Create(saved)
	if err != nil {
		t.Fatal(err)
	}
	cmd := c.at(p.ClientNS, "10.1.0.2", "techsupport")
	cmd.Stdout = out
	if err := errors.Join(cmd.Run(), out.Close()); err != nil {
		t.Fatalf("ssh techsupport: %v", err)
	}
	checkArchive(t, saved, "ACTIVE")
	c.says(p, "10.1.0.2", 1, "no file is written", "techsupport", "/root/x")

	// Sixteen sources with two silent connections each, where eight connections find room.
	for i := range 16 {
		source := fmt.Sprintf("10.1.0.%d", 50+i)
		p.ClientNS.Run("ip", "addr", "add", source+"/24", "dev", "eth0")
		for range 2 {
			p.ClientNS.Do(func() {
				d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
				if conn, err := d.Dial("tcp", "10.1.0.2:22"); err == nil {
					t.Cleanup(func() { conn.Close() })
				}
			})
		}
	}
	c.says(p, "10.1.0.2", 0, "ACTIVE", "ha")
}
