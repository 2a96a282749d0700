package gatewayd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/policy/sign"
	"github.com/twinkeep/twinkeep/firmware/ruleset"
)

const memberFile = `version: 1
hostname: gw-a
cluster:
  id: 7
  name: office
  member: 1
  key: dGVzdCBrZXkgb2YgdGhlIG5hbWVzcGFjZSBsYWIgMTI=
  members: [{id: 2, name: gw-b}, {id: 1, name: gw-a}]
interfaces:
  - {name: G1, zone: lan, address: 10.1.0.2/24, vips: [10.1.0.1]}
  - {name: G2, zone: wan, address: 192.0.2.2/24}
  - {name: G3, sync: true, address: 169.254.77.1/30}
nat:
  - {from: [10.1.0.0/24], out: G1}
`

func parseNode(t *testing.T, text string) *node.Node {
	t.Helper()
	n, _, err := node.Parse(node.FileName, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPolicySettings: a key or a stored policy makes a box run by policies; what is missing for that is said.
func TestPolicySettings(t *testing.T) {
	opts := Options{ConfigDir: t.TempDir(), StateDir: t.TempDir()}
	n := parseNode(t, memberFile)
	if s := loadPolicySettings(opts, n); s.wanted {
		t.Errorf("with nothing: %+v", s)
	}
	_, public, err := sign.Generate(sign.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(opts.ConfigDir, keysDir)
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(keys, "office.pub"), string(public))
	s := loadPolicySettings(opts, n)
	if !s.wanted || s.problem != "" || s.name != "office" || s.self != 1 || len(s.keys) != 1 || len(s.notes) > 0 {
		t.Errorf("with a key: %+v", s)
	}
	if again := loadPolicySettings(opts, parseNode(t, memberFile)); !again.equal(s) {
		t.Error("the same settings are not equal")
	}
	for name, c := range map[string]struct{ from, to, problem string }{
		"no name":    {"  name: office\n", "", "cluster.name"},
		"standalone": {memberFile[strings.Index(memberFile, "cluster:"):strings.Index(memberFile, "interfaces:")], "", "cluster section"},
	} {
		text := strings.Replace(memberFile, c.from, c.to, 1)
		if name == "standalone" {
			text = strings.NewReplacer(", vips: [10.1.0.1]", "", "nat:\n  - {from: [10.1.0.0/24], out: G1}\n", "", "sync: true, ", "").Replace(text)
		}
		if s := loadPolicySettings(opts, parseNode(t, text)); !s.wanted || !strings.Contains(s.problem, c.problem) {
			t.Errorf("%s: %+v", name, s)
		}
	}
	write(filepath.Join(opts.ConfigDir, "manager.yaml"), "address: https://x\n")
	if s := loadPolicySettings(opts, n); !s.wanted || len(s.notes) != 1 || s.problem != "" {
		t.Errorf("with a bad manager.yaml: %+v", s)
	}
	write(filepath.Join(keys, "bad.pub"), "no key")
	if s := loadPolicySettings(opts, n); !s.wanted || len(s.keys) != 0 || len(s.notes) != 2 {
		t.Errorf("with a bad key: %+v", s)
	}
	os.RemoveAll(keys)
	os.Remove(filepath.Join(opts.ConfigDir, "manager.yaml"))
	write(filepath.Join(opts.StateDir, storeDir, "index.json"), "{}")
	if s := loadPolicySettings(opts, n); !s.wanted || len(s.notes) != 1 {
		t.Errorf("with a stored policy and no key: %+v", s)
	}
}

// TestClosedRules: a box without a policy lets the members in and nobody else.
func TestClosedRules(t *testing.T) {
	n := parseNode(t, memberFile)
	text := ruleset.Compile(closedRules(n)).String()
	for _, bad := range []string{"lan-wan", "snat", "dnat", "flowtable", "echo", "node/"} {
		if strings.Contains(text, bad) {
			t.Errorf("closed rules with %q:\n%s", bad, text)
		}
	}
	if !strings.Contains(text, `"G3"`) {
		t.Errorf("the sync interface is shut:\n%s", text)
	}
	text = ruleset.Compile(closedRules(parseNode(t, strings.Replace(memberFile, "sync: true, ", "zone: lan, ", 1)))).String()
	if !strings.Contains(text, "tcp dport 8119") || !strings.Contains(text, "10.1.0.0/24") {
		t.Errorf("without a sync interface the members do not get in:\n%s", text)
	}
}

func TestMemberIDs(t *testing.T) {
	if ids := memberIDs(parseNode(t, memberFile)); !slices.Equal(ids, []uint8{1, 2}) {
		t.Errorf("members %v", ids)
	}
}
