package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
)

var timing = cluster.DefaultTiming

// settled is a cluster some time after its start.
func settled(t *testing.T, n int) *World {
	t.Helper()
	w := New(1, n, timing)
	w.Trace = func(s string) { t.Log(s) }
	w.Run(timing.Silence + 5*timing.Dead)
	want := "ACTIVE" + strings.Repeat(" STANDBY", n-1)
	if got := w.States(); got != want {
		t.Fatalf("after the start: %s, want %s", got, want)
	}
	return w
}

// expect checks states, the one open gate, and that no invariant broke.
func expect(t *testing.T, w *World, states string, open ...uint8) {
	t.Helper()
	if got := w.States(); got != states {
		t.Errorf("states %q, want %q", got, states)
	}
	if got := w.Open(); !slices.Equal(got, open) {
		t.Errorf("open gates %v, want %v", got, open)
	}
	if w.Violation != "" {
		t.Errorf("broken: %s", w.Violation)
	}
}

func logged(n *Node, name string) bool {
	return slices.ContainsFunc(n.Logs, func(l cluster.Log) bool { return l.Name == name })
}

// outage runs until another gate than the given one is open, and returns how long that took.
func outage(t *testing.T, w *World, not uint8) time.Duration {
	t.Helper()
	start := w.Now
	for w.Now.Sub(start) < 10*time.Second {
		w.Run(100 * time.Microsecond)
		if o := w.Open(); len(o) == 1 && o[0] != not {
			return w.Now.Sub(start)
		}
	}
	t.Fatal("nobody took over within 10s")
	return 0
}

func TestStartAndSteady(t *testing.T) {
	w := settled(t, 2)
	before := w.Node(1).Machine.View().Count
	w.Run(time.Minute)
	expect(t, w, "ACTIVE STANDBY", 1)
	if n := w.Node(1).Machine.View().Count; n != before {
		t.Errorf("the role changed %d times in a minute of peace", n-before)
	}
	if w.Node(1).Announced < int(time.Minute/cluster.AnnouncePeriod) {
		t.Errorf("only %d announcements in a minute", w.Node(1).Announced)
	}
}

func TestPowerCut(t *testing.T) {
	w := settled(t, 2)
	w.Node(1).PowerCut()
	if d := outage(t, w, 1); d > timing.Dead+2*time.Millisecond {
		t.Errorf("takeover took %v, dead time is %v", d, timing.Dead)
	}
	expect(t, w, "LOST ACTIVE", 2)
	if !logged(w.Node(2), cluster.EvAssumed) || !logged(w.Node(2), cluster.EvPeerGone) {
		t.Error("no event for the takeover")
	}
	// The old one comes back and stays on standby (active-up).
	w.Node(1).Boot()
	w.Run(2 * time.Second)
	expect(t, w, "STANDBY ACTIVE", 2)
	// And gets the role back on request.
	w.Node(1).Input(cluster.Activate{})
	w.Run(timing.Dead)
	expect(t, w, "ACTIVE STANDBY", 1)
	if !logged(w.Node(1), cluster.EvReclaimed) {
		t.Error("the designated master did not say that it reclaimed the role")
	}
}

func TestProcessDiesAndSupervisorSaysFarewell(t *testing.T) {
	w := settled(t, 2)
	last := w.Node(1).Machine
	w.Node(1).Crash()
	w.Run(time.Millisecond)
	w.Node(1).Farewell(last)
	if d := outage(t, w, 1); d > 2*time.Millisecond {
		t.Errorf("takeover took %v after a farewell", d)
	}
	expect(t, w, "LOST ACTIVE", 2)
}

func TestCarrierLoss(t *testing.T) {
	w := settled(t, 2)
	w.Node(1).SetLink(0, false)
	if d := outage(t, w, 1); d > 2*time.Millisecond {
		t.Errorf("takeover took %v after carrier loss", d)
	}
	w.Run(time.Second)
	expect(t, w, "DOWN ACTIVE", 2)
	w.Node(1).SetLink(0, true)
	w.Run(time.Second)
	expect(t, w, "STANDBY ACTIVE", 2)
}

func TestSyncCableFails(t *testing.T) {
	w := settled(t, 2)
	w.Node(1).SetLink(2, false)
	w.Node(2).SetLink(2, false)
	w.Run(time.Second)
	expect(t, w, "ACTIVE! DOWN", 1)
}

func TestEveryInterfaceButOneCut(t *testing.T) {
	for only := range 3 {
		w := settled(t, 2)
		w.Cut = func(_, _ uint8, i int) bool { return i != only }
		w.Run(time.Minute)
		expect(t, w, "ACTIVE STANDBY", 1)
	}
}

// TestPause is fault 1 of reference/peers.md.
func TestPause(t *testing.T) {
	for _, c := range []struct {
		factor float64
		states string
		open   uint8
	}{
		{0.5, "ACTIVE STANDBY", 1},
		{1, "STANDBY ACTIVE", 2},
		{2, "STANDBY ACTIVE", 2},
		{10, "STANDBY ACTIVE", 2},
	} {
		w := settled(t, 2)
		w.Node(1).Pause(time.Duration(c.factor * float64(timing.Dead)))
		w.Run(3 * time.Second)
		expect(t, w, c.states, c.open)
	}
}

func TestStandbyPauseTakesNothing(t *testing.T) {
	for _, f := range []float64{0.5, 1, 2, 10} {
		w := settled(t, 2)
		w.Node(2).Pause(time.Duration(f * float64(timing.Dead)))
		w.Run(3 * time.Second)
		expect(t, w, "ACTIVE STANDBY", 1)
	}
}

func TestDeactivate(t *testing.T) {
	w := settled(t, 2)
	w.Node(1).Input(cluster.Deactivate{})
	if d := outage(t, w, 1); d > 2*time.Millisecond {
		t.Errorf("hand-over took %v", d)
	}
	w.Run(time.Second)
	expect(t, w, "STANDBY ACTIVE", 2)
	w.Node(1).PowerCut()
	w.Run(time.Second)
	w.Node(2).Input(cluster.Deactivate{})
	w.Run(time.Second)
	expect(t, w, "LOST ACTIVE", 2)
}

func TestLeave(t *testing.T) {
	w := settled(t, 2)
	w.Node(1).Input(cluster.Leave{})
	if d := outage(t, w, 1); d > 2*time.Millisecond {
		t.Errorf("takeover took %v after an orderly stop", d)
	}
	w.Run(time.Second)
	expect(t, w, "LOST ACTIVE", 2)
}

// TestPartitionHeals: without a path both serve (availability first); after healing one stays, in a bounded
// time, and the winner announces again.
func TestPartitionHeals(t *testing.T) {
	w := settled(t, 2)
	w.AllowDual = true
	w.Cut = func(uint8, uint8, int) bool { return true }
	w.Run(time.Second)
	expect(t, w, "ACTIVE ACTIVE", 1, 2)
	w.Cut = func(uint8, uint8, int) bool { return false }
	w.DualTime = 0
	healed := w.Now
	w.Run(time.Second)
	expect(t, w, "ACTIVE STANDBY", 1)
	if w.DualTime > 2*timing.Beat {
		t.Errorf("both were active for %v after the network healed", w.DualTime)
	}
	if w.Node(1).AnnouncedAt < healed {
		t.Error("the winner did not announce again")
	}
}

func TestMoreConnectionsWinAfterPartition(t *testing.T) {
	w := settled(t, 2)
	w.AllowDual = true
	w.Cut = func(uint8, uint8, int) bool { return true }
	w.Run(time.Second)
	w.Node(2).Input(cluster.Connections(5000))
	w.Cut = func(uint8, uint8, int) bool { return false }
	w.Run(time.Second)
	expect(t, w, "STANDBY ACTIVE", 2)
}

func TestFourMembers(t *testing.T) {
	w := settled(t, 4)
	w.Node(1).PowerCut()
	outage(t, w, 1)
	w.Run(time.Second)
	expect(t, w, "LOST ACTIVE STANDBY STANDBY", 2)
	w.Node(2).PowerCut()
	w.Run(time.Second)
	expect(t, w, "LOST LOST ACTIVE STANDBY", 3)
}

// TestReplayOfAnOldBoot: recorded heartbeats of an active member do not move anybody after its restart.
func TestReplayOfAnOldBoot(t *testing.T) {
	w := settled(t, 2)
	n := w.Node(1)
	old := n.Machine
	n.PowerCut()
	w.Run(time.Second)
	n.Boot()
	w.Run(2 * time.Second)
	for i := range 3 {
		w.Node(2).Deliver(i, old.Farewell(i))
	}
	w.Run(time.Second)
	expect(t, w, "STANDBY ACTIVE", 2)
	if n := w.Node(2).Machine.View().Refused["replay"]; n != 3 {
		t.Errorf("%d replays refused", n)
	}
}
