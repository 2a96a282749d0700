package sim

import (
	"slices"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
)

// voting is a timing under which a vote outlives the loss of a heartbeat or two.
var voting = cluster.Timing{Beat: 10 * time.Millisecond, Lease: 30 * time.Millisecond, Dead: 80 * time.Millisecond, Silence: 500 * time.Millisecond}

// judged is a settled cluster of n members with witnesses, in safety mode if there are none.
func judged(t *testing.T, n, witnesses int) *World {
	t.Helper()
	w := empty(1, n, witnesses, Normal, voting)
	w.Net = Net{Delay: 100 * time.Microsecond, Jitter: 200 * time.Microsecond}
	w.quorum = true
	for _, m := range w.Nodes {
		m.Config.Safety = witnesses == 0
	}
	w.Trace = func(s string) { t.Log(s) }
	w.start()
	w.Run(voting.Silence + 5*voting.Dead)
	if len(w.Open()) != 1 || w.Open()[0] != 1 {
		t.Fatalf("states %s, open %v", w.States(), w.Open())
	}
	return w
}

// split keeps two sets of members and witnesses apart for d.
func split(w *World, d time.Duration, side ...int) {
	w.Inject(Fault{At: Span(w.Now), For: Span(d), Kind: Partition, Side: side, Interface: All})
}

func TestWitnessGivesTheMajority(t *testing.T) {
	w := judged(t, 2, 1)
	w.Node(1).PowerCut()
	w.Run(voting.Dead + 3*voting.Beat)
	expect(t, w, "LOST ACTIVE WITNESS", 2)
	w.Node(1).Boot()
	w.Run(time.Minute)
	expect(t, w, "STANDBY ACTIVE WITNESS", 2) // the original primary accepts the decision
}

func TestIsolatedActiveShutsInTime(t *testing.T) {
	w := judged(t, 2, 1)
	split(w, 5*time.Second, 1)
	w.Run(4 * time.Second)
	expect(t, w, "STANDBY ACTIVE WITNESS", 2)
	w.Run(4 * time.Second)
	expect(t, w, "STANDBY ACTIVE WITNESS", 2)
	if w.DualTime != 0 {
		t.Errorf("two gates were open for %v", w.DualTime)
	}
	if !logged(w.Node(1), cluster.EvQuorum) {
		t.Error("no event says that the majority was lost")
	}
}

func TestPathBetweenMembersCut(t *testing.T) {
	w := judged(t, 2, 1)
	for _, way := range [][2]uint8{{1, 2}, {2, 1}} {
		w.Inject(Fault{At: Span(w.Now), For: Span(5 * time.Second), Kind: Cut, Member: way[0], Peer: way[1], Interface: All})
	}
	w.Run(10 * time.Second)
	expect(t, w, "ACTIVE STANDBY WITNESS", 1) // the witness hears both, and stays with the one it has
	if w.DualTime != 0 {
		t.Errorf("two gates were open for %v", w.DualTime)
	}
}

func TestWithoutItsWitnessThePairGoesOn(t *testing.T) {
	w := judged(t, 2, 1)
	w.Node(9).PowerCut()
	w.Run(time.Minute)
	expect(t, w, "ACTIVE STANDBY LOST", 1)
	w.Node(1).Input(cluster.Deactivate{})
	w.Run(time.Second)
	expect(t, w, "STANDBY ACTIVE LOST", 2)
	w.Node(1).PowerCut() // two of three are gone: they could be a majority elsewhere
	w.Run(voting.Dead)
	if len(w.Open()) != 0 {
		t.Errorf("open gates %v without a majority", w.Open())
	}
	w.Node(9).Boot()
	w.Run(time.Second)
	expect(t, w, "LOST ACTIVE WITNESS", 2)
}

func TestSafetyWithoutWitness(t *testing.T) {
	t.Run("an orderly hand-over needs nobody", func(t *testing.T) {
		w := judged(t, 2, 0)
		w.Node(1).Input(cluster.Deactivate{})
		w.Run(2 * voting.Beat)
		expect(t, w, "STANDBY ACTIVE", 2)
	})
	t.Run("a farewell is a word", func(t *testing.T) {
		w := judged(t, 2, 0)
		w.Node(1).Farewell(w.Node(1).Crash())
		w.Run(3 * voting.Beat)
		expect(t, w, "LOST ACTIVE", 2)
	})
	t.Run("the active member goes on alone", func(t *testing.T) {
		w := judged(t, 2, 0)
		w.Node(2).PowerCut()
		w.Run(time.Minute)
		expect(t, w, "ACTIVE LOST", 1)
	})
	t.Run("silence is no word", func(t *testing.T) {
		w := judged(t, 2, 0)
		w.Node(1).PowerCut()
		w.Run(time.Minute)
		if s := w.States(); s != "LOST STANDBY" || len(w.Open()) != 0 {
			t.Fatalf("states %s, open %v", s, w.Open())
		}
		w.Node(2).Input(cluster.Activate{Force: true})
		w.Run(time.Minute)
		expect(t, w, "LOST ACTIVE", 2)
		w.Node(1).Boot()
		w.Run(time.Minute)
		expect(t, w, "STANDBY ACTIVE", 2)
	})
	t.Run("a partition changes nothing", func(t *testing.T) {
		w := judged(t, 2, 0)
		split(w, 5*time.Second, 1)
		w.Run(10 * time.Second)
		expect(t, w, "ACTIVE STANDBY", 1)
		if w.DualTime != 0 {
			t.Errorf("two gates were open for %v", w.DualTime)
		}
	})
}

func TestMinorityOfFive(t *testing.T) {
	w := judged(t, 5, 0)
	split(w, 5*time.Second, 1, 2)
	w.Run(4 * time.Second)
	expect(t, w, "STANDBY STANDBY ACTIVE STANDBY STANDBY", 3)
	w.Run(4 * time.Second)
	expect(t, w, "STANDBY STANDBY ACTIVE STANDBY STANDBY", 3)
	if w.DualTime != 0 {
		t.Errorf("two gates were open for %v", w.DualTime)
	}
}

// TestVoteIsNotGivenTwice: a voter that restarts does not forget its promise before that has run out.
func TestVoteIsNotGivenTwice(t *testing.T) {
	w := judged(t, 2, 1)
	split(w, time.Second, 1)
	w.Run(voting.Beat)
	w.Node(9).Crash()
	w.Node(9).Boot()
	w.Run(time.Second)
	if w.DualTime != 0 {
		t.Errorf("two gates were open for %v", w.DualTime)
	}
}

func TestLockdownGivesTheRoleAway(t *testing.T) {
	w := settled(t, 2)
	w.Node(1).Input(cluster.Device{Name: "Licence", State: cluster.DeviceLockdown, Text: "no licence"})
	w.Run(time.Second)
	expect(t, w, "DOWN ACTIVE", 2)
	w.Node(2).Input(cluster.Device{Name: "Licence", State: cluster.DeviceLockdown, Text: "no licence"})
	w.Run(time.Minute)
	if s := w.States(); s != "DOWN DOWN" || len(w.Open()) != 0 {
		t.Errorf("states %s, open %v", s, w.Open())
	}
	w.Node(1).Input(cluster.Device{Name: "Licence"})
	w.Run(time.Second)
	expect(t, w, "ACTIVE DOWN", 1)
}

func TestLockAfterAnUnplannedTakeover(t *testing.T) {
	locked := func(t *testing.T, kill func(*Node)) *World {
		w := New(1, 2, timing)
		for _, m := range w.Nodes {
			m.Config.Mode, m.Config.Lock = cluster.PrimaryUp, true
			m.Boot()
		}
		w.Trace = func(s string) { t.Log(s) }
		w.Run(time.Second)
		expect(t, w, "ACTIVE STANDBY", 1)
		kill(w.Node(1))
		w.Run(time.Second)
		w.Node(1).Boot()
		w.Run(2*hold + time.Minute)
		return w
	}
	t.Run("power cut", func(t *testing.T) {
		w := locked(t, (*Node).PowerCut)
		expect(t, w, "STANDBY ACTIVE", 2)
		w.Node(2).Input(cluster.ClearLock{})
		w.Run(2*hold + time.Second)
		expect(t, w, "ACTIVE STANDBY", 1)
	})
	t.Run("the operator's order counts", func(t *testing.T) {
		w := locked(t, (*Node).PowerCut)
		w.Node(2).Input(cluster.Deactivate{})
		w.Run(time.Second)
		expect(t, w, "ACTIVE STANDBY", 1)
	})
	t.Run("an orderly stop is planned", func(t *testing.T) {
		w := locked(t, func(n *Node) { n.Input(cluster.Leave{}) })
		expect(t, w, "ACTIVE STANDBY", 1)
	})
}

// TestTwoActivesThatOthersHear: the path between two active members is cut, a third one hears both.
func TestTwoActivesThatOthersHear(t *testing.T) {
	w := New(1, 3, timing)
	w.AllowDual = true
	w.Trace = func(s string) { t.Log(s) }
	for _, way := range [][2]uint8{{1, 2}, {2, 1}} {
		w.Inject(Fault{For: Span(time.Minute), Kind: Cut, Member: way[0], Peer: way[1], Interface: All})
	}
	w.Node(3).Pause(2 * time.Second) // nobody vouches for the one at the other
	w.Run(time.Second)
	if len(w.Open()) != 2 {
		t.Fatalf("open gates %v: no contest", w.Open())
	}
	w.Run(5 * time.Second)
	expect(t, w, "ACTIVE STANDBY STANDBY", 1)
}

// TestSuccessorLosesItsSync: the successor that the holder names has just lost its sync. The member in sync takes the role instead: at once, and where votes
// are bound to the named one, as soon as they are free.
func TestSuccessorLosesItsSync(t *testing.T) {
	for name, c := range map[string]struct {
		w    *World
		most time.Duration
	}{
		"no majority needed": {settled(t, 3), timing.Dead / 2},
		"with witnesses":     {judged(t, 3, 2), 3 * voting.Dead / 2},
	} {
		t.Run(name, func(t *testing.T) {
			c.w.Node(2).Input(cluster.SyncState{Text: "loading"})
			c.w.Node(1).Input(cluster.Deactivate{To: 2})
			gap := outage(t, c.w, 1)
			if o := c.w.Open(); !slices.Equal(o, []uint8{3}) || gap > c.most || c.w.Violation != "" {
				t.Errorf("%v served after %v, want gw-c within %v; %s", o, gap, c.most, c.w.Violation)
			}
		})
	}
}
