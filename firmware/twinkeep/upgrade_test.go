package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp/esptest"
	"github.com/twinkeep/twinkeep/firmware/upgrade/rollout"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// computer is the machine around a member's processes: when they have ended it starts what its boot loader says.
type computer struct {
	*pair.Member
	*esptest.Box
	programs map[uint64]string // by revision
	broken   atomic.Uint64     // a revision that does not start: a reset follows, and the next entry
	off      atomic.Bool
	done     chan struct{}
	mu       sync.Mutex
	boots    []uint64 // revisions that were started
}

// newComputer starts a member with revision 100.
func newComputer(t *testing.T, m *pair.Member, programs map[uint64]string) *computer {
	c := &computer{Member: m, Box: esptest.New(t, filepath.Join(m.Dir, "slots"), esptest.Release(100)), programs: programs, done: make(chan struct{})}
	c.start(esptest.Release(100))
	go func() {
		defer close(c.done)
		for {
			c.Member.Wait()
			if c.off.Load() {
				return
			}
			exec.Command("ip", "netns", "exec", m.NS.Name, "conntrack", "-F").Run() // as a restart does
			r := c.Box.Start()
			if r.Revision == c.broken.Load() {
				r = c.Box.Start()
			}
			c.start(r)
		}
	}()
	t.Cleanup(func() {
		c.off.Store(true)
		m.Crash()
		<-c.done
	})
	return c
}

func (c *computer) start(r upgrade.Release) {
	os.RemoveAll(filepath.Join(c.Run())) // memory
	c.mu.Lock()
	c.boots = append(c.boots, r.Revision)
	c.mu.Unlock()
	c.Program(c.programs[r.Revision], "--slots", c.Root, "--healthy", "2s")
	c.Member.Start()
}

func (c *computer) started() []uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.boots)
}

func (c *computer) upgradeStatus() (u api.ClusterUpgrade) {
	c.Request("GET", api.UpgradedSocket, "/v1/cluster", &u)
	return u
}

// upgradable is a pair on computers, with connections through it that must not end.
func upgradable(t *testing.T, three bool) (p *pair.Pair, all []*computer, file string, survived func()) {
	p = pair.NewPair(t, binary)
	if three {
		p.AddThird()
	}
	newer := filepath.Join(t.TempDir(), "twinkeep")
	build := exec.Command("go", "build", "-ldflags=-X main.version=newer", "-o", newer, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	programs := map[uint64]string{100: binary, 200: newer}
	for _, m := range []*pair.Member{p.A, p.B, p.C} {
		if m != nil {
			all = append(all, newComputer(t, m, programs))
		}
	}
	file = filepath.Join(t.TempDir(), "upgrade.twk")
	if err := os.WriteFile(file, esptest.Bundle(t, esptest.Release(200), 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	p.WaitStates("ACTIVE", "STANDBY")
	p.WaitSync(p.B)
	serveWho(t, p)
	talks := dialMany(t, p, "tcp", 40)
	// One of them talks all the time.
	var wg sync.WaitGroup
	end := make(chan struct{})
	worst, count := time.Duration(0), 0
	var broken error
	wg.Go(func() {
		for broken == nil {
			select {
			case <-end:
				return
			case <-time.After(2 * time.Millisecond):
			}
			began := time.Now()
			_, broken = talks[0].ask(20 * time.Second)
			worst = max(worst, time.Since(began))
			count++
		}
	})
	return p, all, file, func() {
		t.Helper()
		close(end)
		wg.Wait()
		if broken != nil {
			t.Errorf("the connection that talks all the time: %v", broken)
		}
		lost := 0
		for _, c := range talks {
			if seen, err := c.ask(10 * time.Second); err != nil || seen != c.seen {
				lost++
				t.Errorf("lost: %q, was %q: %v", seen, c.seen, err)
			}
		}
		t.Logf("%d of %d connections lost; %d questions on one of them, the longest answer took %v", lost, len(talks), count, worst)
	}
}

func wait(t *testing.T, limit time.Duration, what string, logs func() string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("waited %v for %s\n%s", limit, what, logs())
}

// TestUpgradeCluster: the standby drives; its upgraded is killed on the way, and it restarts in the middle of what it drives.
func TestUpgradeCluster(t *testing.T) {
	p, all, file, survived := upgradable(t, false)
	a, b := all[0], all[1]
	logs := func() string { return "--- a\n" + a.Log() + "\n--- b\n" + b.Log() }
	stop := p.Watch()
	out := operate(t, p.B, true, "upgrade", "cluster", file, "--wait=false")
	t.Log(out)
	killed := false
	var steps []string
	wait(t, 3*time.Minute, "the end of the upgrade", logs, func() bool {
		u := b.upgradeStatus()
		if u.Error != "" {
			t.Fatalf("%s\n%s", u.Error, logs())
		}
		if u.Plan == nil {
			return false
		}
		if s := u.Plan.Now; s != "" && (len(steps) == 0 || steps[len(steps)-1] != s) {
			steps = append(steps, s)
		}
		if !killed && u.Plan.Members[1].Step == rollout.Done {
			killed = true
			syscall.Kill(p.B.Process("upgraded"), syscall.SIGKILL)
		}
		return u.Plan.Phase.Ended()
	})
	t.Log(strings.Join(steps, "\n"))
	u := b.upgradeStatus()
	if u.Plan.Phase != rollout.Upgraded {
		t.Fatalf("%+v\n%s", u.Plan, logs())
	}
	time.Sleep(300 * time.Millisecond)
	onlyOwners(t, stop(), "a", "b")
	survived()
	for _, c := range []*computer{a, b} {
		if got := c.started(); !slices.Equal(got, []uint64{100, 200}) {
			t.Errorf("member %s was started with %v", c.Name, got)
		}
		sys, err := c.Place().Open()
		if err != nil || sys.Box.OnTrial() || sys.Box.Release != esptest.Release(200) {
			t.Errorf("member %s: %+v, %v", c.Name, sys, err)
		}
		sys.Close()
	}
	if left, _ := filepath.Glob(filepath.Join(p.B.Dir, "state", "upgrade", "*.twk")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestUpgradeClusterOfThree: the standby that drives is upgraded after the other one, the active member last.
func TestUpgradeClusterOfThree(t *testing.T) {
	p, all, file, survived := upgradable(t, true)
	p.WaitSync(p.C)
	logs := func() string { return "--- a\n" + p.A.Log() + "\n--- b\n" + p.B.Log() + "\n--- c\n" + p.C.Log() }
	operate(t, p.B, true, "upgrade", "cluster", file, "--wait=false")
	var order []string
	wait(t, 4*time.Minute, "the end of the upgrade", logs, func() bool {
		u := all[1].upgradeStatus()
		if u.Error != "" {
			t.Fatalf("%s\n%s", u.Error, logs())
		}
		if u.Plan == nil {
			return false
		}
		for _, m := range u.Plan.Members {
			if m.Step != rollout.Waiting && !slices.Contains(order, m.Name) {
				order = append(order, m.Name)
			}
		}
		return u.Plan.Phase.Ended()
	})
	if u := all[1].upgradeStatus(); u.Plan.Phase != rollout.Upgraded || !slices.Equal(order, []string{"gw-c", "gw-b", "gw-a"}) {
		t.Fatalf("%+v, %v\n%s", u.Plan, order, logs())
	}
	survived()
	for _, c := range all {
		if got := c.started(); !slices.Equal(got, []uint64{100, 200}) {
			t.Errorf("member %s was started with %v", c.Name, got)
		}
	}
}

// TestUpgradeClusterBacksOut: the second member comes back with its old image, and the first goes back to its own.
func TestUpgradeClusterBacksOut(t *testing.T) {
	p, all, file, survived := upgradable(t, false)
	a, b := all[0], all[1]
	logs := func() string { return "--- a\n" + a.Log() + "\n--- b\n" + b.Log() }
	a.broken.Store(200)
	operate(t, p.A, true, "upgrade", "cluster", file, "--wait=false")
	asked := false
	wait(t, 4*time.Minute, "the end of the upgrade", logs, func() bool {
		if !asked { // another member knows of it, and drives none meanwhile
			if u := b.upgradeStatus(); u.Plan != nil && u.Plan.Driver == 1 {
				asked = true
				operate(t, p.B, false, "upgrade", "cluster", "--abort")
			}
		}
		u := a.upgradeStatus()
		if u.Error != "" {
			t.Fatalf("%s\n%s", u.Error, logs())
		}
		return u.Plan != nil && u.Plan.Phase.Ended()
	})
	u := a.upgradeStatus()
	if u.Plan.Phase != rollout.BackedOut || !strings.Contains(u.Plan.Reason, "gw-a came back with test-100") || !asked {
		t.Fatalf("%+v\n%s", u.Plan, logs())
	}
	survived()
	if got := a.started(); !slices.Equal(got, []uint64{100, 100}) {
		t.Errorf("a was started with %v", got)
	}
	if got := b.started(); !slices.Equal(got, []uint64{100, 200, 100}) {
		t.Errorf("b was started with %v", got)
	}
}
