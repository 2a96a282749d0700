package sim

import (
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
)

// inMode is a settled cluster in a mode.
func inMode(t *testing.T, n int, mode cluster.Mode) *World {
	t.Helper()
	w := New(1, n, timing)
	for _, m := range w.Nodes {
		m.Config.Mode = mode
		m.Boot()
	}
	w.Trace = func(s string) { t.Log(s) }
	w.Run(timing.Silence + 5*timing.Dead)
	expect(t, w, "ACTIVE"+map[int]string{2: " STANDBY", 3: " STANDBY STANDBY", 4: " STANDBY STANDBY STANDBY"}[n], 1)
	return w
}

const hold = cluster.PrimaryHold * 60 * time.Millisecond // dead times of timing

func TestPrimaryUpTakesBack(t *testing.T) {
	w := inMode(t, 2, cluster.PrimaryUp)
	w.Node(1).PowerCut()
	w.Run(time.Second)
	expect(t, w, "LOST ACTIVE", 2)
	w.Node(1).Boot()
	w.Run(timing.Silence + hold/2)
	expect(t, w, "STANDBY ACTIVE", 2) // not at once: it could fail again
	w.Run(hold)
	expect(t, w, "ACTIVE STANDBY", 1)
	if !logged(w.Node(1), cluster.EvReclaimed) {
		t.Error("no event")
	}
	before := w.Node(1).Machine.View().Count
	w.Run(time.Minute)
	expect(t, w, "ACTIVE STANDBY", 1)
	if w.Node(1).Machine.View().Count != before {
		t.Error("the role went on changing")
	}
}

func TestPrimaryUpLeavesTheRoleWhileUnfit(t *testing.T) {
	w := inMode(t, 2, cluster.PrimaryUp)
	w.Node(1).SetLink(0, false)
	w.Run(time.Minute)
	expect(t, w, "DOWN ACTIVE", 2)
	w.Node(1).SetLink(0, true)
	w.Run(2 * hold)
	expect(t, w, "ACTIVE STANDBY", 1)
}

func TestPrimaryUpRespectsTheOperator(t *testing.T) {
	w := inMode(t, 2, cluster.PrimaryUp)
	w.Node(1).Input(cluster.Deactivate{})
	w.Run(cluster.DefaultAway - time.Minute)
	expect(t, w, "STANDBY ACTIVE", 2)
	w.Run(2 * time.Minute)
	expect(t, w, "ACTIVE STANDBY", 1)
}

func TestFailoverForAWhile(t *testing.T) {
	w := inMode(t, 2, cluster.ActiveUp)
	w.Node(1).Input(cluster.Deactivate{For: time.Minute})
	w.Run(50 * time.Second)
	expect(t, w, "STANDBY ACTIVE", 2)
	w.Run(15 * time.Second)
	expect(t, w, "ACTIVE STANDBY", 1)
	w.Run(5 * time.Minute)
	expect(t, w, "ACTIVE STANDBY", 1)
}

func TestFailoverToAChosenMember(t *testing.T) {
	for to := uint8(2); to <= 4; to++ {
		w := inMode(t, 4, cluster.ActiveUp)
		w.Node(1).Input(cluster.Deactivate{To: to})
		w.Run(time.Second)
		want := []string{"STANDBY", "STANDBY", "STANDBY", "STANDBY"}
		want[to-1] = "ACTIVE"
		expect(t, w, want[0]+" "+want[1]+" "+want[2]+" "+want[3], to)
	}
	w := inMode(t, 4, cluster.ActiveUp)
	w.Node(3).PowerCut()
	w.Run(time.Second)
	for _, nobody := range []uint8{1, 3, 5, 200} {
		w.Node(1).Input(cluster.Deactivate{To: nobody})
	}
	w.Run(time.Second)
	expect(t, w, "ACTIVE STANDBY LOST STANDBY", 1)
}

func TestCriticalDevice(t *testing.T) {
	w := inMode(t, 2, cluster.ActiveUp)
	w.Node(1).Input(cluster.Device{Name: "dns", State: cluster.DeviceProblem, Text: "no answer"})
	if d := outage(t, w, 1); d > 2*time.Millisecond {
		t.Errorf("takeover took %v after the report", d)
	}
	w.Run(time.Second)
	expect(t, w, "DOWN ACTIVE", 2)
	w.Node(1).Input(cluster.Device{Name: "dns"})
	w.Run(time.Second)
	expect(t, w, "STANDBY ACTIVE", 2)
}

func TestSilentDeviceIsAProblem(t *testing.T) {
	w := inMode(t, 2, cluster.ActiveUp)
	for range 10 {
		w.Node(1).Input(cluster.Device{Name: "routed", Timeout: 2 * time.Second})
		w.Run(time.Second)
	}
	expect(t, w, "ACTIVE STANDBY", 1)
	w.Run(1100 * time.Millisecond)
	expect(t, w, "DOWN ACTIVE", 2)
	w.Node(1).Input(cluster.Device{Name: "routed", Timeout: 2 * time.Second})
	w.Run(100 * time.Millisecond)
	expect(t, w, "STANDBY ACTIVE", 2)
	w.Node(1).Input(cluster.Unregister{Name: "routed"})
	w.Run(time.Minute)
	expect(t, w, "STANDBY ACTIVE", 2)
}

func TestUnpreparedMemberDoesNotTakeTheRole(t *testing.T) {
	w := inMode(t, 2, cluster.ActiveUp)
	w.Node(2).Input(cluster.Device{Name: "full sync", State: cluster.DeviceInit})
	w.Run(100 * time.Millisecond)
	expect(t, w, "ACTIVE READY", 1)
	w.Node(1).Input(cluster.Deactivate{}) // refused
	w.Run(time.Second)
	expect(t, w, "ACTIVE READY", 1)
	w.Node(1).PowerCut()
	w.Run(time.Second)
	expect(t, w, "LOST READY")
	w.Node(2).Input(cluster.Device{Name: "full sync"})
	w.Run(100 * time.Millisecond)
	expect(t, w, "LOST ACTIVE", 2)
}

// TestAllMembersWithProblems: one goes on, sick (seed 001, Active Attention).
func TestAllMembersWithProblems(t *testing.T) {
	w := inMode(t, 3, cluster.ActiveUp)
	for _, n := range w.Nodes {
		n.Input(cluster.Device{Name: "uplink", State: cluster.DeviceProblem})
		w.Run(10 * time.Millisecond)
	}
	w.Run(time.Second)
	open := w.Open()
	if len(open) != 1 || w.Violation != "" {
		t.Fatalf("open gates %v, %s", open, w.Violation)
	}
	if s := w.Node(open[0]).Machine.State().String(); s != "ACTIVE!" {
		t.Errorf("the one that goes on is %s", s)
	}
	w.Node(2).Input(cluster.Device{Name: "uplink"})
	w.Run(time.Second)
	expect(t, w, "DOWN ACTIVE DOWN", 2)
}

// TestSilentOnlyHere: the path between the active member and one standby is cut, another standby hears both. The cut
// off one does not take the role; when the active one really dies, the right one does.
func TestSilentOnlyHere(t *testing.T) {
	w := inMode(t, 3, cluster.ActiveUp)
	w.Cut = func(from, to uint8, _ int) bool { return from+to == 4 && from != to } // 1 and 3
	w.Run(time.Minute)
	expect(t, w, "ACTIVE STANDBY STANDBY", 1)
	w.Node(1).PowerCut()
	w.Run(time.Second)
	expect(t, w, "LOST ACTIVE STANDBY", 2)
	// One way only.
	w = inMode(t, 3, cluster.ActiveUp)
	w.Cut = func(from, to uint8, _ int) bool { return from == 1 && to == 2 }
	w.Run(time.Minute)
	expect(t, w, "ACTIVE STANDBY STANDBY", 1)
	w.Node(1).PowerCut()
	w.Run(time.Second)
	expect(t, w, "LOST ACTIVE STANDBY", 2)
}
