package probe

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/ccp"
)

// world is members on LANs, each member with one port in each LAN, and hosts that answer whoever asks.
type world struct {
	t     testing.TB
	now   Instant
	n     int           // members, 1..n
	lans  int           // interfaces of each
	node  []*Machine    // by member ID
	heard [][][]Instant // by member, LAN, peer
	port  [][]port      // by member, LAN
	lan   []lan
	dead  []bool       // members that are off
	knows [][]bool     // by member, LAN: has the hosts in its neighbour table
	cut   map[way]bool // heartbeats and everything else
	blind map[way]bool // heartbeats alone do not pass
	queue []func()
	delay func() time.Duration // of CCP
	later []delayed
	loss  func() bool

	changes []change
	asks    int
}

type way struct {
	lan      int
	from, to uint8
}
type port struct {
	down, noRX, noTX bool
	frames           uint64
}
type lan struct {
	dead  bool // carrier stays, nothing passes
	hosts int
	noise bool // hosts send frames by themselves
}
type delayed struct {
	at Instant
	do func()
}
type change struct {
	at     Instant
	member uint8
	v      Verdict
}

func newWorld(t testing.TB, members, lans, hosts int) *world {
	w := &world{t: t, n: members, lans: lans, node: []*Machine{nil}, cut: map[way]bool{}, blind: map[way]bool{}, dead: make([]bool, members+1),
		delay: func() time.Duration { return 0 }, loss: func() bool { return false }}
	cfg := Config{Silence: time.Second, Hold: 5 * time.Second}
	for id := range members {
		cfg.Members = append(cfg.Members, Member{ID: uint8(id + 1), Name: string(rune('a' + id))})
	}
	for i := range lans {
		cfg.Interfaces = append(cfg.Interfaces, Interface{Number: uint8(i + 1), Name: "G" + string(rune('1'+i)), Heartbeat: true})
		w.lan = append(w.lan, lan{hosts: hosts})
	}
	w.heard, w.port, w.knows = make([][][]Instant, members+1), make([][]port, members+1), make([][]bool, members+1)
	for id := 1; id <= members; id++ {
		cfg.Self = uint8(id)
		w.node = append(w.node, New(cfg, 0))
		w.port[id], w.knows[id] = make([]port, lans), make([]bool, lans)
		for l := range lans {
			w.heard[id] = append(w.heard[id], make([]Instant, members+1))
			for p := range w.heard[id][l] {
				w.heard[id][l][p] = never
			}
			w.knows[id][l] = id == 1 // the active member has spoken to the hosts, the others have not
		}
	}
	return w
}

func (w *world) passes(l int, from, to uint8) bool {
	a, b := w.port[from][l], w.port[to][l]
	return !w.dead[from] && !w.dead[to] && !w.lan[l].dead && !a.down && !a.noTX && !b.down && !b.noRX && !w.cut[way{l, from, to}]
}

const tick = 200 * time.Millisecond

// run lets time pass.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.now < end; {
		w.now = w.now.Add(tick)
		for i := 0; i < len(w.later); i++ {
			if w.later[i].at <= w.now {
				do := w.later[i].do
				w.later = append(w.later[:i], w.later[i+1:]...)
				i--
				do()
			}
		}
		w.flush()
		for from := uint8(1); int(from) <= w.n; from++ {
			for l := range w.lans {
				w.spread(l, from)
			}
		}
		for id := uint8(1); int(id) <= w.n; id++ {
			if !w.dead[id] {
				w.step(id, w.facts(id))
				w.flush()
			}
		}
	}
}

// spread sends a member's heartbeat, and once a second its MY_STATE.
func (w *world) spread(l int, from uint8) {
	for to := uint8(1); int(to) <= w.n; to++ {
		if from == to || !w.passes(l, from, to) {
			continue
		}
		w.port[to][l].frames++
		if !w.blind[way{l, from, to}] {
			w.heard[to][l][from] = w.now
		}
		if w.now%Instant(time.Second) == 0 {
			w.post(func() {
				w.step(to, State{Interface: l, Left: uint8(l + 1), From: from, Heard: w.node[from].LastHeard(w.node[from].now, l, to)})
			})
		}
	}
	if w.lan[l].noise && !w.lan[l].dead && !w.port[from][l].noRX && !w.port[from][l].down {
		w.port[from][l].frames++
	}
}

func (w *world) facts(id uint8) Facts {
	var f Facts
	for l, p := range w.port[id] {
		k := Link{Present: true, Up: !p.down, Frames: p.frames}
		if w.knows[id][l] {
			k.Neighbours = w.hosts(l)
		}
		f.Links = append(f.Links, k)
	}
	for p := uint8(1); int(p) <= w.n; p++ {
		if p == id {
			continue
		}
		q := Peer{ID: p}
		for l := range w.lans {
			age := ccp.Unheard
			if at := w.heard[id][l][p]; at != never {
				age = w.now.Sub(at)
				q.Alive = q.Alive || age <= tick
			}
			q.Heard = append(q.Heard, age)
		}
		f.Peers = append(f.Peers, q)
	}
	return f
}

func (w *world) hosts(l int) (out []netip.Addr) {
	for h := range w.lan[l].hosts {
		out = append(out, netip.AddrFrom4([4]byte{10, byte(l), 0, byte(100 + h)}))
	}
	return out
}

func (w *world) post(f func()) {
	if w.loss() {
		return
	}
	if d := w.delay(); d > 0 {
		w.later = append(w.later, delayed{w.now.Add(d), f})
		return
	}
	w.queue = append(w.queue, f)
}

func (w *world) flush() {
	for len(w.queue) > 0 {
		f := w.queue[0]
		w.queue = w.queue[1:]
		f()
	}
}

func (w *world) step(id uint8, in Input) {
	if w.dead[id] {
		return
	}
	for _, a := range w.node[id].Step(w.now, in) {
		switch a := a.(type) {
		case Ask:
			w.asks++
			for to := uint8(1); int(to) <= w.n; to++ {
				if to != id && w.passes(a.Interface, id, to) {
					w.post(func() {
						w.step(to, Asked{Interface: a.Interface, Left: uint8(a.Interface + 1), From: id, About: a.About, ID: a.ID, Report: w.wire(a.Report)})
					})
				}
			}
		case Tell:
			if w.passes(a.Interface, id, a.To) {
				w.post(func() {
					w.step(a.To, Told{Interface: a.Interface, Left: uint8(a.Interface + 1), From: id, About: a.About, ID: a.ID, Report: w.wire(a.Report)})
				})
			}
		case Solicit:
			p, l := w.port[id][a.Interface], w.lan[a.Interface]
			targets := append([]netip.Addr(nil), a.Also...)
			if w.knows[id][a.Interface] {
				targets = append(targets, w.hosts(a.Interface)...)
			}
			for to := 1; to <= w.n; to++ { // a question of ARP is a broadcast
				if uint8(to) != id && len(targets) > 0 && w.passes(a.Interface, id, uint8(to)) {
					w.port[to][a.Interface].frames++
				}
			}
			if len(targets) > 0 && l.hosts > 0 && !l.dead && !p.noRX && !p.noTX && !p.down {
				w.port[id][a.Interface].frames++
				w.queue = append(w.queue, func() { w.step(id, Answer{Interface: a.Interface, From: targets[0]}) })
			}
		case Changed:
			w.changes = append(w.changes, change{w.now, id, a.Verdict})
		}
	}
}

// wire sends a report through its codec.
func (w *world) wire(r ccp.Report) *ccp.Report {
	got, ok := ccp.ParseReport(ccp.AppendReport(nil, r))
	if !ok {
		w.t.Fatalf("report %+v does not survive its codec", r)
	}
	return &got
}

func (w *world) verdict(id uint8, l int) Verdict { return w.node[id].Verdicts()[l] }

func randomly(r *rand.Rand, p float64) bool { return r.Float64() < p }
