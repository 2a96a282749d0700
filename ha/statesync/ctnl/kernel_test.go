package ctnl

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

func addr(s string) statesync.Addr {
	a, _ := statesync.AddrOf(netip.MustParseAddr(s))
	return a
}

func tuple(proto uint8, src string, sport uint16, dst string, dport uint16) statesync.Tuple {
	return statesync.Tuple{Proto: proto, Src: addr(src), SrcPort: sport, Dst: addr(dst), DstPort: dport}
}

// flows are one of each kind that is carried, with what conntrack -L must show of it.
func flows() []struct {
	name, want string
	flow       statesync.Flow
} {
	const both = statesync.StatusSeenReply | statesync.StatusAssured | statesync.StatusConfirmed
	return []struct {
		name, want string
		flow       statesync.Flow
	}{
		{"TCP with SNAT", "tcp 6 431 ESTABLISHED src=10.1.0.10 dst=192.0.2.10 sport=40000 dport=80 src=192.0.2.10 dst=192.0.2.1 sport=80 dport=55555 [ASSURED] mark=7", statesync.Flow{
			Family: statesync.Inet, Has: statesync.HasTimeout | statesync.HasTCP | statesync.HasMark, Status: both, Timeout: 431, Mark: 7,
			Orig: tuple(6, "10.1.0.10", 40000, "192.0.2.10", 80), Reply: tuple(6, "192.0.2.10", 80, "192.0.2.1", 55555),
			TCP: statesync.TCPInfo{State: 3, Scale: [2]uint8{7, 9}, Flags: [2]uint8{3, 3}},
		}},
		{"UDP with DNAT", "udp 17 100 src=203.0.113.5 dst=192.0.2.1 sport=1000 dport=53 src=10.1.0.53 dst=203.0.113.5 sport=5353 dport=1000 [ASSURED] mark=0", statesync.Flow{
			Family: statesync.Inet, Has: statesync.HasTimeout, Status: both, Timeout: 100,
			Orig: tuple(17, "203.0.113.5", 1000, "192.0.2.1", 53), Reply: tuple(17, "10.1.0.53", 5353, "203.0.113.5", 1000),
		}},
		{"UDP unreplied, both NATs", "udp 17 30 src=10.1.0.11 dst=192.0.2.1 sport=1001 dport=53 [UNREPLIED] src=10.1.0.53 dst=10.1.0.1 sport=53 dport=60001 mark=0", statesync.Flow{
			Family: statesync.Inet, Has: statesync.HasTimeout, Status: statesync.StatusConfirmed, Timeout: 30,
			Orig: tuple(17, "10.1.0.11", 1001, "192.0.2.1", 53), Reply: tuple(17, "10.1.0.53", 53, "10.1.0.1", 60001),
		}},
		{"no NAT, null binding", "udp 17 30 src=10.1.0.12 dst=192.0.2.10 sport=1002 dport=53 [UNREPLIED] src=192.0.2.10 dst=10.1.0.12 sport=53 dport=1002 mark=0", statesync.Flow{
			Family: statesync.Inet, Has: statesync.HasTimeout, Status: statesync.StatusConfirmed | statesync.StatusNATDone, Timeout: 30,
			Orig: tuple(17, "10.1.0.12", 1002, "192.0.2.10", 53), Reply: tuple(17, "192.0.2.10", 53, "10.1.0.12", 1002),
		}},
		{"ICMP with SNAT of the identifier", "icmp 1 29 src=10.1.0.10 dst=192.0.2.10 type=8 code=0 id=77 src=192.0.2.10 dst=192.0.2.1 type=0 code=0 id=4711 mark=0", statesync.Flow{
			Family: statesync.Inet, Has: statesync.HasTimeout, Status: statesync.StatusConfirmed | statesync.StatusSeenReply, Timeout: 29,
			Orig: tuple(1, "10.1.0.10", 77, "192.0.2.10", 8<<8), Reply: tuple(1, "192.0.2.10", 4711, "192.0.2.1", 0),
		}},
		{"ICMPv6", "icmpv6 58 29 src=2001:db8:1::10 dst=2001:db8:2::10 type=128 code=0 id=78 src=2001:db8:2::10 dst=2001:db8:1::10 type=129 code=0 id=78 mark=0", statesync.Flow{
			Family: statesync.Inet6, Has: statesync.HasTimeout, Status: statesync.StatusConfirmed | statesync.StatusSeenReply, Timeout: 29,
			Orig: tuple(58, "2001:db8:1::10", 78, "2001:db8:2::10", 128<<8), Reply: tuple(58, "2001:db8:2::10", 78, "2001:db8:1::10", 129<<8),
		}},
		{"TCP over IPv6 with SNAT", "tcp 6 300 ESTABLISHED src=2001:db8:1::10 dst=2001:db8:2::10 sport=40001 dport=443 src=2001:db8:2::10 dst=2001:db8:2::1 sport=443 dport=50001 [ASSURED] mark=0", statesync.Flow{
			Family: statesync.Inet6, Has: statesync.HasTimeout | statesync.HasTCP, Status: both, Timeout: 300, TCP: statesync.TCPInfo{State: 3},
			Orig: tuple(6, "2001:db8:1::10", 40001, "2001:db8:2::10", 443), Reply: tuple(6, "2001:db8:2::10", 443, "2001:db8:2::1", 50001),
		}},
		{"SCTP", "sctp 132 200 ESTABLISHED src=10.1.0.10 dst=192.0.2.10 sport=2000 dport=3868 src=192.0.2.10 dst=10.1.0.10 sport=3868 dport=2000 [ASSURED] mark=0", statesync.Flow{
			Family: statesync.Inet, Has: statesync.HasTimeout | statesync.HasSCTP, Status: both, Timeout: 200, SCTP: statesync.SCTPInfo{State: 4, VTag: [2]uint32{11, 22}},
			Orig: tuple(132, "10.1.0.10", 2000, "192.0.2.10", 3868), Reply: tuple(132, "192.0.2.10", 3868, "10.1.0.10", 2000),
		}},
		{"GRE", "gre 47 180 src=10.1.0.10 dst=192.0.2.10 srckey=0x0 dstkey=0x5 src=192.0.2.10 dst=10.1.0.10 srckey=0x5 dstkey=0x0 [ASSURED] mark=0", statesync.Flow{
			Family: statesync.Inet, Has: statesync.HasTimeout, Status: both, Timeout: 180,
			Orig: tuple(47, "10.1.0.10", 0, "192.0.2.10", 5), Reply: tuple(47, "192.0.2.10", 5, "10.1.0.10", 0),
		}},
		{"a protocol without ports", "unknown 50 500 src=10.1.0.10 dst=192.0.2.10 src=192.0.2.10 dst=192.0.2.1 mark=0", statesync.Flow{
			Family: statesync.Inet, Has: statesync.HasTimeout, Status: statesync.StatusConfirmed | statesync.StatusSeenReply, Timeout: 500,
			Orig: tuple(50, "10.1.0.10", 0, "192.0.2.10", 0), Reply: tuple(50, "192.0.2.10", 0, "192.0.2.1", 0),
		}},
		{"a zone", "udp 17 40 src=10.1.0.13 dst=192.0.2.10 sport=1003 dport=53 src=192.0.2.10 dst=10.1.0.13 sport=53 dport=1003 mark=0 zone=5", statesync.Flow{
			Family: statesync.Inet, Has: statesync.HasTimeout | statesync.HasZone, Zone: 5, Status: statesync.StatusConfirmed | statesync.StatusSeenReply, Timeout: 40,
			Orig: tuple(17, "10.1.0.13", 1003, "192.0.2.10", 53), Reply: tuple(17, "192.0.2.10", 53, "10.1.0.13", 1003),
		}},
		{"a zone of one direction", "udp 17 40 src=10.1.0.14 dst=192.0.2.10 sport=1004 dport=53 zone-orig=6 src=192.0.2.10 dst=10.1.0.14 sport=53 dport=1004 mark=0", statesync.Flow{
			Family: statesync.Inet, Has: statesync.HasTimeout | statesync.HasZone, Zone: 6, ZoneDir: statesync.ZoneOriginal, Status: statesync.StatusConfirmed | statesync.StatusSeenReply, Timeout: 40,
			Orig: tuple(17, "10.1.0.14", 1004, "192.0.2.10", 53), Reply: tuple(17, "192.0.2.10", 53, "10.1.0.14", 1004),
		}},
		{"helper and sequence adjustment", "tcp 6 432 ESTABLISHED src=10.1.0.10 dst=192.0.2.10 sport=40002 dport=21 src=192.0.2.10 dst=192.0.2.1 sport=21 dport=50021 [ASSURED] mark=0 helper=ftp", statesync.Flow{
			Family: statesync.Inet, Has: statesync.HasTimeout | statesync.HasTCP | statesync.HasHelper | statesync.HasSeqAdj, Status: both, Timeout: 432, Helper: "ftp",
			TCP: statesync.TCPInfo{State: 3}, SeqAdj: [2]statesync.SeqAdj{{Pos: 100, Before: 1, After: 2}, {}},
			Orig: tuple(6, "10.1.0.10", 40002, "192.0.2.10", 21), Reply: tuple(6, "192.0.2.10", 21, "192.0.2.1", 50021),
		}},
		{"expected by the one before", "tcp 6 119 SYN_SENT src=192.0.2.10 dst=192.0.2.1 sport=20 dport=50100 [UNREPLIED] src=10.1.0.10 dst=192.0.2.10 sport=40100 dport=20 mark=0", statesync.Flow{
			Family: statesync.Inet, Has: statesync.HasTimeout | statesync.HasTCP | statesync.HasMaster, Status: statesync.StatusConfirmed | statesync.StatusExpected, Timeout: 119,
			TCP: statesync.TCPInfo{State: 1}, Master: tuple(6, "10.1.0.10", 40002, "192.0.2.10", 21),
			Orig: tuple(6, "192.0.2.10", 20, "192.0.2.1", 50100), Reply: tuple(6, "10.1.0.10", 40100, "192.0.2.10", 20),
		}},
	}
}

func list(ns *netnslab.NS, args ...string) []string {
	out := ns.Run("sh", "-c", "conntrack "+strings.Join(args, " ")+" 2>/dev/null; conntrack "+strings.Join(args, " ")+" -f ipv6 2>/dev/null")
	var lines []string
	for _, l := range strings.Split(strings.TrimSpace(out), "\n") {
		lines = append(lines, strings.Join(strings.Fields(l), " "))
	}
	return lines
}

// lines of conntrack -L end with this, which differs.
func clean(l string) string { return strings.TrimSuffix(strings.Replace(l, " use=1", "", 1), " use=1") }

func open(t *testing.T, ns *netnslab.NS) *Table {
	t.Helper()
	var table *Table
	ns.Try(func() (err error) { table, err = OpenTable(); return err })
	t.Cleanup(func() { table.Close() })
	return table
}

// dump reads the whole table.
func dump(t *testing.T, ns *netnslab.NS, expects bool) []statesync.Event {
	t.Helper()
	var out []statesync.Event
	ns.Try(func() error {
		d, err := OpenDump(expects)
		if err != nil {
			return err
		}
		defer d.Close()
		for done := false; !done; {
			if out, done, err = d.Next(out); err != nil {
				return err
			}
		}
		return nil
	})
	return out
}

// TestInject puts one of each kind into a real kernel, shows what conntrack(8) makes of it, reads it back and
// updates it.
func TestInject(t *testing.T) {
	ns := netnslab.New(t)
	table := open(t, ns)
	for _, f := range flows() {
		t.Run(f.name, func(t *testing.T) {
			op := statesync.KernelOp{Kind: statesync.KernelCreate, Flow: f.flow}
			if err := table.Apply([]statesync.KernelOp{op})[0]; err != nil {
				t.Fatal(err)
			}
			found := false
			var lines []string
			for _, l := range list(ns, "-L") {
				l = clean(l)
				lines = append(lines, l)
				w, g := strings.Fields(f.want), strings.Fields(l)
				if len(w) > 3 && len(g) > 3 {
					g[2] = w[2] // the timeout may have gone down by a second
				}
				found = found || strings.Join(w, " ") == strings.Join(g, " ")
			}
			if !found {
				t.Errorf("conntrack -L does not show\n%s\nbut\n%s", f.want, strings.Join(lines, "\n"))
			}
			back := find(t, ns, &f.flow)
			if back == nil {
				t.Fatal("not in the dump")
			}
			got, want := *back, f.flow
			got.Timeout, want.Timeout = 0, 0
			got.Status &^= 1<<4 | 1<<5 | statesync.StatusNATDone | 1<<6 | 1<<13
			want.Status &^= statesync.StatusNATDone
			got.TCP.Flags, want.TCP.Flags = [2]uint8{}, [2]uint8{}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the kernel has another flow (-want +got):\n%s", diff)
			}
			op = statesync.KernelOp{Kind: statesync.KernelUpdate, Flow: *back}
			op.Flow.Timeout, op.Flow.Mark, op.Flow.Has = 1000, 99, op.Flow.Has|statesync.HasMark
			if err := table.Apply([]statesync.KernelOp{op})[0]; err != nil {
				t.Errorf("update: %v", err)
			}
			if got := find(t, ns, &f.flow); got == nil || got.Mark != 99 || got.Timeout < 990 || got.Reply != f.flow.Reply {
				t.Errorf("after the update: %+v", got)
			}
		})
	}
	all := dump(t, ns, false)
	var ops []statesync.KernelOp
	for _, e := range all {
		ops = append(ops, statesync.KernelOp{Kind: statesync.KernelDelete, Flow: e.Flow})
	}
	for i, err := range table.Apply(ops) {
		if err != nil {
			t.Errorf("delete %+v: %v", ops[i].Flow, err)
		}
	}
	if left := dump(t, ns, false); len(left) != 0 {
		t.Errorf("%d left of %d", len(left), len(all))
	}
}

func find(t *testing.T, ns *netnslab.NS, f *statesync.Flow) *statesync.Flow {
	t.Helper()
	for _, e := range dump(t, ns, false) {
		if e.Flow.Orig == f.Orig && e.Flow.Zone == f.Zone {
			return &e.Flow
		}
	}
	return nil
}

// TestInTheWay: what is in the kernel already does not keep the holder's entry out, nor make one of an older state.
func TestInTheWay(t *testing.T) {
	ns := netnslab.New(t)
	table := open(t, ns)
	f := flows()[0].flow
	apply := func(kind statesync.KernelKind, f statesync.Flow) {
		t.Helper()
		if err := table.Apply([]statesync.KernelOp{{Kind: kind, Key: 1, Flow: f}})[0]; err != nil {
			t.Fatal(err)
		}
	}
	other := f
	other.Reply.DstPort = 44444 // the same connection, translated to another port
	stale := f
	stale.Orig.SrcPort = 40404 // another connection with the port that f needs
	t.Run("own tuple", func(t *testing.T) {
		apply(statesync.KernelCreate, other)
		apply(statesync.KernelCreate, f)
		if got := find(t, ns, &f); got == nil || got.Reply != f.Reply {
			t.Errorf("%+v", got)
		}
	})
	t.Run("reply tuple", func(t *testing.T) {
		apply(statesync.KernelDelete, f)
		apply(statesync.KernelCreate, stale)
		apply(statesync.KernelCreate, f)
		if got := find(t, ns, &f); got == nil || got.Reply != f.Reply || find(t, ns, &stale) != nil {
			t.Errorf("%+v", got)
		}
	})
	t.Run("update without an entry", func(t *testing.T) {
		apply(statesync.KernelDelete, f)
		apply(statesync.KernelUpdate, f)
		if got := find(t, ns, &f); got == nil || got.Reply != f.Reply {
			t.Errorf("%+v", got)
		}
	})
	t.Run("add changes nothing", func(t *testing.T) {
		apply(statesync.KernelAdd, other)
		if got := find(t, ns, &f); got == nil || got.Reply != f.Reply {
			t.Errorf("%+v", got)
		}
	})
	t.Run("less assured than before", func(t *testing.T) {
		young := f
		young.Status, young.TCP.State = statesync.StatusConfirmed, 1
		apply(statesync.KernelUpdate, young)
		if got := find(t, ns, &f); got == nil || got.Status&statesync.StatusAssured != 0 || got.TCP.State != 1 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("order within a batch", func(t *testing.T) {
		apply(statesync.KernelCreate, other)
		closing := f
		closing.TCP.State = 4
		ops := []statesync.KernelOp{{Kind: statesync.KernelAdd, Key: 9, Flow: stale}, {Kind: statesync.KernelCreate, Key: 1, Flow: f}, {Kind: statesync.KernelUpdate, Key: 1, Flow: closing}}
		for i, err := range table.Apply(ops) {
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
		if got := find(t, ns, &f); got == nil || got.Reply != f.Reply || got.TCP.State != 4 {
			t.Errorf("%+v", got)
		}
	})
}

// TestEvents: the events of packets and of other programs arrive, those of the own table do not.
func TestEvents(t *testing.T) {
	ns := netnslab.New(t)
	own, other := open(t, ns), open(t, ns)
	var events *Events
	ns.Try(func() (err error) { events, err = OpenEvents(EventBuffer, own.Port()); return err })
	defer events.Close()
	f := flows()[0].flow
	g := flows()[1].flow
	own.Apply([]statesync.KernelOp{{Kind: statesync.KernelCreate, Flow: f}})
	other.Apply([]statesync.KernelOp{{Kind: statesync.KernelCreate, Flow: g}})
	own.Apply([]statesync.KernelOp{{Kind: statesync.KernelDelete, Flow: f}})
	other.Apply([]statesync.KernelOp{{Kind: statesync.KernelDelete, Flow: g}})
	if err := events.Wait(); err != nil {
		t.Fatal(err)
	}
	got, _, err := events.Read(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Kind != statesync.EventNew || got[1].Kind != statesync.EventDestroy || got[0].Flow.Orig != g.Orig || got[0].Flow.Reply != g.Reply {
		t.Errorf("%+v", got)
	}
	kicked := make(chan error)
	go func() { kicked <- events.Wait() }()
	time.Sleep(10 * time.Millisecond)
	events.Kick()
	if err := <-kicked; err != nil {
		t.Error(err)
	}
}

// TestLost: a buffer that overflows is noticed, not hidden.
func TestLost(t *testing.T) {
	ns := netnslab.New(t)
	own, other := open(t, ns), open(t, ns)
	var events *Events
	ns.Try(func() (err error) { events, err = OpenEvents(1, own.Port()); return err }) // the kernel's least
	defer events.Close()
	var ops []statesync.KernelOp
	for i := range 200 {
		f := flows()[1].flow
		f.Orig.SrcPort, f.Reply.DstPort = uint16(2000+i), uint16(2000+i)
		ops = append(ops, statesync.KernelOp{Kind: statesync.KernelCreate, Flow: f})
	}
	other.Apply(ops)
	lost, n := 0, 0
	for range 50 {
		got, more, err := events.Read(nil)
		n += len(got)
		if err == ErrLost {
			lost++
		} else if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
	}
	if lost == 0 || n >= 200 {
		t.Errorf("%d events read, lost %d times", n, lost)
	}
}
