package statesyncd

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/twinkeep/twinkeep/ha/statesync"
)

// kinds are one connection of each kind that is carried, with names.
func kinds() map[string]statesync.Flow {
	tuple := func(proto uint8, src string, sport uint16, dst string, dport uint16) statesync.Tuple {
		s, _ := statesync.AddrOf(netip.MustParseAddr(src))
		d, _ := statesync.AddrOf(netip.MustParseAddr(dst))
		return statesync.Tuple{Proto: proto, Src: s, SrcPort: sport, Dst: d, DstPort: dport}
	}
	const inside, outside, server = "10.1.0.10", "192.0.2.1", "198.51.100.9"
	const inside6, outside6, server6 = "2001:db8:1::10", "2001:db8:2::1", "2001:db8:9::9"
	const replied = statesync.StatusSeenReply | statesync.StatusConfirmed
	const both = replied | statesync.StatusAssured
	plain := func(t statesync.Tuple) statesync.Flow {
		f := statesync.Flow{Family: statesync.Inet, Has: statesync.HasTimeout, Timeout: 500, Status: both, Orig: t, Reply: t.Inverse()}
		if t.Src.Netip(statesync.Inet6).String() == inside6 {
			f.Family = statesync.Inet6
		}
		if t.Proto == statesync.TCP {
			f.Has, f.TCP.State = f.Has|statesync.HasTCP, 3
		}
		return f
	}
	with := func(f statesync.Flow, change func(*statesync.Flow)) statesync.Flow {
		change(&f)
		return f
	}
	reply := func(t statesync.Tuple) func(*statesync.Flow) { return func(f *statesync.Flow) { f.Reply = t } }
	ftp, _ := ftp()
	return map[string]statesync.Flow{
		"TCP, SNAT":       with(plain(tuple(6, inside, 1001, server, 80)), reply(tuple(6, server, 80, outside, 51001))),
		"TCP, half open":  with(plain(tuple(6, inside, 1002, server, 80)), func(f *statesync.Flow) { f.TCP.State, f.Status, f.Timeout = 2, replied, 55 }),
		"UDP, DNAT":       with(plain(tuple(17, server, 1003, outside, 53)), reply(tuple(17, inside, 5353, server, 1003))),
		"UDP, both":       with(plain(tuple(17, inside, 1004, outside, 53)), reply(tuple(17, "10.1.0.53", 5353, "10.1.0.1", 51004))),
		"UDP, unreplied":  with(plain(tuple(17, inside, 1005, server, 53)), func(f *statesync.Flow) { f.Status = statesync.StatusConfirmed }),
		"ICMP, SNAT":      with(plain(tuple(1, inside, 77, server, 8<<8)), reply(tuple(1, server, 4711, outside, 0))),
		"ICMPv6":          with(plain(tuple(58, inside6, 78, server6, 128<<8)), func(*statesync.Flow) {}),
		"TCP, IPv6, SNAT": with(plain(tuple(6, inside6, 1006, server6, 443)), reply(tuple(6, server6, 443, outside6, 51006))),
		"UDP, IPv6":       plain(tuple(17, inside6, 1007, server6, 443)),
		"SCTP": with(plain(tuple(132, inside, 1008, server, 3868)), func(f *statesync.Flow) {
			f.Has, f.SCTP = f.Has|statesync.HasSCTP, statesync.SCTPInfo{State: 4, VTag: [2]uint32{11, 22}}
		}),
		"GRE":       plain(tuple(47, inside, 0, server, 5)),
		"ESP, SNAT": with(plain(tuple(50, inside, 0, server, 0)), reply(tuple(50, server, 0, outside, 0))),
		"zone":      with(plain(tuple(17, inside, 1009, server, 53)), func(f *statesync.Flow) { f.Has, f.Zone = f.Has|statesync.HasZone, 5 }),
		"zone of one direction": with(plain(tuple(17, inside, 1010, server, 53)), func(f *statesync.Flow) {
			f.Has, f.Zone, f.ZoneDir = f.Has|statesync.HasZone, 6, statesync.ZoneOriginal
		}),
		"mark": with(plain(tuple(17, inside, 1011, server, 53)), func(f *statesync.Flow) { f.Has, f.Mark = f.Has|statesync.HasMark, 0x80000007 }),
		"labels": with(plain(tuple(17, inside, 1012, server, 53)), func(f *statesync.Flow) {
			f.Has, f.Labels = f.Has|statesync.HasLabels, [16]byte{1: 4, 15: 1}
		}),
		"helper, sequence adjustment": with(ftp, func(f *statesync.Flow) {
			f.Has, f.SeqAdj[0] = f.Has|statesync.HasSeqAdj, statesync.SeqAdj{Pos: 100, Before: 1, After: 2}
		}),
	}
}

// TestKinds: a connection of each kind is the same in the standby's kernel, whether it was there before the standby came, began
// later, or has changed.
func TestKinds(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	a, b := l.members[0], l.members[1]
	for _, m := range l.members {
		m.ns.Run("nft", "add table inet labels; add chain inet labels c { type filter hook forward priority 0; }; add rule inet labels c ct label set 1")
	}
	l.holder(1, 1)
	a.start()
	l.wait("the holder", func() bool { return a.sync().Holder })
	all := kinds()
	names := slices.Sorted(maps.Keys(all))
	play := func(kind statesync.KernelKind, names []string, change func(*statesync.Flow)) {
		t.Helper()
		for _, name := range names {
			f := all[name]
			change(&f)
			if err := a.table.Apply([]statesync.KernelOp{{Kind: kind, Flow: f}})[0]; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	same := func(*statesync.Flow) {}
	check := func(when string) {
		t.Helper()
		l.waitEqual(a)
		l.waitSync()
		was, is := a.dump(), b.dump()
		for name, f := range all {
			want, got := was[f.Orig], is[f.Orig]
			if want.Orig != f.Orig {
				t.Errorf("%s: %s: not in the holder's kernel", when, name)
				continue
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(statesync.Flow{}, "Timeout"), cmp.Comparer(sameFlags)); diff != "" {
				t.Errorf("%s: %s: the standby's kernel has (-holder +standby):\n%s", when, name, diff)
			}
			if more := int(got.Timeout) - int(want.Timeout); more < 0 || more > 40 {
				t.Errorf("%s: %s: %d s at the holder, %d at the standby", when, name, want.Timeout, got.Timeout)
			}
		}
	}
	half := len(names) / 2
	play(statesync.KernelCreate, names[:half], same)
	b.start()
	l.waitSync()
	play(statesync.KernelCreate, names[half:], same)
	check("made")
	play(statesync.KernelUpdate, names, func(f *statesync.Flow) {
		f.Mark, f.Has = f.Mark^99, f.Has|statesync.HasMark
		if f.Has&statesync.HasLabels != 0 {
			f.Labels[0] = 8
		}
		if f.Orig.Proto == statesync.TCP {
			f.TCP.State = 4
		}
	})
	check("changed")
	if n := len(b.dump()); n != len(all) {
		t.Errorf("%d entries at the standby, want %d", n, len(all))
	}
}

// sameFlags: injected connections are liberal about windows, those of the holder need not be.
func sameFlags(x, y statesync.TCPInfo) bool {
	const liberal = 8
	for i := range x.Flags {
		x.Flags[i] |= liberal
		y.Flags[i] |= liberal
	}
	return x == y
}
