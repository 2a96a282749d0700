package main

import (
	"syscall"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

func witnessed(t *testing.T) *pair.Pair {
	t.Helper()
	p := pair.NewPair(t, binary)
	p.AddWitness()
	p.StartAll()
	p.Wait("traffic through the pair", p.Reachable)
	return p
}

// votes waits until n votes support a member.
func votes(t *testing.T, p *pair.Pair, m *pair.Member, n int) {
	t.Helper()
	p.Wait("votes for "+m.Name, func() bool { q := m.Status().Quorum; return q != nil && q.Support == n })
}

func TestWitnessPowerCutOfTheActive(t *testing.T) {
	p := witnessed(t)
	if s := p.W.Status(); s.State != "WITNESS" || s.Gate.Open || len(s.VIPs) > 0 || s.Quorum.Vote != 1 {
		t.Errorf("witness: %+v", s)
	}
	stop := p.Watch()
	time.Sleep(100 * time.Millisecond)
	p.A.Kill()
	p.WaitStates("", "ACTIVE")
	p.Wait("traffic after the takeover", p.Reachable)
	onlyOwners(t, stop(), "a", "b")
	votes(t, p, p.B, 2)
	p.A.Start()
	p.WaitStates("STANDBY", "ACTIVE") // the primary accepts the decision
}

// TestWitnessPartition: exactly one serves on either side of a cut, and the old primary accepts what was decided.
func TestWitnessPartition(t *testing.T) {
	for name, c := range map[string]struct {
		groups [][]string
		owners []string
		a, b   string
	}{
		"primary alone":   {[][]string{{"a"}, {"b", "w"}}, []string{"a", "b"}, "STANDBY", "ACTIVE"},
		"standby alone":   {[][]string{{"a", "w"}, {"b"}}, []string{"a"}, "ACTIVE", "STANDBY"},
		"witness alone":   {[][]string{{"a", "b"}, {"w"}}, []string{"a"}, "ACTIVE", "STANDBY"},
		"between the two": {[][]string{{"a"}, {"b"}}, []string{"a"}, "ACTIVE", "STANDBY"},
		"all from all":    {[][]string{{"a"}, {"b"}, {"w"}}, []string{"a"}, "STANDBY", "STANDBY"},
	} {
		t.Run(name, func(t *testing.T) {
			p := witnessed(t)
			stop := p.Watch()
			time.Sleep(100 * time.Millisecond)
			p.Cut(c.groups...)
			time.Sleep(time.Second)
			p.WaitStates(c.a, c.b)
			time.Sleep(500 * time.Millisecond)
			onlyOwners(t, stop(), c.owners...)
			stop = p.Watch()
			p.Heal()
			p.Wait("one active member and both alive", func() bool {
				a, b := p.A.Status(), p.B.Status()
				return (a.State == "ACTIVE") != (b.State == "ACTIVE") && (a.State == "STANDBY") != (b.State == "STANDBY") && a.Peers[0].Alive && b.Peers[0].Alive
			})
			if c.a != c.b {
				p.WaitStates(c.a, c.b) // nobody takes the role back
			}
			time.Sleep(500 * time.Millisecond)
			if owners := pair.Owners(stop()); len(owners) != 1 {
				t.Errorf("after the cut was healed the shared MAC was served by %v", owners)
			}
		})
	}
}

func TestWitnessDies(t *testing.T) {
	p := witnessed(t)
	stop := p.Watch()
	p.W.Kill()
	time.Sleep(2 * time.Second)
	if a, b := p.A.Status(), p.B.Status(); a.State != "ACTIVE" || b.State != "STANDBY" || a.Quorum.Support != 2 {
		t.Errorf("without the witness: %s, %s, %+v", a.State, b.State, a.Quorum)
	}
	onlyOwners(t, stop(), "a")
	// Two of three are gone: nobody may serve, for the other two could.
	p.B.Kill()
	p.WaitStates("STANDBY", "")
	if s := p.A.Status(); s.Gate.Open {
		t.Error("the gate is open without a majority")
	}
	stop = p.Watch()
	time.Sleep(300 * time.Millisecond)
	if seen := stop(); len(seen) > 0 {
		t.Errorf("%d frames of the shared MAC without a majority", len(seen))
	}
	operate(t, p.A, true, "ha", "-activate", "--force")
	p.WaitStates("ACTIVE", "")
	p.W.Start()
	p.B.Start()
	p.WaitStates("ACTIVE", "STANDBY")
}

// TestWitnessedFailoversByThemselves: with a majority demanded, everything else fails over as before.
func TestWitnessedFailoversByThemselves(t *testing.T) {
	p := witnessed(t)
	stop := p.Watch()
	time.Sleep(100 * time.Millisecond)
	operate(t, p.A, true, "ha", "-deactivate")
	p.WaitStates("STANDBY", "ACTIVE")
	votes(t, p, p.B, 3)
	time.Sleep(2 * time.Second) // for three dead times a member does not take back what it gave away
	syscall.Kill(p.B.Had(), syscall.SIGKILL)
	p.WaitStates("ACTIVE", "STANDBY")
	onlyOwners(t, stop(), "a", "b", "a")
	p.Switch.Run("ip", "link", "set", "a-wan", "down")
	p.WaitStates("DOWN", "ACTIVE")
	p.Switch.Run("ip", "link", "set", "a-wan", "up")
	p.WaitStates("STANDBY", "ACTIVE")
	p.B.Stop()
	p.WaitStates("ACTIVE", "")
}

// TestSafetyMode: two members without a witness. The survivor of a power cut waits for the operator.
func TestSafetyMode(t *testing.T) {
	p := pair.NewPair(t, binary)
	p.Extend("safety: true")
	p.StartBoth()
	votes(t, p, p.A, 2)
	// What leaves word is taken over by itself.
	operate(t, p.A, true, "ha", "-deactivate")
	p.WaitStates("STANDBY", "ACTIVE")
	votes(t, p, p.B, 2)
	time.Sleep(2 * time.Second)
	syscall.Kill(p.B.Had(), syscall.SIGKILL)
	p.WaitStates("ACTIVE", "STANDBY")
	p.Switch.Run("ip", "link", "set", "a-lan", "down")
	p.WaitStates("DOWN", "ACTIVE")
	p.Switch.Run("ip", "link", "set", "a-lan", "up")
	p.WaitStates("STANDBY", "ACTIVE")
	votes(t, p, p.B, 2)
	// What does not is not.
	stop := p.Watch()
	time.Sleep(100 * time.Millisecond)
	p.B.Kill()
	time.Sleep(3 * time.Second)
	if s := p.A.Status(); s.State != "STANDBY" {
		t.Fatalf("the survivor is %s", s.State)
	}
	onlyOwners(t, stop(), "b")
	operate(t, p.A, false, "ha", "--force")
	operate(t, p.A, true, "ha", "-activate", "--force")
	p.WaitStates("ACTIVE", "")
	p.Wait("traffic", p.Reachable)
	p.B.Start()
	p.WaitStates("ACTIVE", "STANDBY")
}
