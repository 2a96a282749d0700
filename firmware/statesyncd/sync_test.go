package statesyncd

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/statesync"
)

// TestJoinAndFollow: a standby loads what is there, follows what happens, and conntrack(8) shows it there.
func TestJoinAndFollow(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	a, b := l.members[0], l.members[1]
	a.play(flows(0, 3000)...)
	l.holder(1, 1)
	a.start()
	b.start()
	l.waitSync()
	l.waitEqual(a)
	f := flow(5000)
	a.play(create(f))
	l.wait("conntrack -L on the standby to show the new connection", func() bool {
		out := b.ns.Run("conntrack", "-L", "-p", "tcp", "-s", f.Orig.Src.Netip(f.Family).String(), "--sport", "6024")
		return strings.Contains(out, "ESTABLISHED") && strings.Contains(out, "dst=192.0.2.1") && strings.Contains(out, "[ASSURED]")
	})
	f.TCP.State, f.Timeout = 4, 100
	a.play(statesync.KernelOp{Kind: statesync.KernelUpdate, Flow: f})
	a.play(statesync.KernelOp{Kind: statesync.KernelDelete, Flow: flow(1)}, statesync.KernelOp{Kind: statesync.KernelDelete, Flow: flow(2)})
	l.waitEqual(a)
	r, err := a.client().SyncBarrier(context.Background(), time.Second)
	if err != nil || !r.OK || len(r.NotInSync) != 0 {
		t.Errorf("barrier: %+v, %v", r, err)
	}
	t.Logf("barrier took %v", time.Duration(r.Took))
	if s := b.sync(); s.Entries != 2999 || s.Stats.Repairs == 0 {
		t.Errorf("%+v", s)
	}
	// A busy machine can be late on the sync interface; then another one serves until it is there.
	l.wait("the sync interface to carry the stream", func() bool { s := b.sync(); return len(s.Peers) == 1 && s.Peers[0].Via == "sync" })
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.reports); n == 0 || !b.reports[n-1].InSync || b.reports[0].InSync {
		t.Errorf("had was told %+v", b.reports)
	}
}
