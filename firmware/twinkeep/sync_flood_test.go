package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/ha/statesync/ctnl"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// TestSyncFlood: connections that begin and end faster than they can be replicated cost in-sync at most, never the role, and
// afterwards the tables are equal again.
func TestSyncFlood(t *testing.T) {
	p := pair.NewPair(t, binary)
	p.StartBoth()
	inSync := func() bool { return syncOf(p.A).InSync && syncOf(p.B).InSync }
	p.Wait("both members to be in sync", inSync)
	var table *ctnl.Table
	p.A.NS.Try(func() (err error) { table, err = ctnl.OpenTable(); return err })
	t.Cleanup(func() { table.Close() })
	flow := func(kind statesync.KernelKind, i int) statesync.KernelOp {
		f := statesync.Flow{Family: statesync.Inet, Has: statesync.HasTimeout, Timeout: 300, Status: statesync.StatusConfirmed}
		src, _ := statesync.AddrOf(netip.AddrFrom4([4]byte{10, 1, 0, byte(20 + i%200)}))
		dst, _ := statesync.AddrOf(netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + i/60000)}))
		vip, _ := statesync.AddrOf(netip.MustParseAddr(pair.WANVIP))
		f.Orig = statesync.Tuple{Proto: statesync.UDP, Src: src, SrcPort: uint16(1024 + i/200), Dst: dst, DstPort: 53}
		f.Reply = statesync.Tuple{Proto: statesync.UDP, Src: dst, SrcPort: 53, Dst: vip, DstPort: uint16(1024 + i%60000)}
		return statesync.KernelOp{Kind: kind, Key: uint64(i), Flow: f}
	}
	term, took := p.A.Status().Term, p.A.Status().Failover.Count
	made, flaps := 0, 0
	look := time.Now()
	const many = 20000
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		for _, kind := range []statesync.KernelKind{statesync.KernelCreate, statesync.KernelDelete} {
			for at := 0; at < many; at += 1000 {
				var ops []statesync.KernelOp
				for i := at; i < at+1000; i++ {
					ops = append(ops, flow(kind, i))
				}
				table.Apply(ops)
				made += len(ops)
				if time.Since(look) > 100*time.Millisecond {
					look = time.Now()
					if a, b := p.A.Status(), p.B.Status(); a.State != "ACTIVE" || b.State == "ACTIVE" || a.Term != term {
						flaps++
						t.Logf("a is %s, b is %s, term %d, was %d", a.State, b.State, a.Term, term)
					}
				}
			}
		}
	}
	s := syncOf(p.A)
	t.Logf("%d changes a second; %d changes told, events lost %d times, queues full %d times", made/5, s.Stats.Told, s.Stats.Lost, s.Stats.Overflows)
	if now := p.A.Status(); flaps > 0 || now.Term != term || now.Failover.Count != took {
		t.Errorf("the role moved: %d times seen, term %d, was %d", flaps, now.Term, term)
	}
	p.Wait("equal tables again", func() bool { return inSync() && syncOf(p.A).Entries == syncOf(p.B).Entries })
	if !p.Reachable() {
		t.Error("nothing comes through afterwards")
	}
}
