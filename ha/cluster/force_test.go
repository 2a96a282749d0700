package cluster

import (
	"testing"
	"time"
)

// TestForcedHeartbeatsMayLeave: the first heartbeats of a role taken by force are not dropped for want of a majority.
func TestForcedHeartbeatsMayLeave(t *testing.T) {
	cfg := testConfig()
	cfg.Safety = true
	cfg.Timing = Timing{Beat: 10 * time.Millisecond, Lease: 30 * time.Millisecond, Dead: 80 * time.Millisecond, Silence: 500 * time.Millisecond}
	m := machine(t, cfg)
	var now Instant
	for ; now < Instant(2*time.Second); now = now.Add(time.Millisecond) {
		m.Step(now, Tick{})
	}
	if m.Holds() {
		t.Fatal("one of two took the role by itself in safety mode")
	}
	sent := 0
	for _, a := range m.Step(now, Activate{Force: true}) {
		if s, ok := a.(Send); ok {
			sent++
			if s.By != Never {
				t.Errorf("a heartbeat must leave by %v, now is %v", s.By, now)
			}
		}
	}
	if v := m.Votes(); !m.Holds() || sent == 0 || !v.Forced || v.Support != 1 || v.Majority != 2 || v.Own != cfg.Self {
		t.Errorf("holds %v, %d heartbeats, %+v", m.Holds(), sent, v)
	}
}

// TestSetPriority: the designated member and what the heartbeats say follow at once.
func TestSetPriority(t *testing.T) {
	m := machine(t, testConfig())
	m.Step(0, Tick{})
	before := m.View()
	if !m.SetPriority(m.cfg.Self, 1) || m.View().Priority != 1 || m.View().Designated == before.Designated {
		t.Errorf("priority %d, designated %d", m.View().Priority, m.View().Designated)
	}
}

// TestRemove: a member that is gone is forgotten, and no longer counts in the majority; one that lives is not.
func TestRemove(t *testing.T) {
	cfg := testConfig()
	cfg.Safety = true
	cfg.Timing = Timing{Beat: 10 * time.Millisecond, Lease: 30 * time.Millisecond, Dead: 80 * time.Millisecond, Silence: 500 * time.Millisecond}
	cfg.Members = append(cfg.Members[:len(cfg.Members):len(cfg.Members)], Member{ID: 7, Name: "gw-g"})
	m := machine(t, cfg)
	m.Step(0, Tick{})
	voters := m.Votes().Voters
	if m.Remove(cfg.Self) || m.Remove(5) || m.Remove(200) || !m.Remove(7) || m.Remove(7) {
		t.Error("removed what is not there, or not what is")
	}
	if v := m.Votes(); v.Voters != voters-1 {
		t.Errorf("%d voters, %d before", v.Voters, voters)
	}
	for _, p := range m.others {
		if p.id == 7 {
			t.Error("the removed member is still asked for its vote")
		}
	}
	for now := Instant(0); now < Instant(time.Second); now = now.Add(time.Millisecond) {
		m.Step(now, Tick{})
		m.View()
	}
}
