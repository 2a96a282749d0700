package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// TestPolicyRejected: a member that does not believe the key keeps the old policy, and so do the others; with --partial it
// is not eligible, not even when the others are gone, until it believes it.
func TestPolicyRejected(t *testing.T) {
	p := installed(t)
	p.tool("keygen", "--out", p.at("second"))
	p.trust(p.A, "second")
	operate(t, p.A, true, "node", "reload")
	second := p.sign(2, document(noPing), "second")
	out := operate(t, p.A, false, "policy", "install", second)
	if !strings.Contains(out, "member 2: rejected: revision 2") || !strings.Contains(out, "no valid signature of a pinned key") || !strings.Contains(out, "member 1: kept the old policy") {
		t.Errorf("install:\n%s", out)
	}
	p.waitRuns(1, p.A, p.B)
	if !p.Reachable() || p.A.Status().State != "ACTIVE" || p.B.Status().State != "STANDBY" {
		t.Error("an install that came to nothing has changed something")
	}

	operate(t, p.A, true, "policy", "install", second, "--partial")
	p.Wait("member b to be taken out", func() bool { return p.B.Status().State == "DOWN" })
	if s := p.status(p.B); s.InForce.Revision != 1 || !strings.Contains(s.Standing.Why, "gw-a runs revision 2") {
		t.Errorf("member b: %+v", s)
	}
	p.waitProblem(p.B, "Policy: this member runs policy revision 1")
	for _, m := range []*pair.Member{p.A, p.B} {
		p.Wait("the event on member "+m.Name, func() bool {
			log := m.Log()
			i := strings.Index(log, "policy_differs")
			return i >= 0 && strings.Contains(log[i:], "policy revision 1 (") && strings.Contains(log[i:], "policy revision 2 (")
		})
	}
	p.Wait("the reason in the log", func() bool { return strings.Contains(p.B.Log(), "member 1: revision 2") })
	stop := p.Watch()
	p.A.Kill()
	time.Sleep(4 * time.Second)
	if s := p.B.Status(); s.State != "DOWN" || s.Gate.Open {
		t.Errorf("a member with an older policy serves: %s", s.State)
	}
	for _, s := range stop() {
		if s.Port == pair.Port("b", "lan") {
			t.Fatal("a member with an older policy answers for the VIP")
		}
	}
	p.A.Start()
	p.WaitStates("ACTIVE", "DOWN")
	p.trust(p.B, "second")
	operate(t, p.B, true, "node", "reload")
	p.WaitStates("ACTIVE", "STANDBY")
	p.waitRuns(2, p.A, p.B)
}

// TestPolicyHolderRejects: when it is the active member that rejects, the one that does not takes over from it.
func TestPolicyHolderRejects(t *testing.T) {
	p := installed(t)
	p.tool("keygen", "--out", p.at("second"))
	p.trust(p.B, "second")
	operate(t, p.B, true, "node", "reload")
	if out := operate(t, p.B, true, "policy", "install", p.sign(2, document(noPing), "second"), "--partial"); !strings.Contains(out, "member 1: rejected") {
		t.Errorf("install:\n%s", out)
	}
	p.WaitStates("DOWN", "ACTIVE")
	if s := p.status(p.A); s.InForce.Revision != 1 || !strings.Contains(s.Standing.Why, "runs revision 2") {
		t.Errorf("member a: %+v", s)
	}
	// Also after a restart, with nobody there.
	p.B.Kill()
	p.A.Stop()
	p.A.Start()
	p.Wait("member a to know", func() bool { return strings.Contains(p.status(p.A).Standing.Why, "the cluster runs revision 2") })
	if s := p.A.Status(); s.State != "DOWN" && s.State != "INIT" {
		t.Errorf("a member with an older policy serves: %s", s.State)
	}
	// The operator goes back to what this member believes: a newer revision of it.
	operate(t, p.A, true, "policy", "install", p.sign(3, document("")), "--partial")
	p.WaitStates("ACTIVE", "")
	p.B.Start()
	p.WaitStates("ACTIVE", "DOWN")
	p.Wait("member b to wait: a never had its revision 2", func() bool { return strings.Contains(p.status(p.B).Standing.Why, "waits for the operator") })
	operate(t, p.B, true, "cluster", "resume-sync")
	p.WaitStates("ACTIVE", "STANDBY")
	p.waitRuns(3, p.A, p.B)
}

// TestPolicyDoesNotApply: what every member accepts, one cannot carry out after all.
func TestPolicyDoesNotApply(t *testing.T) {
	p := installed(t)
	p.B.NS.Run("sysctl", "-qw", "net.ipv6.conf.lan.disable_ipv6=1")
	dual := strings.Replace(document(noPing), "2: 10.1.0.3/24},", "2: 10.1.0.3/24}, addresses6: {1: 'fd00:1::2/64', 2: 'fd00:1::3/64'},", 1)
	out := operate(t, p.A, true, "policy", "install", p.sign(2, dual))
	if !strings.Contains(out, "member 1: installed") || !strings.Contains(out, "member 2: rejected") {
		t.Errorf("install:\n%s", out)
	}
	p.WaitStates("", "DOWN")
	if out := operate(t, p.B, true, "policy", "history"); !strings.Contains(out, "refused: revision 2") || !strings.Contains(out, "* revision 1") {
		t.Errorf("history:\n%s", out)
	}
	// It tries again by itself, so that they can be in force for a moment.
	p.Wait("the old rules, not those of the policy that does not apply", func() bool {
		return !strings.Contains(p.B.NS.Run("nft", "list", "table", "inet", "twinkeep"), "no-ping")
	})
	p.B.NS.Run("sysctl", "-qw", "net.ipv6.conf.lan.disable_ipv6=0")
	p.WaitStates("ACTIVE", "STANDBY") // it tries again by itself
	p.waitRuns(2, p.A, p.B)
}

// TestPolicyConfirm: a policy that nobody confirms goes back everywhere, also when the daemon is restarted meanwhile.
func TestPolicyConfirm(t *testing.T) {
	p := installed(t)
	out := operate(t, p.B, true, "policy", "install", p.sign(2, document(noPing)), "--confirm", "6s")
	if !strings.Contains(out, "goes back in 6s") {
		t.Errorf("install:\n%s", out)
	}
	p.waitRuns(2, p.A, p.B)
	if out := operate(t, p.A, true, "policy", "status"); !strings.Contains(out, "Goes back to revision 1") {
		t.Errorf("status:\n%s", out)
	}
	syscall.Kill(p.B.Process("gatewayd"), syscall.SIGKILL)
	p.waitRuns(1, p.A, p.B)
	p.Wait("traffic by the old rules", p.Reachable)
	if out := operate(t, p.B, true, "policy", "history"); !strings.Contains(out, "refused: not confirmed within 6s") {
		t.Errorf("history:\n%s", out)
	}
	operate(t, p.A, true, "policy", "install", p.sign(3, document(noPing)), "--confirm", "4s")
	operate(t, p.B, true, "policy", "confirm")
	time.Sleep(5 * time.Second)
	if !p.runs(p.A, 3) || !p.runs(p.B, 3) {
		t.Error("a confirmed policy went back")
	}
	// Back to the first document, by the key.
	operate(t, p.A, true, "policy", "rollback", "--to", "1", "--key", p.at("office.key"), "--install")
	p.waitRuns(4, p.A, p.B)
	p.Wait("traffic by the first rules", p.Reachable)
	if s := p.A.Status(); s.State != "ACTIVE" {
		t.Errorf("the role has moved: %s", s.State)
	}
}

// TestPolicyUninstall: the member closes and its peer takes over, until it recovers.
func TestPolicyUninstall(t *testing.T) {
	p := installed(t)
	operate(t, p.A, true, "policy", "uninstall")
	p.WaitStates("DOWN", "ACTIVE")
	p.waitProblem(p.A, "Policy: the policy was uninstalled by an operator")
	if out := operate(t, p.A, true, "policy", "status"); !strings.Contains(out, "uninstalled on this member") {
		t.Errorf("status:\n%s", out)
	}
	syscall.Kill(p.A.Process("gatewayd"), syscall.SIGKILL)
	p.Wait("gatewayd to be back", func() bool { return p.status(p.A).Uninstalled })
	p.Wait("traffic", p.Reachable)
	// Alone it serves nothing.
	p.B.Kill()
	time.Sleep(2 * time.Second)
	if s := p.A.Status(); s.State != "DOWN" {
		t.Errorf("a member without a policy serves: %s", s.State)
	}
	p.B.Start()
	p.WaitStates("DOWN", "ACTIVE")
	operate(t, p.A, true, "policy", "recover")
	p.WaitStates("STANDBY", "ACTIVE")
	p.waitRuns(1, p.A, p.B)
}

// TestPolicyRestarts: neither daemon's restart costs the role, and the box is never without its rules.
func TestPolicyRestarts(t *testing.T) {
	p := installed(t)
	pid := p.A.Process("gatewayd")
	syscall.Kill(pid, syscall.SIGKILL)
	p.Wait("gatewayd to be back", func() bool {
		return strings.Contains(p.A.Log(), "policy: goes on with revision 1")
	})
	time.Sleep(2 * time.Second)
	if s := p.A.Status(); s.State != "ACTIVE" || !p.Reachable() {
		t.Errorf("after a restart of gatewayd: %s", s.State)
	}
	// A bad key, or a node file that cannot run by policies, changes nothing while the box runs.
	bad := filepath.Join(p.A.Dir, "policy-keys", "bad.pub")
	if err := os.WriteFile(bad, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := operate(t, p.A, false, "node", "reload"); !strings.Contains(out, "bad.pub") {
		t.Errorf("node reload with a bad key:\n%s", out)
	}
	os.Remove(bad)
	p.A.WriteNode(strings.Replace(pair.NodeFile(1), "  name: test\n", "", 1))
	if out := operate(t, p.A, false, "node", "reload"); !strings.Contains(out, "cluster.name") {
		t.Errorf("node reload without a name:\n%s", out)
	}
	p.A.WriteNode(pair.NodeFile(1))
	operate(t, p.A, true, "node", "reload")
	if s := p.A.Status(); s.State != "ACTIVE" || !p.runs(p.A, 1) || !p.Reachable() {
		t.Errorf("after bad reloads: %s", s.State)
	}
	syscall.Kill(p.B.Process("had"), syscall.SIGKILL)
	p.Wait("the standby to be back", func() bool {
		s := p.B.Status()
		return s.State == "STANDBY" && s.Policy.Revision == 1
	})
}

// TestPolicyFromNodeFile: a pair that runs by its node files is brought under a policy, one member after the other.
func TestPolicyFromNodeFile(t *testing.T) {
	p := newPolicyPair(t)
	for _, m := range []*pair.Member{p.A, p.B} {
		if err := os.Rename(m.Dir+"/policy-keys", m.Dir+"/later"); err != nil {
			t.Fatal(err)
		}
	}
	p.StartBoth()
	if out := operate(t, p.B, false, "policy", "status"); !strings.Contains(out, "runs by its node file alone") {
		t.Errorf("status:\n%s", out)
	}
	for _, m := range []*pair.Member{p.B, p.A} {
		if err := os.Rename(m.Dir+"/later", m.Dir+"/policy-keys"); err != nil {
			t.Fatal(err)
		}
		operate(t, m, true, "node", "reload")
		if m == p.B {
			p.WaitStates("ACTIVE", "DOWN")
			p.Wait("member a to be heard", func() bool { s := p.status(p.B); return len(s.Peers) == 1 && s.Peers[0].State == "ACTIVE" })
			operate(t, m, true, "policy", "install", p.sign(1, document("")), "--partial")
			p.WaitStates("ACTIVE", "STANDBY")
			p.WaitSync(p.B)
		}
	}
	p.WaitStates("STANDBY", "ACTIVE")
	p.waitRuns(1, p.A, p.B)
	p.Wait("traffic", p.Reachable)
}
