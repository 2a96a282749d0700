package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/policy/install"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// policyPair is a pair that runs by policies: both members have the public key of the operator, and nothing else yet.
type policyPair struct {
	*pair.Pair
	t   *testing.T
	dir string // of the operator: office.key, documents, policy files
}

func newPolicyPair(t *testing.T) *policyPair {
	t.Helper()
	p := &policyPair{Pair: pair.NewPair(t, binary), t: t, dir: t.TempDir()}
	p.tool("keygen", "--out", p.at("office"))
	for _, m := range []*pair.Member{p.A, p.B} {
		p.trust(m, "office")
	}
	return p
}

func (p *policyPair) at(name string) string { return filepath.Join(p.dir, name) }

// tool runs a command of policy on the operator's workstation.
func (p *policyPair) tool(args ...string) string {
	p.t.Helper()
	out, err := exec.Command(binary, append([]string{"policy"}, args...)...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("policy %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// trust pins a public key on a member.
func (p *policyPair) trust(m *pair.Member, key string) {
	p.t.Helper()
	data, err := os.ReadFile(p.at(key + ".pub"))
	if err == nil {
		err = os.MkdirAll(filepath.Join(m.Dir, "policy-keys"), 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(m.Dir, "policy-keys", key+".pub"), data, 0o600)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// document is a policy of the pair. Filter rules beside the one from LAN to WAN, and whatever else, come in extra.
func document(rules string, extra ...string) string {
	if rules != "" {
		rules += ", "
	}
	return fmt.Sprintf(`version: 1
name: test
cluster:
  id: 7
  name: test
  members: [{id: 1, name: gw-a, priority: 120}, {id: 2, name: gw-b, priority: 100}]
  timing: %s
zones: [{name: lan}, {name: wan}]
interfaces:
  - {name: lan, zone: lan, addresses: {1: 10.1.0.2/24, 2: 10.1.0.3/24}, vips: [%s]}
  - {name: wan, zone: wan, addresses: {1: 192.0.2.2/24, 2: 192.0.2.3/24}, vips: [%s]}
  - {name: sync, sync: true, addresses: {1: 169.254.77.1/30, 2: 169.254.77.2/30}}
nat:
  - {name: office, type: snat, from: [lan], out: [wan], to: vip, ports: random}
filter:
  rules: [%s{name: lan-out, from: [lan], to: [wan], action: accept}]
%s`, pair.Timing, pair.LANVIP, pair.WANVIP, rules, strings.Join(extra, "\n"))
}

// noPing keeps the client's pings from the server.
const noPing = "{name: no-ping, from: [lan], to: [wan], service: [icmp], action: drop}"

// sign writes a policy file of one revision.
func (p *policyPair) sign(revision int, doc string, keys ...string) string {
	p.t.Helper()
	if keys == nil {
		keys = []string{"office"}
	}
	source, out := p.at("policy.yaml"), p.at(fmt.Sprintf("r%d-%d.policy", revision, time.Now().UnixNano()))
	if err := os.WriteFile(source, []byte(doc), 0o600); err != nil {
		p.t.Fatal(err)
	}
	args := []string{"sign", source, "--name", "test", "--revision", fmt.Sprint(revision), "--out", out}
	for _, k := range keys {
		args = append(args, "--key", p.at(k+".key"))
	}
	p.tool(args...)
	return out
}

// status is what a member says of its policies.
func (p *policyPair) status(m *pair.Member) (s install.Status) {
	m.Request("GET", "gatewayd.sock", install.PathStatus, &s)
	return s
}

// runs reports whether a member runs a revision, and may hold the role by it.
func (p *policyPair) runs(m *pair.Member, revision uint64) bool {
	s := p.status(m)
	return s.InForce.Revision == revision && s.Standing.Eligible
}

// waitProblem waits until had says that a critical device keeps a member from serving.
func (p *policyPair) waitProblem(m *pair.Member, text string) {
	p.t.Helper()
	p.Wait("a problem of member "+m.Name+": "+text, func() bool {
		return slices.ContainsFunc(m.Status().Problems, func(s string) bool { return strings.Contains(s, text) })
	})
}

// waitRuns waits until the members run a revision.
func (p *policyPair) waitRuns(revision uint64, members ...*pair.Member) {
	p.t.Helper()
	p.Wait(fmt.Sprintf("revision %d in force", revision), func() bool {
		for _, m := range members {
			if !p.runs(m, revision) {
				return false
			}
		}
		return true
	})
}

// installed starts both members and installs revision 1.
func installed(t *testing.T) *policyPair {
	t.Helper()
	p := newPolicyPair(t)
	p.A.Start()
	p.B.Start()
	p.WaitStates("DOWN", "DOWN")
	p.waitHeard()
	operate(t, p.A, true, "policy", "install", p.sign(1, document("")))
	p.waitRuns(1, p.A, p.B)
	p.makeActive()
	return p
}

// makeActive gives the role to A, whoever was first, and waits until B could take over.
func (p *policyPair) makeActive() {
	p.t.Helper()
	p.Wait("an active member", func() bool { return p.A.Status().State == "ACTIVE" || p.B.Status().State == "ACTIVE" })
	if p.A.Status().State != "ACTIVE" {
		p.inSync(p.B, p.A)
		operate(p.t, p.A, true, "ha", "-activate")
	}
	p.WaitStates("ACTIVE", "STANDBY")
	p.inSync(p.A, p.B)
}

// inSync waits until a member could take over from another one.
func (p *policyPair) inSync(from, to *pair.Member) {
	p.t.Helper()
	p.Wait("member "+to.Name+" in sync", func() bool {
		s := from.Status()
		return to.Status().InSync && len(s.Peers) == 1 && s.Peers[0].InSync && s.Peers[0].State == "STANDBY"
	})
}

// waitHeard waits until the members hear each other.
func (p *policyPair) waitHeard() {
	p.t.Helper()
	p.Wait("the members to hear each other", func() bool {
		for _, m := range []*pair.Member{p.A, p.B} {
			if s := p.status(m); len(s.Peers) != 1 || s.Peers[0].State == "LOST" {
				return false
			}
		}
		return true
	})
}

// TestPolicyFirstInstall: two members with a key and no policy are DOWN and closed; one command at one of them makes a
// serving pair.
func TestPolicyFirstInstall(t *testing.T) {
	p := newPolicyPair(t)
	p.A.Start()
	p.B.Start()
	p.WaitStates("DOWN", "DOWN")
	p.waitHeard()
	for _, m := range []*pair.Member{p.A, p.B} {
		rules := m.NS.Run("nft", "list", "table", "inet", "twinkeep")
		if strings.Contains(rules, "lan-wan") || strings.Contains(rules, "snat") {
			t.Errorf("member %s is not closed:\n%s", m.Name, rules)
		}
	}
	p.Wait("the reason on the console", func() bool {
		return strings.Contains(p.A.Log(), "closed, without a policy: no member is active; there is no usable policy on this member; again in")
	})
	if out := operate(t, p.A, true, "ha"); !strings.Contains(out, "Policy: closed, without a policy") {
		t.Errorf("ha:\n%s", out)
	}
	if p.Reachable() {
		t.Error("traffic passes without a policy")
	}
	out := operate(t, p.A, true, "policy", "install", p.sign(1, document("")))
	if !strings.Contains(out, "member 1: installed") || !strings.Contains(out, "member 2: installed") {
		t.Errorf("install:\n%s", out)
	}
	p.waitRuns(1, p.A, p.B)
	p.Wait("traffic", p.Reachable)
	p.makeActive()
	p.Wait("traffic by A", p.Reachable)
	if out := operate(t, p.A, true, "rules"); !regexp.MustCompile(`(?m)^filter/\S+ +[1-9]`).MatchString(out) {
		t.Errorf("no rule has matched what passes:\n%s", out)
	}
	count := p.A.Status().Failover.Count
	// A newer one, given at the standby.
	operate(t, p.B, true, "policy", "install", p.sign(2, document(noPing)))
	p.waitRuns(2, p.A, p.B)
	p.Wait("the new rules", func() bool { return !p.Reachable() })
	if out := operate(t, p.A, true, "rules"); !regexp.MustCompile(`(?m)^dropped/\S+ +[1-9]`).MatchString(out) {
		t.Errorf("what does not pass is not counted:\n%s", out)
	}
	for _, m := range []*pair.Member{p.A, p.B} {
		s := m.Status()
		if s.Policy.Revision != 2 || len(s.Peers) != 1 || s.Peers[0].Policy != s.Policy {
			t.Errorf("member %s: heartbeats tell %+v, heard %+v", m.Name, s.Policy, s.Peers)
		}
	}
	if s := p.A.Status(); s.State != "ACTIVE" || s.Failover.Count != count {
		t.Errorf("the installs moved the role: %s, %+v", s.State, s.Failover)
	}
	if out := operate(t, p.B, true, "policy", "history"); !strings.Contains(out, "* revision 2") || !strings.Contains(out, "  revision 1") {
		t.Errorf("history:\n%s", out)
	}
	// All restart at once.
	p.A.Stop()
	p.B.Stop()
	p.A.Start()
	p.B.Start()
	p.waitRuns(2, p.A, p.B)
	p.makeActive()
}
