package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/fetch"
	"github.com/twinkeep/twinkeep/firmware/policy/internal/powercut"
	"github.com/twinkeep/twinkeep/tools/managertest"
)

func TestInstallEverywhere(t *testing.T) {
	c := newCluster(t, 3)
	// Through any member; the others get it from there, in several parts.
	if r := c.install(2, newPolicy(t, 1, strings.Repeat("# x\n", 50000)), nil); !r.Installed || len(r.Missed()) > 0 {
		t.Fatal(r)
	}
	c.all(1, "first install")
	if r := c.install(3, newPolicy(t, 2, ""), nil); !r.Installed || len(r.Missed()) > 0 {
		t.Fatal(r)
	}
	c.all(2, "second install")
	for _, m := range c.members {
		if st := m.store().State(); !st.Entry(st.Current).Synced || st.Floor != 2 || st.Candidate != "" || m.Record().Prepared != nil {
			t.Errorf("member %d: %+v", m.id, st)
		}
	}
	for _, revision := range []uint64{1, 2} {
		if r := c.install(1, newPolicy(t, revision, "# other\n"), nil); r.Installed || !strings.Contains(r.String(), "not newer") {
			t.Error(r)
		}
	}
	c.all(2, "older ones")
}

func TestMemberRejects(t *testing.T) {
	c := newCluster(t, 3)
	c.install(1, newPolicy(t, 1, ""), nil)
	two := c.members[2]
	two.rehearse = func() error { return errors.New("no interface G4 here") }
	r := c.install(1, newPolicy(t, 2, ""), nil)
	if r.Installed || !strings.Contains(r.String(), "member 2 rejected (") || !strings.Contains(r.String(), "no interface G4 here") {
		t.Error(r)
	}
	c.all(1, "one rejects")
	// The operator wants it on the others.
	r = c.install(1, newPolicy(t, 3, ""), func(r *Request) { r.Partial = true })
	if !r.Installed || !slices.Equal(r.Missed(), []string{"member 2"}) {
		t.Error(r)
	}
	c.members[1].runs(3, "partial")
	two.runs(1, "partial")
	c.members[3].runs(3, "partial")
	// It is told what the others run, keeps that over a restart, and the coordinator knows who rejected.
	if got := two.Record().Left; got.Revision != 3 {
		t.Errorf("member 2 was left with %v", got)
	}
	two.restart()
	if got := two.Record().Left; got.Revision != 3 {
		t.Errorf("member 2, restarted, was left with %v", got)
	}
	if got := c.members[1].Refusers(); !slices.Equal(got, []uint8{2}) {
		t.Errorf("refusers %v", got)
	}
	st := c.members[1].store().State()
	if e := st.Entry(st.Current); e.Synced || !slices.Equal(e.Missed, []string{"member 2"}) {
		t.Errorf("the coordinator notes %+v", e)
	}
	// It rehearses well, and does not apply: that member keeps the old one and says why, the others go on.
	two.rehearse = nil
	two.mu.Lock()
	two.apply = errors.New("the kernel has no flowtables")
	two.mu.Unlock()
	r = c.install(3, newPolicy(t, 4, ""), nil)
	if !r.Installed || !strings.Contains(r.String(), "flowtables") {
		t.Error(r)
	}
	two.runs(1, "does not apply")
	c.members[1].runs(4, "does not apply")
	if st := two.store().State(); !strings.Contains(st.Entries[len(st.Entries)-1].Refused, "flowtables") {
		t.Errorf("member 2 notes %+v", st.Entries)
	}
	// The recovery order brings it the cluster's policy.
	if o, err := two.Recover(t.Context(), []uint8{1}, false); err != nil || o.Kind != fetch.Taken {
		t.Fatal(o, err)
	}
	c.all(4, "after the recovery")
	if got := two.Record().Left; !got.IsZero() {
		t.Errorf("member 2 is still left with %v", got)
	}
}

// TestMembersOfDocument: who is not in the document takes no part, but for the one that is asked.
func TestMembersOfDocument(t *testing.T) {
	c := newCluster(t, 3)
	c.install(1, newPolicy(t, 1, ""), nil)
	for _, m := range c.members {
		m.MembersOf = func([]byte) []uint8 { return []uint8{1, 2} }
	}
	c.members[3].stop()
	if r := c.install(1, newPolicy(t, 2, ""), nil); !r.Installed || len(r.Members) != 2 || len(r.Missed()) > 0 {
		t.Error(r)
	}
	c.members[1].SetMembers([]uint8{1, 2})
	if r := c.install(1, newPolicy(t, 3, ""), nil); !slices.Equal(r.Transaction.Members, []uint8{1, 2}) {
		t.Error(r)
	}
	c.members[3].start()
	c.members[3].MembersOf = c.members[1].MembersOf
	if r := c.install(3, newPolicy(t, 4, ""), nil); !slices.Equal(r.Transaction.Members, []uint8{1, 2, 3}) {
		t.Error(r)
	}
}

// TestUninstallRestore: out of force on this member, with the store as it was, and back.
func TestUninstallRestore(t *testing.T) {
	c := newCluster(t, 2)
	one := c.members[1]
	if err := one.Restore(t.Context()); err == nil {
		t.Error("nothing was restored")
	}
	c.install(1, newPolicy(t, 1, ""), nil)
	if err := one.Uninstall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if one.mu.Lock(); one.applied != "" || one.revision() != 1 {
		t.Errorf("applied %q, revision %d", one.applied, one.revision())
	}
	one.mu.Unlock()
	if err := one.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.all(1, "restored")
	c.install(1, newPolicy(t, 2, ""), confirmIn(time.Minute))
	if err := one.Uninstall(t.Context()); !errors.Is(err, ErrBusy) {
		t.Errorf("while a confirmation is awaited: %v", err)
	}
}

// TestDiskFull: a member without room rejects, and every member keeps the old policy.
func TestDiskFull(t *testing.T) {
	for victim := uint8(1); victim <= 2; victim++ {
		c := newCluster(t, 2)
		c.install(1, newPolicy(t, 1, ""), nil)
		for _, room := range []int{0, 1000, 2500} {
			c.members[victim].disk.Room(room)
			r := c.install(1, newPolicy(t, 2, ""), nil)
			if r.Installed || !strings.Contains(r.String(), fmt.Sprintf("member %d rejected", victim)) || !strings.Contains(r.String(), "no space left") {
				t.Errorf("%d bytes of room: %v", room, r)
			}
			c.all(1, "no room")
		}
		c.members[victim].disk.Room(-1)
		if r := c.install(1, newPolicy(t, 2, ""), nil); !r.Installed {
			t.Error(r)
		}
		c.all(2, "room again")
	}
}

// TestMembersTrustNobody: a member checks name, signature and document itself, whatever the coordinator found.
func TestMembersTrustNobody(t *testing.T) {
	for want, change := range map[string]func(*fetch.Fetcher){
		"no valid signature of a pinned key": func(f *fetch.Fetcher) { f.Keys = nil },
		`this cluster takes "branch"`:        func(f *fetch.Fetcher) { f.Name = "branch" },
		"unknown key nat66":                  func(f *fetch.Fetcher) { f.Check = func([]byte) error { return errors.New("unknown key nat66") } },
	} {
		c := newCluster(t, 2)
		change(c.members[2].Fetcher)
		if r := c.install(1, newPolicy(t, 1, ""), nil); r.Installed || !strings.Contains(r.String(), "member 2 rejected") || !strings.Contains(r.String(), want) {
			t.Error(r)
		}
		c.all(0, want)
		change(c.members[1].Fetcher)
		if _, err := c.members[1].Install(t.Context(), Request{Policy: newPolicy(t, 1, "")}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the coordinator: %v", err)
		}
	}
}

func TestMemberUnreachable(t *testing.T) {
	c := newCluster(t, 2)
	c.install(1, newPolicy(t, 1, ""), nil)
	c.members[2].stop()
	r := c.install(1, newPolicy(t, 2, ""), nil)
	if r.Installed || !strings.Contains(r.String(), "member 2 unreachable") {
		t.Error(r)
	}
	c.members[1].runs(1, "not without member 2")
	r = c.install(1, newPolicy(t, 3, ""), func(r *Request) { r.Partial = true })
	if !r.Installed {
		t.Error(r)
	}
	c.members[1].runs(3, "without member 2")
	// Member 1 crashes, member 2 comes back and is active with the old one: the commit never reached it.
	c.members[2].start()
	one := c.members[1]
	one.reboot(powercut.LostAll, nil)
	o, err := one.Recover(t.Context(), []uint8{2}, false)
	if err != nil || o.Kind != fetch.Hold || len(o.Unsynced) != 1 || o.Unsynced[0].Revision != 3 {
		t.Fatal(o, err)
	}
	// The operator keeps it: installed again, now on both.
	a, err := one.store().Load(o.Unsynced[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if r := c.install(1, a, nil); !r.Installed || len(r.Missed()) > 0 {
		t.Error(r)
	}
	c.all(3, "installed again")
	if o, err := one.Recover(t.Context(), []uint8{2}, false); err != nil || o.Kind != fetch.Run {
		t.Error(o, err)
	}
}

// TestBusyWhenDecided: a coordinator that is busy for too long when it is to switch, as on a starved box, says that it will, and does; a switch that has begun
// is carried through when nobody waits for it any more.
func TestBusyWhenDecided(t *testing.T) {
	c := newCluster(t, 1)
	one := c.members[1]
	c.install(1, newPolicy(t, 1, ""), nil)
	a := newPolicy(t, 2, "")
	tx := Transaction{ID: strings.Repeat("0a", 16), Policy: a.Ref(), Coordinator: 1, Members: c.ids, Operator: "anna"}
	one.staged = a
	m, _ := NewCoordinator(tx, false)
	m.Prepared(1, one.prepare(t.Context(), tx), "")
	if cmd := m.Decided(one.decide(t.Context(), tx.ID)); len(cmd) != 1 || cmd[0].Step != DoSwitch {
		t.Fatal(cmd)
	}
	release, err := one.acquire(t.Context(), true, "its own recovery is under way")
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err = one.switchTo(short, tx.ID)
	m.Switched(1, err, stateOf(err))
	if r := m.Report(); r.Installed || !r.Open() || r.Members[0].State != Later || !strings.Contains(r.String(), "its own recovery is under way") {
		t.Error(r)
	}
	release()
	one.runs(1, "busy")

	apply, waiting := one.Fetcher.Apply, func() {}
	one.Fetcher.Apply = func(ctx context.Context, doc []byte) error {
		waiting()
		return errors.Join(ctx.Err(), apply(ctx, doc))
	}
	ctx, stop := context.WithCancel(t.Context())
	waiting = stop // nobody waits any more, in the middle of it
	if err := one.Settle(ctx, true); err != nil {
		t.Error(err)
	}
	one.runs(2, "decided")
}

func TestTwoOperators(t *testing.T) {
	c := newCluster(t, 3)
	c.install(1, newPolicy(t, 1, ""), nil)
	for round := range 10 {
		both := [2]*artifact.Artifact{newPolicy(t, uint64(2+round), "# a\n"), newPolicy(t, uint64(2+round), "# b\n")}
		var reports [2]Report
		var wg sync.WaitGroup
		for i, id := range []uint8{2, 3} {
			wg.Go(func() { reports[i] = c.install(id, both[i], nil) })
		}
		wg.Wait()
		winner := 0
		if reports[1].Installed {
			winner = 1
		}
		if reports[0].Installed == reports[1].Installed {
			t.Fatalf("round %d:\n%v\n%v", round, reports[0], reports[1])
		}
		// Both began at once, or the second came when the first was through.
		if loser := reports[1-winner].String(); !strings.Contains(loser, "is under way") && !strings.Contains(loser, "not newer") {
			t.Errorf("the loser reads: %s", loser)
		}
		for _, m := range c.members {
			if st := m.store().State(); st.Current != both[winner].Digest() {
				t.Fatalf("round %d: member %d has %v", round, m.id, st.Ref())
			}
		}
	}
}

func TestConfirm(t *testing.T) {
	c := newCluster(t, 2)
	c.install(1, newPolicy(t, 1, ""), nil)
	// Confirmed at the other member.
	c.install(1, newPolicy(t, 2, ""), confirmIn(5*time.Minute))
	c.all(2, "unconfirmed")
	if r := c.install(2, newPolicy(t, 3, ""), nil); r.Installed || !strings.Contains(r.String(), "awaits its confirmation") {
		t.Error(r)
	}
	if err := c.members[2].End(t.Context(), true, "admin"); err != nil {
		t.Fatal(err)
	}
	c.pass(time.Hour)
	c.settle(false)
	c.all(2, "confirmed")
	// Not confirmed; one process is restarted meanwhile, on the same boot.
	c.install(2, newPolicy(t, 3, ""), confirmIn(5*time.Minute))
	c.pass(3 * time.Minute)
	c.members[1].restart()
	c.settle(true)
	c.all(3, "after a restart")
	c.pass(2 * time.Minute)
	c.settle(false)
	c.all(2, "not confirmed")
	if st := c.members[1].store().State(); st.Floor != 2 {
		t.Errorf("floor %d", st.Floor)
	}
	// It is not taken again by itself; an operator may want it.
	again := newPolicy(t, 3, "")
	st := c.members[1].store().State()
	if a, err := c.members[1].store().Load(st.Entries[len(st.Entries)-1].Digest); err == nil {
		again = a
	}
	if r := c.install(1, again, nil); r.Installed || !strings.Contains(r.String(), "not confirmed within 5m0s") {
		t.Error(r)
	}
	if r := c.install(1, again, func(r *Request) { r.Again, r.Confirm = true, time.Minute }); !r.Installed {
		t.Error(r)
	}
	c.all(3, "again")
	if err := c.members[1].End(t.Context(), false, "admin"); err != nil {
		t.Error(err)
	}
	c.all(2, "taken back")
	// The first policy of all goes back to none.
	c = newCluster(t, 2)
	c.install(1, newPolicy(t, 1, ""), confirmIn(time.Minute))
	c.all(1, "the first one")
	c.pass(time.Minute)
	c.settle(false)
	c.all(0, "the first one, not confirmed")
}

// TestConfirmWithAbsentMembers: who does not hear of the confirmation asks; who joins late takes the rest of the time over.
func TestConfirmWithAbsentMembers(t *testing.T) {
	c := newCluster(t, 2)
	one, two := c.members[1], c.members[2]
	c.install(1, newPolicy(t, 1, ""), nil)
	c.install(1, newPolicy(t, 2, ""), confirmIn(5*time.Minute))
	two.stop()
	if err := one.End(t.Context(), true, "admin"); err == nil || !strings.Contains(err.Error(), "member 2") {
		t.Error(err)
	}
	two.start()
	c.pass(5 * time.Minute)
	c.settle(false)
	c.all(2, "it asked")
	// Member 2 reboots in the time to confirm: it goes back, and takes the active member's with the time that is left.
	c.install(1, newPolicy(t, 3, ""), confirmIn(5*time.Minute))
	c.pass(time.Minute)
	two.reboot(powercut.LostAll, nil)
	c.settle(true)
	two.runs(2, "rebooted")
	if o, err := two.Recover(t.Context(), []uint8{1}, false); err != nil || o.Kind != fetch.Taken || o.Ref.Revision != 3 {
		t.Fatal(o, err)
	}
	if p := two.Record().Pending; p == nil || p.Until.left(two.Now()) != 4*time.Minute || p.Previous.Revision != 2 {
		t.Errorf("%+v", p)
	}
	c.pass(4 * time.Minute)
	c.settle(false)
	c.all(2, "not confirmed")
}

// TestPoll: what is published at the server is installed on all members by the active one.
func TestPoll(t *testing.T) {
	m := managertest.Start(t)
	operator := m.Registry("policies/office", m.Operator)
	c := newCluster(t, 2)
	one, two := c.members[1], c.members[2]
	one.Fetcher.Server = m.Registry("policies/office", m.Gateway)
	poll := func(want bool) Report {
		t.Helper()
		r, done, err := one.Poll(t.Context(), nil, false)
		if err != nil || done != want {
			t.Fatalf("done %v, %v, %v", done, r, err)
		}
		return r
	}
	poll(false)
	push := func(a *artifact.Artifact) {
		t.Helper()
		if err := operator.Push(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	push(newPolicy(t, 1, ""))
	poll(true)
	c.all(1, "published")
	poll(false)
	two.rehearse = func() error { return errors.New("no interface G4 here") }
	push(newPolicy(t, 2, ""))
	if r := poll(true); r.Installed || !strings.Contains(r.String(), "no interface G4") {
		t.Error(r)
	}
	c.all(1, "rejected")
	// Follow reports it once, leaves it alone, and takes the next one.
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { one.Follow(ctx, 20*time.Millisecond, func() bool { return true }, false) })
	eventually(t, func() bool { return one.said("no interface G4") > 1 })
	before := one.said("no interface G4")
	time.Sleep(200 * time.Millisecond)
	if now := one.said("no interface G4"); now != before {
		t.Errorf("it tried %d times", now)
	}
	two.mu.Lock()
	two.rehearse = nil
	two.mu.Unlock()
	push(newPolicy(t, 3, ""))
	eventually(t, func() bool { return one.revision() == 3 && two.revision() == 3 })
	cancel()
	done.Wait()
	c.all(3, "the next one")
}
