package statesync

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestConverges: whatever is lost, whoever restarts, and wherever the role goes, in the end all tables are that of the
// holder, and every member says so only then.
func TestConverges(t *testing.T) {
	for seed := range uint64(25) {
		w := newWorld(t, seed)
		holder, term := uint8(1), uint64(1)
		w.role(holder, term)
		for range 12 {
			w.full = []int{0, 0, 20, 60}[w.r.IntN(4)]
			w.traffic(holder, w.r.IntN(200))
			switch w.r.IntN(6) {
			case 0:
				holder, term = uint8(1+w.r.IntN(3)), term+1
				w.role(holder, term)
			case 1:
				id := uint8(1 + w.r.IntN(3))
				w.boot(id, w.nodes[id].k)
				w.role(holder, term)
			case 2:
				w.connect(w.nodes[1], w.nodes[2])
			}
			for range w.r.IntN(40) {
				w.step()
				w.traffic(holder, w.r.IntN(5))
			}
		}
		w.full = 0
		w.run(50 * time.Second)
		if d := w.differences(holder); len(d) > 0 {
			t.Fatalf("seed %d, holder %d: %d differences, the first: %s", seed, holder, len(d), d[0])
		}
		for id, n := range w.nodes {
			if ok, text := n.m.InSync(); !ok {
				t.Errorf("seed %d: member %d is not in sync: %s", seed, id, text)
			}
		}
	}
}

// TestStale: a holder of an older term, or of none, adds what is missing and changes nothing else.
func TestStale(t *testing.T) {
	w := newWorld(t, 1)
	w.role(1, 1)
	w.traffic(1, 300)
	w.run(5 * time.Second)
	// Member 2 takes over; member 1 does not know.
	w.nodes[2].m.SetRole(w.now, Role{Known: true, Holder: true, Term: 2})
	w.nodes[3].m.SetRole(w.now, Role{Known: true, Term: 2, Other: 2})
	before := map[uint8]map[Tuple]Flow{}
	for _, id := range []uint8{2, 3} {
		before[id] = map[Tuple]Flow{}
		for k, f := range w.nodes[id].k.entries {
			before[id][k] = f
		}
	}
	fresh := some(w.r)
	fresh.Orig.SrcPort, fresh.Reply.DstPort = 5000, 6000
	w.nodes[1].k.packet(fresh)
	w.traffic(1, 200)
	w.run(100 * time.Millisecond)
	for id, was := range before {
		for k, f := range was {
			if got, ok := w.nodes[id].k.entries[k]; !ok || got.TCP != f.TCP || got.Reply != f.Reply {
				t.Errorf("member %d: port %d was changed by a member without the role", id, k.SrcPort)
			}
		}
	}
	if _, ok := w.nodes[2].k.entries[fresh.Orig]; !ok {
		t.Error("a connection of the last moment did not get across")
	}
	w.role(2, 2)
	w.run(10 * time.Second)
	if d := w.differences(2); len(d) > 0 {
		t.Errorf("%d differences, the first: %s", len(d), d[0])
	}
}

// TestTableFull: a full table is said, and repaired when there is room.
func TestTableFull(t *testing.T) {
	w := newWorld(t, 1)
	w.role(1, 1)
	w.run(3 * time.Second)
	w.nodes[2].k.room = 50
	w.traffic(1, 400)
	w.run(5 * time.Second)
	if ok, text := w.nodes[2].m.InSync(); ok || !strings.Contains(text, "full: 50 of 50") {
		t.Errorf("%v %q", ok, text)
	}
	if ok, _ := w.nodes[3].m.InSync(); !ok {
		t.Error("the other standby suffers")
	}
	w.nodes[2].k.room = 5000
	w.run(40 * time.Second)
	if d := w.differences(1); len(d) > 0 {
		t.Errorf("%d differences, the first: %s", len(d), d[0])
	}
}

// TestRefresh: a connection that only lives on, of which the kernel tells nothing, does not run out at the standby.
func TestRefresh(t *testing.T) {
	w := newWorld(t, 1)
	w.role(1, 1)
	f := some(w.r)
	f.Timeout = 30
	w.nodes[1].k.packet(f)
	w.run(time.Second)
	if got := w.nodes[2].k.entries[f.Orig].Timeout; got != 60 {
		t.Fatalf("the standby's entry has %d s, want the holder's 30 and a grace of 30", got)
	}
	for range 10 {
		// Packets pass all the time: the kernel's entry always has 30 s. The standby's clock runs.
		stale := w.nodes[2].k.entries[f.Orig]
		stale.Timeout = 0
		w.nodes[2].k.entries[f.Orig] = stale
		w.run(31 * time.Second)
		if w.nodes[2].k.entries[f.Orig].Timeout == 0 {
			t.Fatal("not refreshed within 31 s")
		}
	}
	if s := w.nodes[1].m.Stats; s.Refreshed == 0 || s.Refreshed > 30 {
		t.Errorf("refreshed %d times in 310 s", s.Refreshed)
	}
}

// TestOffload: a connection in a flow table has neither timeout nor state; it is carried, its bit is not.
func TestOffload(t *testing.T) {
	w := newWorld(t, 1)
	w.role(1, 1)
	f := some(w.r)
	f.TCP.State = 3
	w.nodes[1].k.packet(f)
	w.run(time.Second)
	f.Has, f.Timeout, f.TCP, f.Status = 0, 0, TCPInfo{}, f.Status|StatusOffload
	w.nodes[1].k.packet(f)
	w.run(20 * time.Second)
	got := w.nodes[2].k.entries[f.Orig]
	if got.Status&StatusOffload != 0 || got.TCP.State != 3 || got.Timeout != offloadTCP+30 {
		t.Errorf("%+v", got)
	}
	if ok, text := w.nodes[2].m.InSync(); !ok {
		t.Error(text)
	}
	// A member that joins gets it from a walk through the table, where it has no state either; so does the holder's daemon when it is
	// started anew.
	for name, k := range map[string]*fakeKernel{"the standby": {entries: map[Tuple]Flow{}, room: 5000}, "the holder's daemon": w.nodes[1].k} {
		id := uint8(1)
		if k != w.nodes[1].k {
			id = 2
		}
		w.boot(id, k)
		w.role(1, 1)
		w.run(30 * time.Second)
		if got := w.nodes[2].k.entries[f.Orig]; got.TCP.State != 3 {
			t.Errorf("%s restarted: %+v", name, got)
		}
		if ok, text := w.nodes[2].m.InSync(); !ok {
			t.Errorf("%s restarted: %s", name, text)
		}
		if s := w.nodes[1].m.Stats.RepairsGiven; s > 6 {
			t.Errorf("%s restarted: %d repairs", name, s)
		}
	}
}

// TestBarrier: its answer comes when everything before it is in the peers' kernels.
func TestBarrier(t *testing.T) {
	w := newWorld(t, 1)
	w.role(1, 1)
	w.run(3 * time.Second)
	w.traffic(1, 300)
	n := w.nodes[1]
	n.m.Events(w.now, n.k.events, false)
	n.k.events = nil
	asked, others := n.m.Barrier(w.now, 77)
	if len(asked) != 2 || len(others) != 0 {
		t.Fatalf("asked %v, others %v", asked, others)
	}
	for range 5 {
		w.step()
		if len(n.o.acked) == 2 {
			if d := w.differences(1); len(d) > 0 {
				t.Errorf("acknowledged with %d differences", len(d))
			}
			return
		}
	}
	t.Errorf("%v", n.o.acked)
}

// TestDiff names what differs.
func TestDiff(t *testing.T) {
	w := newWorld(t, 1)
	w.role(1, 1)
	w.traffic(1, 300)
	w.run(3 * time.Second)
	n := w.nodes[2]
	extra := some(w.r)
	extra.Orig.SrcPort = 7777
	n.k.entries[extra.Orig] = extra
	n.m.table.put(n.m.table.hash.Flow(&extra), n.m.table.merge(record{}, false, true, &extra))
	if err := n.m.AskDiff(w.now, 1); err != nil {
		t.Fatal(err)
	}
	if err := n.m.AskDiff(w.now, 1); err == nil {
		t.Error("two at once")
	}
	for range 3 {
		w.step()
	}
	if d := n.o.diff; d == nil || d.Buckets != 1 || len(d.Here) != 1 || d.Here[0].Orig != extra.Orig || len(d.There)+len(d.Changed) != 0 {
		t.Errorf("%+v", d)
	}
}

// TestWalkAnew: a walk that nobody waits for ends when a member asks for one, once; what it asked for is in the next.
func TestWalkAnew(t *testing.T) {
	kinds := map[Type]int{}
	o := &fakeOutput{send: func(_ uint8, frame []byte) bool { kinds[Type(frame[4])]++; return true }}
	m := machineFor(t, 1, &fakeKernel{entries: map[Tuple]Flow{}, room: 100}, o)
	m.PeerUp(0, Hello{Version: 1, Cluster: 1, Member: 2})
	m.SetRole(0, Role{Known: true, Holder: true, Term: 1})
	f := some(rand.New(rand.NewPCG(1, 1)))
	walk := func() { m.Chunk(0, m.Clock(), []Event{{Kind: EventUpdate, Flow: f}}) }
	var all Bits
	all.All()
	need, ask := bitsFrame(TypeNeed, &all), finish(new(Digest).append(begin(nil, TypeDiffAsk)))
	for _, c := range []struct {
		frame     []byte
		part, end Type
	}{{need, TypeRepair, TypeRepairEnd}, {ask, TypeDiffPart, TypeDiffEnd}} {
		clear(kinds)
		m.PassBegin(0)
		if walk(); m.WalkAnew() {
			t.Fatal("nobody waits")
		}
		if err := m.Frame(0, 2, Type(c.frame[4]), c.frame[FrameHeader:]); err != nil || !m.WalkAnew() {
			t.Fatalf("%v: a member waits for the next walk", err)
		}
		m.PassFailed(0)
		m.PassBegin(0)
		if m.WalkAnew() {
			t.Fatal("the walk that serves the member would end too")
		}
		walk()
		m.PassEnd(0)
		if kinds[c.part] != 1 || kinds[c.end] != 1 {
			t.Errorf("frames by type: %v", kinds)
		}
	}
}

// TestEarlyExpectation: an expectation that the kernel tells of before its master is told behind it, once.
func TestEarlyExpectation(t *testing.T) {
	var ops []Op
	o := &fakeOutput{send: func(_ uint8, frame []byte) bool {
		if Type(frame[4]) == TypeDelta {
			c := cursor{b: frame[FrameHeader:]}
			c.deltaHeader()
			var changes []Change
			if err := c.changes(&changes); err != nil {
				t.Error(err)
			}
			for i := range changes {
				ops = append(ops, changes[i].Op)
			}
		}
		return true
	}}
	m := machineFor(t, 1, &fakeKernel{entries: map[Tuple]Flow{}, room: 10}, o)
	m.PeerUp(0, Hello{Version: Version, Cluster: 1, Member: 2})
	m.SetRole(0, Role{Known: true, Holder: true, Term: 1})
	f := established(1)
	x := &Expect{Family: Inet, Master: f.Orig, Tuple: Tuple{Proto: UDP, Src: f.Orig.Dst, Dst: f.Reply.Dst, DstPort: 4000}, Timeout: 100, Helper: "sip"}
	m.Events(0, []Event{{Kind: EventExpect, Expect: x}}, false)
	if len(ops) != 0 || m.Status().Expectations != 0 {
		t.Errorf("told before its master: %v", ops)
	}
	m.Events(0, []Event{{Kind: EventNew, Flow: f}, {Kind: EventUpdate, Flow: f}}, false)
	if want := []Op{OpSet, OpExpect, OpSet}; !slices.Equal(ops, want) {
		// The master comes first, then what it expects.
		t.Errorf("told %v, want %v", ops, want)
	}
	if len(o.fetched) != 1 || o.fetched[0].Orig != f.Orig {
		t.Errorf("the master is to be read once more: %+v", o.fetched)
	}
}

// TestOwnTraffic: what members say to each other, and what stays on a link, is nobody's connection to take over.
func TestOwnTraffic(t *testing.T) {
	m := machineFor(t, 1, &fakeKernel{entries: map[Tuple]Flow{}, room: 10}, &fakeOutput{})
	m.PeerUp(0, Hello{Version: Version, Cluster: 1, Member: 2, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.255")}})
	m.SetRole(0, Role{Known: true, Holder: true, Term: 1})
	for name, tt := range map[string]struct {
		src, dst string
		proto    uint8
		port     uint16
	}{
		"heartbeat": {"10.0.0.1", "10.0.0.255", UDP, 999}, "heartbeat of the peer": {"10.0.0.2", "10.0.0.255", UDP, 999},
		"CCP": {"10.0.0.1", "10.0.0.2", UDP, 8116}, "CCP multicast": {"10.0.0.2", "239.255.0.7", UDP, 8116},
		"beacon of state sync": {"10.0.0.1", "10.0.0.255", UDP, 8117}, "stream of state sync": {"10.0.0.2", "10.0.0.1", TCP, 8117},
		"IGMP": {"10.1.0.50", "224.0.0.22", 2, 0}, "MLD": {"fe80::1", "ff02::16", ICMPv6, 0}, "broadcast": {"10.1.0.50", "255.255.255.255", UDP, 68},
		"ping of the gateway": {"10.1.0.50", "10.0.0.1", ICMP, 0},
	} {
		f := Flow{Has: HasTimeout, Timeout: 30}
		var family uint8
		f.Orig.Src, family = AddrOf(netip.MustParseAddr(tt.src))
		f.Family = family
		f.Orig.Dst, _ = AddrOf(netip.MustParseAddr(tt.dst))
		f.Orig.Proto, f.Orig.SrcPort, f.Orig.DstPort = tt.proto, tt.port, tt.port
		f.Reply = f.Orig.Inverse()
		m.Events(0, []Event{{Kind: EventNew, Flow: f}}, false)
		m.PassBegin(0)
		m.Chunk(0, m.Clock(), []Event{{Kind: EventNew, Flow: f}})
		m.PassEnd(0)
		if s := m.Status(); s.Entries != 0 || s.Stats.Told != 0 {
			t.Errorf("%s is replicated", name)
		}
	}
}
