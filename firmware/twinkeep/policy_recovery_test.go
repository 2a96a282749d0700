package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/tools/managertest"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// says waits until a member's journal has a text, beyond what it had at mark.
func (p *policyPair) says(m *pair.Member, mark int, text string) {
	p.t.Helper()
	p.Wait("member "+m.Name+" to say: "+text, func() bool { return strings.Contains(m.Log()[mark:], text) })
}

// long is a document that takes its time on a slow link.
func long(rules string) string {
	return document(rules) + strings.Repeat("# "+strings.Repeat("x", 77)+"\n", 4000)
}

// TestPolicyRecoveryFromPeer: the active peer comes first. It dies in mid-transfer, and what it alone knew is kept when it
// is back, until the operator gives it up.
func TestPolicyRecoveryFromPeer(t *testing.T) {
	p := installed(t)
	p.B.Stop()
	if out := operate(t, p.A, false, "policy", "install", p.sign(2, document(noPing))); !strings.Contains(out, "member 2: unreachable") {
		t.Errorf("install without member b:\n%s", out)
	}
	p.waitRuns(1, p.A)
	operate(t, p.A, true, "policy", "install", p.sign(2, document(noPing)), "--partial")
	mark := len(p.B.Log())
	p.B.Start()
	p.WaitStates("ACTIVE", "STANDBY")
	p.says(p.B, mark, "took revision 2")
	p.says(p.B, mark, "from member 1")
	p.waitRuns(2, p.A, p.B)
	if out := operate(t, p.A, true, "policy", "unsynced"); !strings.Contains(out, "revision 2") {
		t.Errorf("unsynced, before a has heard that b has it:\n%s", out)
	}

	// The peer dies in mid-transfer: what this member has itself comes next.
	p.B.Stop()
	operate(t, p.A, true, "policy", "install", p.sign(3, long("")), "--partial")
	p.Switch.Run("tc", "qdisc", "add", "dev", pair.Port("b", "sync"), "root", "tbf", "rate", "300kbit", "burst", "20kb", "latency", "800ms")
	// A kernel goes on sending what its dead process has written: here that is little.
	p.A.NS.Run("sysctl", "-qw", "net.ipv4.tcp_wmem=4096 16384 16384")
	mark = len(p.B.Log())
	p.B.Start()
	// The question for the revision takes a few kilobytes, the document over 300: at this rate, 8 s.
	received := regexp.MustCompile(`169\.254\.77\.1\S*:8119\s.*\sbytes_received:(\d{5,})`)
	p.Wait("the transfer to be under way", func() bool {
		for _, m := range received.FindAllStringSubmatch(p.B.NS.Run("ss", "-HOtin", "state", "established", "dport", "=", ":8119"), -1) {
			if n, err := strconv.Atoi(m[1]); err == nil && n > 40_000 {
				return true
			}
		}
		return false
	})
	p.A.Kill()
	p.Wait("member b to serve by what it has", func() bool { return p.B.Status().State == "ACTIVE" })
	p.says(p.B, mark, "runs its own revision 2")
	if !regexp.MustCompile(`member 1: [1-9]\d* of \d+ bytes: `).MatchString(p.B.Log()[mark:]) {
		t.Error("the peer did not die in mid-transfer")
	}
	p.waitRuns(2, p.B)
	p.Switch.Run("tc", "qdisc", "del", "dev", pair.Port("b", "sync"), "root")

	// It is back, with a commit that never reached the other (HAC).
	mark = len(p.A.Log())
	p.A.Start()
	p.says(p.A, mark, "waits for the operator")
	p.WaitStates("DOWN", "ACTIVE")
	p.waitProblem(p.A, "Policy: waits for the operator")
	out := operate(t, p.A, true, "policy", "unsynced")
	if !strings.Contains(out, "revision 3") || strings.Contains(out, "given up") {
		t.Errorf("unsynced:\n%s", out)
	}
	digest := out[strings.Index(out, "sha256:"):]
	digest = strings.Fields(digest)[0]
	if doc := operate(t, p.A, true, "policy", "file", "--digest", digest); doc != long("") {
		t.Errorf("what was kept is not what was installed: %d bytes", len(doc))
	}
	// It waits also after another restart, and nothing overwrites it.
	p.A.Stop()
	p.A.Start()
	p.WaitStates("DOWN", "ACTIVE")
	p.Wait("it to wait again", func() bool { return strings.Contains(p.status(p.A).Standing.Why, "waits for the operator") })
	operate(t, p.B, false, "cluster", "resume-sync") // nothing to give up there
	operate(t, p.A, true, "cluster", "resume-sync")
	p.WaitStates("STANDBY", "ACTIVE")
	p.waitRuns(2, p.A, p.B)
	if out := operate(t, p.A, true, "policy", "unsynced"); !strings.Contains(out, "given up for the cluster's policy") {
		t.Errorf("unsynced, after it was given up:\n%s", out)
	}
	if doc := operate(t, p.A, true, "policy", "file", "--digest", digest); doc != long("") {
		t.Error("what was given up cannot be had any more")
	}
	operate(t, p.A, false, "cluster", "resume-sync")
}

// TestPolicyResumeAutomatic: by the setting, the returning member gives up by itself.
func TestPolicyResumeAutomatic(t *testing.T) {
	p := installed(t)
	doc := func(rules string) string {
		return strings.Replace(document(rules), "cluster:\n", "cluster:\n  lock: {resume: automatic}\n", 1)
	}
	operate(t, p.A, true, "policy", "install", p.sign(2, doc("")))
	p.waitRuns(2, p.A, p.B)
	p.B.Stop()
	operate(t, p.A, true, "policy", "install", p.sign(3, doc(noPing)), "--partial")
	p.A.Kill()
	p.B.Start()
	p.WaitStates("", "ACTIVE")
	mark := len(p.A.Log())
	p.A.Start()
	p.says(p.A, mark, "took revision 2")
	p.WaitStates("STANDBY", "ACTIVE")
	if out := operate(t, p.A, true, "policy", "unsynced"); !strings.Contains(out, "given up") {
		t.Errorf("unsynced:\n%s", out)
	}
}

// TestPolicyUnsyncedInstalled: the operator keeps what never reached the peer, by installing it.
func TestPolicyUnsyncedInstalled(t *testing.T) {
	p := installed(t)
	p.B.Stop()
	operate(t, p.A, true, "policy", "install", p.sign(2, document(noPing)), "--partial")
	p.A.Kill()
	p.B.Start()
	p.WaitStates("", "ACTIVE")
	p.waitRuns(1, p.B)
	p.A.Start()
	p.WaitStates("DOWN", "ACTIVE")
	p.Wait("member a to wait", func() bool {
		return len(p.status(p.A).Unsynced) == 1 && strings.Contains(p.status(p.A).Standing.Why, "waits")
	})
	operate(t, p.A, true, "policy", "install", "--revision", "2")
	p.waitRuns(2, p.A, p.B)
	p.WaitStates("STANDBY", "ACTIVE")
	if out := operate(t, p.A, true, "policy", "unsynced"); !strings.Contains(out, "None.") {
		t.Errorf("unsynced:\n%s", out)
	}
}

// TestPolicyUnsyncedAlone: a member that waits for its operator serves by what it has when nobody else is left, and hands
// that on.
func TestPolicyUnsyncedAlone(t *testing.T) {
	p := installed(t)
	p.B.Stop()
	operate(t, p.A, true, "policy", "install", p.sign(2, document(noPing)), "--partial")
	p.A.Kill()
	p.B.Start()
	p.WaitStates("", "ACTIVE")
	p.A.Start()
	p.WaitStates("DOWN", "ACTIVE")
	p.Wait("member a to wait", func() bool { return strings.Contains(p.status(p.A).Standing.Why, "waits for the operator") })
	p.B.Kill()
	p.WaitStates("ACTIVE", "")
	p.waitRuns(2, p.A)
	p.B.Start()
	p.WaitStates("ACTIVE", "STANDBY")
	p.waitRuns(2, p.A, p.B)
}

// TestPolicyFullDisk: what does not fit on the disk does not come into force, and costs nothing.
func TestPolicyFullDisk(t *testing.T) {
	p := newPolicyPair(t)
	small := filepath.Join(p.B.Dir, "state", "policy")
	if err := os.MkdirAll(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", small).CombinedOutput(); err != nil {
		t.Skipf("a small file system cannot be mounted here: %s", out)
	}
	t.Cleanup(func() { exec.Command("umount", "-l", small).Run() })
	p.A.Start()
	p.B.Start()
	p.WaitStates("DOWN", "DOWN")
	p.waitHeard()
	operate(t, p.A, true, "policy", "install", p.sign(1, document("")))
	p.waitRuns(1, p.A, p.B)
	p.makeActive()
	out := operate(t, p.A, false, "policy", "install", p.sign(2, long("")))
	if !strings.Contains(out, "member 2: rejected") || !strings.Contains(out, "no space left on device") {
		t.Errorf("install:\n%s", out)
	}
	p.waitRuns(1, p.A, p.B)
	// By the recovery order it is the same.
	operate(t, p.A, true, "policy", "install", p.sign(3, long("")), "--partial")
	p.WaitStates("ACTIVE", "DOWN")
	p.says(p.B, 0, "no space left on device")
	if s := p.status(p.B); s.InForce.Revision != 1 || len(s.Damage) > 0 {
		t.Errorf("member b: %+v", s)
	}
	p.B.Stop()
	p.B.Start()
	p.WaitStates("ACTIVE", "DOWN")
	p.Wait("its own policy", func() bool { return p.status(p.B).InForce.Revision == 1 })
	operate(t, p.A, true, "policy", "install", p.sign(4, document(noPing)))
	p.WaitStates("ACTIVE", "STANDBY")
	p.waitRuns(4, p.A, p.B)
}

// serverPair is a policyPair with a management server where the server is.
type serverPair struct {
	*policyPair
	manager  *managertest.Server
	settings string // the operator's
}

const managerAddress = pair.Server + ":8443"

func newServerPair(t *testing.T) *serverPair {
	t.Helper()
	p := &serverPair{policyPair: newPolicyPair(t)}
	p.manager = managertest.New(t, p.ServerNS.Name, managerAddress)
	p.manager.Restart()
	for _, m := range []*pair.Member{p.A, p.B} {
		p.write(filepath.Join(m.Dir, "manager.yaml"), p.manager.Gateway, "poll: 1s\n")
	}
	p.settings = p.at("manager.yaml")
	p.write(p.settings, p.manager.Operator, "")
	return p
}

func (p *serverPair) write(path, token, more string) {
	p.t.Helper()
	text := "address: " + managerAddress + "\nrepository: policies/test\ntoken: " + token + "\n" + more + "ca: |\n"
	for line := range strings.Lines(p.manager.CA) {
		text += "  " + line
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// push publishes a policy file.
func (p *serverPair) push(file string) {
	p.t.Helper()
	p.ServerNS.Run(binary, "policy", "push", file, "--settings", p.settings)
}

// TestPolicyRecoveryFromServer: nothing anywhere, until the server comes; then every answer that a server can give.
func TestPolicyRecoveryFromServer(t *testing.T) {
	p := newServerPair(t)
	p.manager.Stop()
	p.A.Start()
	p.B.Start()
	p.WaitStates("DOWN", "DOWN")
	p.says(p.A, 0, "closed, without a policy: no member is active; the management server")
	p.says(p.A, 0, "again in")
	if p.Reachable() {
		t.Error("traffic passes without a policy")
	}
	p.manager.Restart()
	p.push(p.sign(1, document("")))
	p.waitRuns(1, p.A, p.B) // healed, without a hand
	p.makeActive()

	// A newer one is installed on both by the active member.
	p.push(p.sign(2, document(noPing)))
	p.waitRuns(2, p.A, p.B)
	p.says(p.A, 0, "revision 2")
	if out := operate(t, p.B, true, "policy", "status"); !strings.Contains(out, "Management server: "+managerAddress+"/policies/test") {
		t.Errorf("status:\n%s", out)
	}
	replay := p.at("replay")
	p.copy(p.manager.Dir, replay)

	// Nobody is active: the newer of the server's and its own.
	p.B.Stop()
	p.A.Stop()
	p.push(p.sign(3, document("")))
	p.B.Start()
	p.says(p.B, 0, "took revision 3")
	p.says(p.B, 0, "from the management server")
	p.WaitStates("", "ACTIVE")
	p.A.Start()
	p.WaitStates("STANDBY", "ACTIVE")
	p.waitRuns(3, p.A, p.B)
	p.says(p.A, 0, "from member 2")

	// A server that was set back: a replay is refused.
	p.B.Stop()
	p.A.Stop()
	p.manager.Stop()
	p.copy(replay, p.manager.Dir)
	p.manager.Restart()
	mark := len(p.A.Log())
	p.A.Start()
	p.says(p.A, mark, "the management server has the older revision 2")
	p.WaitStates("ACTIVE", "")
	p.waitRuns(3, p.A)
	if out := operate(t, p.A, false, "policy", "install", "--from-server"); !strings.Contains(out, "not newer") {
		t.Errorf("install of a replay:\n%s", out)
	}
	// The same by a file.
	if out := operate(t, p.A, false, "policy", "install", p.sign(1, document(""))); !strings.Contains(out, "not newer") {
		t.Errorf("install of a replay:\n%s", out)
	}

	// A newer one that nobody here has a key for.
	p.tool("keygen", "--out", p.at("stranger"))
	p.push(p.sign(5, document(""), "stranger"))
	p.says(p.A, mark, "no valid signature of a pinned key")
	mark = len(p.A.Log())
	p.A.Stop()
	p.A.Start()
	p.says(p.A, mark, "no valid signature of a pinned key")
	p.says(p.A, mark, "runs its own revision 3")
	p.WaitStates("ACTIVE", "")

	// The operator does not wait for the next poll.
	p.B.Start()
	p.WaitStates("ACTIVE", "STANDBY")
	p.waitRuns(3, p.B)
	for _, m := range []*pair.Member{p.A, p.B} {
		p.write(filepath.Join(m.Dir, "manager.yaml"), p.manager.Gateway, "poll: 1h\n")
		operate(t, m, true, "node", "reload")
	}
	p.push(p.sign(6, document(noPing)))
	p.waitHeard()
	if out := operate(t, p.B, true, "policy", "install", "--from-server"); !strings.Contains(out, "member 1: installed") || !strings.Contains(out, "member 2: installed") {
		t.Errorf("install:\n%s", out)
	}
	p.waitRuns(6, p.A, p.B)
	if s := p.A.Status(); s.State != "ACTIVE" {
		t.Errorf("the role has moved: %s", s.State)
	}
}

// copy replaces a directory by another one's content.
func (p *serverPair) copy(from, to string) {
	p.t.Helper()
	if err := os.RemoveAll(to); err != nil {
		p.t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		p.t.Fatal(err)
	}
	for _, name := range []string{"ca.key", "tokens.json"} {
		os.Chmod(filepath.Join(to, name), 0o600)
	}
}
