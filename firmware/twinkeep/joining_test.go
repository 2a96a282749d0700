package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// shutSync keeps a member's state sync from the other's, on all ways; heartbeats pass. open lets it through again.
func shutSync(m *pair.Member) (open func()) {
	m.NS.Run("nft", "add table inet cut; add chain inet cut in { type filter hook input priority -300; }; "+
		"add rule inet cut in meta l4proto { tcp, udp } th dport 8117 drop; add rule inet cut in tcp sport 8117 drop")
	return func() { m.NS.Run("nft", "delete", "table", "inet", "cut") }
}

// TestJoiningStandby: a member that has just started hears the holder and is a standby, but not in sync, and is not chosen
// while the holder cannot deliver; console and log say why, for as long as it lasts. It is chosen once snapshot and
// digests are equal.
func TestJoiningStandby(t *testing.T) {
	p := pair.NewPair(t, binary)
	p.A.Start()
	p.WaitStates("ACTIVE", "")
	serveWho(t, p)
	conns := dialMany(t, p, "tcp4", 40)
	open := shutSync(p.B)
	p.B.Start()
	p.WaitStates("ACTIVE", "STANDBY")
	const reason = "no connection to the holder, member 1"
	says := func(m *pair.Member, args, text string) func() bool {
		return func() bool { // a daemon that is starting is an error
			out, _ := exec.Command(binary, append([]string{"--run", m.Run()}, strings.Fields(args)...)...).CombinedOutput()
			return strings.Contains(string(out), text)
		}
	}
	p.Wait("b's console to say why", says(p.B, "sync", reason))
	for range 20 { // it stays so: nothing runs out
		time.Sleep(100 * time.Millisecond)
		if syncOf(p.B).InSync || p.B.Status().InSync || p.A.Status().Peers[0].InSync {
			t.Fatalf("in sync without a snapshot: %+v", syncOf(p.B))
		}
	}
	if out := operate(t, p.B, true, "sync"); !strings.Contains(out, "NOT IN SYNC for ") || !strings.Contains(out, reason) {
		t.Errorf("sync on b:\n%s", out)
	}
	if out := operate(t, p.A, false, "cluster", "failover"); !strings.Contains(out, "sync") {
		t.Errorf("the refusal does not name the reason:\n%s", out)
	}
	if got := p.A.Status().State; got != "ACTIVE" {
		t.Fatalf("a is %s after it was refused", got)
	}
	p.Wait("the reason in b's log", func() bool { return strings.Contains(p.B.Log(), "not in sync: "+reason) })

	open()
	p.Wait("b to be in sync, and a to know", func() bool { return p.B.Status().InSync && p.A.Status().Peers[0].InSync })
	if s := syncOf(p.B); !s.InSync || s.Entries < len(conns) || s.Stats.Compared == 0 {
		t.Errorf("in sync with %d of %d connections, %d digests compared: %s", s.Entries, len(conns), s.Stats.Compared, s.Text)
	}
	operate(t, p.A, true, "cluster", "failover")
	p.WaitStates("STANDBY", "ACTIVE")
	for i, c := range conns {
		if where, err := c.ask(5 * time.Second); err != nil || where != c.seen {
			t.Fatalf("connection %d: from %q, was %q: %v", i, where, c.seen, err)
		}
	}
}

// TestLastMemberOutOfSync: when the holder dies and only a member that is not in sync is left, that serves, within its
// dead time as ever, and its log says that it went without the connections.
func TestLastMemberOutOfSync(t *testing.T) {
	p := started(t)
	p.Wait("both members to be in sync", func() bool { return syncOf(p.A).InSync && syncOf(p.B).InSync })
	shutSync(p.B)
	p.Wait("a to know that b is not in sync", func() bool { return !p.A.Status().Peers[0].InSync })
	p.A.Kill()
	p.WaitStates("", "ACTIVE")
	p.Wait("traffic through b", p.Reachable)
	p.Wait("b's log to say that it serves without the connections", func() bool {
		return strings.Contains(p.B.Log(), "this member took the role without being in sync (")
	})
}
