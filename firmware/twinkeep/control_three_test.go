package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/twinkeep/twinkeep/tools/netnslab"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// third adds a member to a pair that does not run yet.
func third(t *testing.T, p *pair.Pair) *pair.Member {
	t.Helper()
	c := &pair.Member{Name: "c", NS: netnslab.New(t), Dir: t.TempDir()}
	for _, nic := range []string{"lan", "wan", "sync"} {
		p.Switch.Run("ip", "link", "add", pair.Port("c", nic), "type", "veth", "peer", "name", nic, "netns", c.NS.Name)
		p.Switch.Run("ip", "link", "set", pair.Port("c", nic), "master", nic, "up")
		c.NS.Run("ip", "link", "set", nic, "up")
	}
	for i, m := range []*pair.Member{p.A, p.B, c} {
		text := strings.Replace(pair.NodeFile(i+1), "priority: 100}", "priority: 100}\n    - {id: 3, name: gw-c, priority: 80}", 1)
		if err := os.WriteFile(filepath.Join(m.Dir, "node.yaml"), []byte(strings.Replace(text, "/30", "/29", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("ip", "netns", "exec", c.NS.Name, binary, "run", "--config", c.Dir, "--state", filepath.Join(c.Dir, "state"), "--run", c.Run())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		out, _ := exec.Command("ip", "netns", "pids", c.NS.Name).Output()
		for _, f := range strings.Fields(string(out)) {
			if pid, err := strconv.Atoi(f); err == nil && pid != os.Getpid() {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		cmd.Wait()
	})
	return c
}

// TestThreeMembersNoHosts: on a LAN without any host the third member makes clear whose port is dead, because the two others
// answer each other; all see what all think.
func TestThreeMembersNoHosts(t *testing.T) {
	p := pair.NewPair(t, binary)
	c := third(t, p)
	p.Switch.Run("ip", "link", "set", "client-eth0", "down")
	p.A.Start()
	p.B.Start()
	p.Wait("opinions of all on all", func() bool {
		a := p.A.Status()
		return len(a.Opinions) == 2 && len(a.Peers) == 2 && len(a.Peers[0].Opinions) == 2 && len(a.Peers[1].Opinions) == 2 && a.Holder != 0
	})
	heal := cut(p, drop("ingress", "b-lan"), drop("egress", "b-lan"))
	p.Wait("the verdicts", func() bool {
		const theirs = "theirs: gw-b's side: neighbours answer here, gw-b alone is silent"
		return strings.HasPrefix(verdict(p.A), theirs) && strings.HasPrefix(verdict(c), theirs) &&
			strings.HasPrefix(verdict(p.B), "ours: our side: nothing at all is received; neighbours answer gw-")
	})
	p.Wait("b is down, and all know it", func() bool {
		return p.B.Status().State == "DOWN" && opinion(p.A.Status().Peers[0].Opinions, 3) == "DOWN" && opinion(c.Status().Peers[1].Opinions, 1) == "DOWN"
	})
	heal()
	p.Wait("no verdicts", func() bool { return verdict(p.A) == "ok" && verdict(p.B) == "ok" && verdict(c) == "ok" })
}
