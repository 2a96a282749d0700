package statesync

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// fakeKernel is a connection table that behaves like the kernel's.
type fakeKernel struct {
	entries map[Tuple]Flow
	room    int
	events  []Event // what packets did
	begun   []KernelOp
}

func (k *fakeKernel) Size() (int, int) { return len(k.entries), k.room }

func (k *fakeKernel) Begin(ops []KernelOp) { k.begun = ops }

// End carries the operations out as late as it may.
func (k *fakeKernel) End() []error {
	ops := k.begun
	k.begun = nil
	return k.apply(ops)
}

func (k *fakeKernel) apply(ops []KernelOp) []error {
	errs := make([]error, len(ops))
	for i, op := range ops {
		old, known := k.entries[op.Flow.Orig]
		switch {
		case op.Kind == KernelDelete:
			delete(k.entries, op.Flow.Orig)
		case op.Kind == KernelExpect || op.Kind == KernelExpectDelete, op.Kind == KernelAdd && known:
		case !known && len(k.entries) >= k.room:
			errs[i] = TableFull
		case op.Kind == KernelUpdate && known:
			f := op.Flow
			if f.Has&HasTCP == 0 {
				f.TCP, f.Has = old.TCP, f.Has|old.Has&HasTCP
			}
			f.Reply = old.Reply
			k.entries[f.Orig] = f
		default:
			k.entries[op.Flow.Orig] = op.Flow
		}
	}
	return errs
}

// packet makes, changes or ends a connection as traffic does.
func (k *fakeKernel) packet(f Flow) {
	kind := EventUpdate
	if _, known := k.entries[f.Orig]; !known {
		kind = EventNew
	}
	k.entries[f.Orig] = f
	k.events = append(k.events, Event{Kind: kind, Flow: f})
}

func (k *fakeKernel) end(t Tuple) {
	f := k.entries[t]
	delete(k.entries, t)
	k.events = append(k.events, Event{Kind: EventDestroy, Flow: f})
}

// fakeOutput collects what a machine wants.
type fakeOutput struct {
	send  func(peer uint8, frame []byte) bool
	walk  bool
	log   []string
	acked []uint64
	diff  *Diff

	fetched []Flow
}

func (o *fakeOutput) Send(peer uint8, frame []byte) bool {
	return o.send == nil || o.send(peer, frame)
}
func (o *fakeOutput) Fetch(f Flow)                        { o.fetched = append(o.fetched, f) }
func (o *fakeOutput) Walk()                               { o.walk = true }
func (o *fakeOutput) Log(_ Severity, text string)         { o.log = append(o.log, text) }
func (o *fakeOutput) BarrierAcked(_ uint8, number uint64) { o.acked = append(o.acked, number) }
func (o *fakeOutput) DiffDone(d Diff)                     { o.diff = &d }

func machineFor(t testing.TB, self uint8, k Kernel, o Output) *Machine {
	t.Helper()
	m, err := New(Config{Cluster: 1, Self: self, Members: []uint8{1, 2, 3}, Secret: [16]byte{1}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, self})}}, k, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// world is a cluster in which time and losses are ours.
type world struct {
	t     *testing.T
	r     *rand.Rand
	now   time.Duration
	nodes map[uint8]*worldNode
	full  int // percent of frames for which a queue is full
}

type worldNode struct {
	id  uint8
	k   *fakeKernel
	o   *fakeOutput
	m   *Machine
	in  map[uint8][][]byte // by sender
	due time.Duration      // of the next walk
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 7)), nodes: map[uint8]*worldNode{}}
	for id := uint8(1); id <= 3; id++ {
		w.boot(id, &fakeKernel{entries: map[Tuple]Flow{}, room: 5000})
	}
	return w
}

// boot starts a member's daemon with the table that its kernel has.
func (w *world) boot(id uint8, k *fakeKernel) {
	n := &worldNode{id: id, k: k, in: map[uint8][][]byte{}}
	n.o = &fakeOutput{send: func(peer uint8, frame []byte) bool {
		other := w.nodes[peer]
		if other == nil || w.r.IntN(100) < w.full {
			return false
		}
		other.in[id] = append(other.in[id], frame)
		return true
	}}
	n.m = machineFor(w.t, id, k, n.o)
	w.nodes[id] = n
	for _, other := range w.nodes {
		if other.id != id {
			w.connect(n, other)
		}
	}
}

func (w *world) connect(a, b *worldNode) {
	a.m.PeerDown(w.now, b.id)
	b.m.PeerDown(w.now, a.id)
	a.in[b.id], b.in[a.id] = nil, nil
	a.m.PeerUp(w.now, b.m.Hello())
	b.m.PeerUp(w.now, a.m.Hello())
}

func (w *world) role(holder uint8, term uint64) {
	for _, n := range w.nodes {
		r := Role{Known: true, Holder: n.id == holder, Term: term, Other: holder}
		if r.Holder {
			r.Other = 0
		}
		n.m.SetRole(w.now, r)
	}
}

// step lets everything happen that is due within 20 ms.
func (w *world) step() {
	w.now += 20 * time.Millisecond
	for _, id := range []uint8{1, 2, 3} {
		n := w.nodes[id]
		if len(n.k.events) > 0 {
			events := n.k.events
			n.k.events = nil
			lost := w.full > 0 && w.r.IntN(100) < w.full
			if lost {
				events = nil
			}
			n.m.Events(w.now, events, lost)
		}
		for _, from := range []uint8{1, 2, 3} {
			frames := n.in[from]
			n.in[from] = nil
			for _, f := range frames {
				kind, size, err := ParseHeader([FrameHeader]byte(f))
				if err != nil || size != len(f)-FrameHeader {
					w.t.Fatalf("frame of %d: %v, %d bytes of %d", from, err, size, len(f)-FrameHeader)
				}
				if err := n.m.Frame(w.now, from, kind, f[FrameHeader:]); err != nil {
					w.t.Fatalf("member %d refuses a frame of %d: %v", id, from, err)
				}
			}
		}
		n.m.Tick(w.now)
		if n.o.walk || w.now >= n.due {
			n.o.walk, n.due = false, w.now+15*time.Second
			w.walk(n)
		}
	}
}

// walk goes through a member's table in pieces that are older than what happens meanwhile.
func (w *world) walk(n *worldNode) {
	n.m.PassBegin(w.now)
	mark := n.m.Clock()
	var all []Event
	for _, f := range n.k.entries {
		all = append(all, Event{Kind: EventUpdate, Flow: f})
	}
	slices.SortFunc(all, func(a, b Event) int { return int(a.Flow.Orig.SrcPort) - int(b.Flow.Orig.SrcPort) })
	for len(all) > 0 {
		k := min(len(all), 50)
		if w.r.IntN(3) == 0 && len(n.k.events) > 0 {
			events := n.k.events
			n.k.events = nil
			n.m.Events(w.now, events, false)
		}
		n.m.Chunk(w.now, mark, all[:k])
		all = all[k:]
	}
	n.m.PassEnd(w.now)
}

func (w *world) run(d time.Duration) {
	for end := w.now + d; w.now < end; {
		w.step()
	}
}

// some is one of a few connections, so that they are made, changed and ended again and again.
func some(r *rand.Rand) Flow {
	f := Flow{Family: Inet, Has: HasTimeout | HasTCP, Timeout: 100 + r.Uint32N(1000), Status: StatusConfirmed}
	n := uint16(1 + r.IntN(400))
	f.Orig = tuple(TCP, "10.1.0.10", n, "192.0.2.10", 80)
	f.Reply = tuple(TCP, "192.0.2.10", 80, "192.0.2.1", 1000+n+uint16(r.IntN(3)))
	f.TCP.State = uint8(1 + r.IntN(8))
	if r.IntN(2) == 0 {
		f.Status |= StatusSeenReply
	}
	return f
}

// traffic lets packets pass through a member.
func (w *world) traffic(id uint8, n int) {
	k := w.nodes[id].k
	for range n {
		f := some(w.r)
		if _, known := k.entries[f.Orig]; known && w.r.IntN(3) == 0 {
			k.end(f.Orig)
		} else {
			k.packet(f)
		}
	}
}

// same reports how the tables of all members differ from one's.
func (w *world) differences(from uint8) (out []string) {
	want := w.nodes[from].k.entries
	for id, n := range w.nodes {
		for t, f := range want {
			g, ok := n.k.entries[t]
			if !ok || g.Reply != f.Reply || g.TCP.State != f.TCP.State || g.Status&StatusSeenReply != f.Status&StatusSeenReply {
				out = append(out, fmt.Sprintf("member %d: port %d: %v %+v, want %+v", id, t.SrcPort, ok, g.TCP, f.TCP))
			}
		}
		for t := range n.k.entries {
			if _, ok := want[t]; !ok {
				out = append(out, fmt.Sprintf("member %d has port %d", id, t.SrcPort))
			}
		}
	}
	return out
}
