package main

import (
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// TestLockAfterUnplannedTakeover: in mode primary-up the primary does not get the role back before the lock is cleared.
func TestLockAfterUnplannedTakeover(t *testing.T) {
	p := pair.NewPair(t, binary)
	p.AddWitness("mode: primary-up", "lock: true")
	p.StartAll()
	if out := operate(t, p.A, true, "cluster", "lock"); !strings.Contains(out, "not locked") {
		t.Errorf("lock: %s", out)
	}
	operate(t, p.A, true, "cluster", "clear-lock") // there is none, which is fine
	p.A.Kill()
	p.WaitStates("", "ACTIVE")
	if out := operate(t, p.B, true, "cluster", "lock"); !strings.Contains(out, "The role is locked here: gw-a (1) is silent") {
		t.Errorf("lock: %s", out)
	}
	p.A.Start()
	p.WaitStates("STANDBY", "ACTIVE")
	time.Sleep(11 * time.Second) // more than the 20 dead times after which the primary asks for it
	p.WaitStates("STANDBY", "ACTIVE")
	operate(t, p.B, true, "cluster", "clear-lock")
	p.WaitStates("ACTIVE", "STANDBY")
	if s := p.A.Status(); s.Locked != "" {
		t.Errorf("an orderly change locks: %s", s.Locked)
	}
}

func TestExplain(t *testing.T) {
	p := witnessed(t)
	operate(t, p.B, false, "cluster", "explain", "9")
	operate(t, p.B, false, "cluster", "explain", "x")
	p.A.Kill()
	p.WaitStates("", "ACTIVE")
	out := operate(t, p.B, true, "cluster", "explain")
	for _, want := range []string{"gw-b became active", "Why:      gw-a (1) is silent for", "2 of 3 are needed, 2 for this device", "beat 20ms, lease 150ms, dead 500ms", "gw-w (9)  WITNESS"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if out := operate(t, p.B, true, "cluster", "explain", "2"); !strings.Contains(out, "gw-a became active") {
		t.Errorf("the one before:\n%s", out)
	}
	// Losing the role for want of a majority is a change as well.
	p.W.Kill()
	p.WaitStates("", "STANDBY")
	if out := operate(t, p.B, true, "cluster", "explain"); !strings.Contains(out, "gw-b gave up the role") || !strings.Contains(out, "no majority") {
		t.Errorf("the loss:\n%s", out)
	}
}

func TestClusterPriority(t *testing.T) {
	p := started(t)
	for _, bad := range [][]string{{"gw-z", "5"}, {"gw-b", "0"}, {"gw-b", "256"}, {"gw-b", "x"}} {
		operate(t, p.A, false, append([]string{"cluster", "priority"}, bad...)...)
	}
	out := operate(t, p.A, true, "cluster", "priority", "gw-b", "130")
	if !strings.Contains(out, "node files of gw-b need the same change") {
		t.Errorf("%s", out)
	}
	if s := p.A.Status(); s.State != "ACTIVE" || s.Designated || s.Failover.Count != 1 || s.Peers[0].Priority != 130 {
		t.Errorf("%s, designated %v, %d failovers, %+v", s.State, s.Designated, s.Failover.Count, s.Peers)
	}
	p.Wait("the difference to be named", func() bool {
		return p.A.Status().Peers[0].Differs == "priority of member 2 130 here, 100 there" && p.B.Status().Peers[0].Differs == "priority of member 2 100 here, 130 there"
	})
	if out := operate(t, p.B, true, "cluster", "state"); !strings.Contains(out, "Differs:     node file of gw-a: priority of member 2 100 here, 130 there") {
		t.Errorf("%s", out)
	}
	operate(t, p.B, true, "cluster", "priority", "2", "130")
	p.Wait("the files to agree", func() bool { return p.A.Status().Peers[0].Differs == "" && p.B.Status().Peers[0].Differs == "" })
	// It is in the file: a restart keeps it.
	p.B.Stop()
	p.B.Start()
	p.WaitStates("ACTIVE", "STANDBY")
	if out := operate(t, p.B, true, "cluster", "priority"); !strings.Contains(out, "2   gw-b  130       designated master") {
		t.Errorf("%s", out)
	}
}

func TestClusterRemove(t *testing.T) {
	p := pair.NewPair(t, binary)
	third := strings.NewReplacer("    - {id: 2, name: gw-b, priority: 100}\n", "    - {id: 2, name: gw-b, priority: 100}\n    - {id: 3, name: gw-c, priority: 90} # spare\n")
	for i, m := range []*pair.Member{p.A, p.B} {
		m.WriteNode(third.Replace(pair.Extended(i+1, "safety: true")))
	}
	p.StartBoth()
	operate(t, p.A, false, "cluster", "remove", "gw-a") // active
	operate(t, p.B, false, "cluster", "remove", "gw-b") // not itself
	operate(t, p.A, false, "cluster", "remove", "gw-b") // alive
	for _, m := range []*pair.Member{p.B, p.A} {
		out := operate(t, m, true, "cluster", "remove", "gw-c")
		if !strings.Contains(out, "The majority is 2 of 2 now") || !strings.Contains(out, "need the same change") {
			t.Errorf("%s", out)
		}
		if q := m.Status().Quorum; q.Voters != 2 {
			t.Errorf("%+v", q)
		}
	}
	p.Wait("the files to agree", func() bool { return p.A.Status().Peers[0].Differs == "" && p.B.Status().Peers[0].Differs == "" })
	if a := p.A.Status(); a.State != "ACTIVE" || a.Failover.Count != 1 {
		t.Errorf("%s after %d failovers", a.State, a.Failover.Count)
	}
	p.B.Stop()
	p.WaitStates("ACTIVE", "") // of two that are left, one that says farewell leaves the other the role
	p.B.Start()
	p.WaitStates("ACTIVE", "STANDBY")
	if s := p.B.Status(); len(s.Peers) != 1 {
		t.Errorf("after a restart: %+v", s.Peers)
	}
}

func TestInterfaceAtRunTime(t *testing.T) {
	p := started(t)
	for _, bad := range [][]string{{"nic9", "heartbeat", "off"}, {"wan", "beat", "off"}, {"wan", "heartbeat", "0"}, {"wan"}} {
		operate(t, p.A, false, append([]string{"cluster", "interface"}, bad...)...)
	}
	sent := func(name string) uint64 {
		for _, f := range p.A.Status().Interfaces {
			if f.Name == name {
				return f.Sent
			}
		}
		return 0
	}
	operate(t, p.A, true, "cluster", "interface", "wan", "heartbeat", "off")
	time.Sleep(50 * time.Millisecond)
	before, lan := sent("wan"), sent("lan")
	time.Sleep(300 * time.Millisecond)
	if now := sent("wan"); now != before || sent("lan") == lan {
		t.Errorf("wan sent %d heartbeats after it was switched off, lan %d", now-before, sent("lan")-lan)
	}
	operate(t, p.A, true, "cluster", "interface", "lan", "heartbeat", "off")
	operate(t, p.A, false, "cluster", "interface", "sync", "heartbeat", "off") // the last one
	p.WaitStates("ACTIVE", "STANDBY")
	operate(t, p.A, true, "cluster", "interface", "lan", "heartbeat", "on")
	// An interface that is not monitored may lose its carrier.
	operate(t, p.A, true, "cluster", "interface", "wan", "monitor", "off")
	p.Switch.Run("ip", "link", "set", "a-wan", "down")
	p.Wait("the loss of carrier to be seen", func() bool { return !p.A.Status().Interfaces[1].Carrier })
	time.Sleep(300 * time.Millisecond)
	p.WaitStates("ACTIVE", "STANDBY")
	operate(t, p.A, true, "cluster", "interface", "wan", "monitor", "on")
	p.WaitStates("DOWN", "ACTIVE")
}
