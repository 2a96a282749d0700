package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
)

// History is a story as a value: played twice, it is the same to the last event.
type History struct {
	// Note says what the history is about, for those that are kept.
	Note string `json:"note,omitempty"`
	// Seed of the network's chances.
	Seed    uint64 `json:"seed"`
	Members int    `json:"members"`
	Normal  int    `json:"normal"` // interfaces besides the sync interface

	Beat    Span `json:"beat"`
	Lease   Span `json:"lease"`
	Dead    Span `json:"dead"`
	Silence Span `json:"silence"`

	Duplicate float64 `json:"duplicate,omitzero"` // probability
	Delay     Span    `json:"delay,omitzero"`
	Jitter    Span    `json:"jitter,omitzero"`
	Jiffy     Span    `json:"jiffy,omitzero"` // of the kernel's timeouts

	PrimaryUp  bool `json:"primaryUp,omitzero"`
	Witnesses  int  `json:"witnesses,omitzero"`
	Safety     bool `json:"safety,omitzero"`
	Lock       bool `json:"lock,omitzero"`
	Barrier    bool `json:"barrier,omitzero"`
	Newer      int  `json:"newer,omitzero"`      // that many members are of the next version: theirs is longer than we know
	RealKey    bool `json:"realKey,omitzero"`    // sign and check every frame
	DropAsleep bool `json:"dropAsleep,omitzero"` // a paused box loses frames instead of queueing them
	Strict     bool `json:"strict,omitzero"`     // see [World.Strict]
	// Other are the settings that a [Reconfigure] gives.
	Other *Settings `json:"other,omitempty"`
	// Clocks are what the members' clocks show at the start.
	Clocks []Span `json:"clocks,omitempty"`

	Faults []Fault `json:"faults"`
}

// Timing of the history's members.
func (h *History) Timing() cluster.Timing {
	return cluster.Timing{Beat: time.Duration(h.Beat), Lease: time.Duration(h.Lease), Dead: time.Duration(h.Dead), Silence: time.Duration(h.Silence)}
}

// World is the cluster of the history at its start, with the faults ahead of it.
func (h *History) World(trace func(string)) *World {
	w := empty(h.Seed, h.Members, h.Witnesses, h.Normal, h.slowest())
	w.Trace, w.other = trace, h.Other
	w.Net = Net{Duplicate: h.Duplicate, Delay: time.Duration(h.Delay), Jitter: time.Duration(h.Jitter)}
	w.Jiffy, w.RealKey, w.DropAsleep, w.Strict = time.Duration(h.Jiffy), h.RealKey, h.DropAsleep, h.Strict
	for i, n := range w.Nodes {
		if i < len(h.Clocks) {
			n.clock = time.Duration(h.Clocks[i])
		}
		(&Settings{PrimaryUp: h.PrimaryUp, Lock: h.Lock, Dead: h.Dead, Silence: h.Silence}).set(&n.Config)
		n.Config.Safety, n.Config.Barrier, n.newer = h.Safety, h.Barrier, i < h.Newer
	}
	for _, f := range h.Faults {
		if f.Kind == Claim || f.Kind == GiveUp {
			w.settle += claim * w.timing.Dead
			break
		}
	}
	if w.quorum = h.Safety || h.Witnesses > 0; w.quorum {
		w.settle += 4 * w.timing.Dead // votes are free again, a withdrawn bid is repeated
	}
	if h.Barrier {
		w.settle += cluster.BarrierPatience
	}
	if h.primaryUp() {
		w.settle += (cluster.PrimaryHold + 10) * w.timing.Dead
	}
	w.told = true
	w.start()
	for _, f := range h.Faults {
		w.Inject(f)
	}
	return w
}

// claim is how long a request for the role stands, in dead times (ha/cluster).
const claim = 10

// End is when the last fault has ended.
func (h *History) End() time.Duration {
	var end Span
	for _, f := range h.Faults {
		end = max(end, f.At+f.after(Span(h.slowest().Dead)))
	}
	return time.Duration(end)
}

// Play runs the history and a time of calm after it, in which the cluster must come to rest and stay there. It stops
// at the first violation.
func (h *History) Play(trace func(string)) *World {
	return h.play(trace, false)
}

// play is Play, ended as soon as the cluster has come to rest if brief is set.
func (h *History) play(trace func(string), brief bool) *World {
	w := h.World(trace)
	last := cluster.Instant(h.End())
	end := last.Add(w.settle + 4*w.timing.Dead)
	for _, f := range h.Faults {
		switch f.Kind {
		case GiveUp: // it asks for the role again
			last = max(last, cluster.Instant(f.At+f.after(Span(w.timing.Dead))).Add(time.Duration(f.Value*float64(w.timing.Dead))))
		case Priority, Remove: // another one may be preferred
			brief = brief && !h.primaryUp()
		}
	}
	for w.Now < end && w.Broken == 0 {
		if brief && w.Now > last && w.rests() && (!h.primaryUp() || w.gates == 1) { // to the first member nobody is preferred
			break
		}
		w.Run(min(w.timing.Dead, end.Sub(w.Now)))
	}
	return w
}

// timings are sets in use and at the edge of what [cluster.Timing.Validate] lets pass. A long time of listening after the
// start would only fill histories with nothing.
var timings = []cluster.Timing{
	cluster.DefaultTiming,
	{Beat: 10 * ms, Lease: 40 * ms, Dead: 60 * ms, Silence: 150 * ms},
	{Beat: 4 * ms, Lease: 16 * ms, Dead: 24 * ms, Silence: 100 * ms},
	{Beat: 30 * ms, Lease: 70 * ms, Dead: 110 * ms, Silence: 300 * ms},
	{Beat: 50 * ms, Lease: 200 * ms, Dead: 300 * ms, Silence: 600 * ms},
	{Beat: 100 * ms, Lease: 300 * ms, Dead: 500 * ms, Silence: 1000 * ms},
}

const ms = time.Millisecond

// Generate makes a history from a seed alone. Members is how many there are, 0 for a number by chance.
func Generate(seed uint64, members int) History {
	g := generator{Rand: rand.New(rand.NewPCG(seed, 0x66617465))}
	if members == 0 {
		members = []int{2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 5 + g.IntN(4)}[g.IntN(18)]
	}
	h := History{Seed: seed, Members: members, Normal: []int{1, 1, 1, 2, 2, 3}[g.IntN(6)], RealKey: seed%32 == 0, DropAsleep: g.one(2), PrimaryUp: g.one(6),
		Duplicate: []float64{0, 0.02, 0.2}[g.IntN(3)], Delay: Span(50*time.Microsecond + g.upTo(ms)), Jiffy: Span([]time.Duration{0, ms, 4 * ms}[g.IntN(3)])}
	t := timings[g.IntN(len(timings))]
	if g.one(4) {
		t.Beat = 6*ms + g.upTo(60*ms)
		t.Lease = t.Beat*2 + g.upTo(3*t.Beat)
		t.Dead = t.Lease + t.Beat + ms + g.upTo(2*t.Beat)
		t.Silence = 2*t.Dead + g.upTo(3*t.Dead)
	}
	h.Beat, h.Lease, h.Dead, h.Silence = Span(t.Beat), Span(t.Lease), Span(t.Dead), Span(t.Silence)
	h.Jitter = Span(100*time.Microsecond + g.upTo(t.Beat/2))
	for range members {
		h.Clocks = append(h.Clocks, Span(g.upTo(100*time.Hour)))
	}
	g.h, g.t = &h, t
	g.majority()
	t = g.t
	at := t.Silence
	if g.one(4) {
		at = 0
	}
	for range 1 + g.IntN(10) {
		if g.one(3) {
			at += g.upTo(12 * t.Dead) // time to come to rest
		} else {
			at += g.upTo(2 * t.Dead)
		}
		if h.Witnesses > 0 || h.Safety {
			switch g.IntN(16) {
			case 0:
				h.Faults = append(h.Faults, g.brink(at)...)
			case 1:
				h.Faults = append(h.Faults, g.orphan(at)...)
			}
		}
		f := g.fault(at)
		if slices.Contains(timed, f.Kind) && g.one(4) {
			g.moment(&f)
		}
		h.Faults = append(h.Faults, f)
		switch {
		case slices.Contains(stalls, f.Kind) && g.one(2):
			h.Faults = append(h.Faults, g.behind(f))
		case f.Kind == Remove && g.one(2): // the others have counted anew by then
			h.Faults = append(h.Faults, Fault{At: f.At + f.For + Span(4*t.Dead), For: Span(t.Dead + g.upTo(3*t.Dead)), Kind: Isolate, On: OnActive})
		}
	}
	h.rollOut()
	return h
}

// majority makes some clusters need one, and gives them time for it.
func (g *generator) majority() {
	h, t := g.h, &g.t
	switch g.IntN(6) {
	case 0, 1:
		h.Witnesses = []int{1, 1, 1, 2, 3}[g.IntN(5)]
	case 2:
		h.Safety = true
	}
	h.Lock, h.Barrier = g.one(6), g.one(3)
	if g.one(8) {
		h.Newer = 1 + g.IntN(h.Members)
	}
	if h.Witnesses > 0 || h.Safety {
		t.Dead = max(t.Dead, t.Lease+4*t.Beat+g.upTo(3*t.Beat))
		t.Silence = max(t.Silence, 2*t.Dead)
		h.Dead, h.Silence = Span(t.Dead), Span(t.Silence)
	}
}

type generator struct {
	*rand.Rand
	h *History
	t cluster.Timing
}

func (g *generator) one(in int) bool { return g.IntN(in) == 0 }

func (g *generator) upTo(d time.Duration) time.Duration { return time.Duration(g.Int64N(int64(d))) }

func (g *generator) member() uint8 { return uint8(1 + g.IntN(g.h.Members)) }

// kinds, the more telling ones more often.
var kinds = []Kind{
	Loss, Delay, Jitter, Corrupt, Cut, Cut, Partition, Partition, Isolate, Mirror, Stranger, Replay,
	Crash, Crash, Crash, PowerCut, PowerCut, Pause, Pause, Pause, Pause, PauseBox, PauseBox, Freeze, Slow, Slow,
	Priority, Priority, Remove,
	LinkDown, LinkDown, LinkDown, Sick, Preparing, Silent, Lockdown, OutOfSync, OutOfSync, Saturated, Unused, Busy, Claim, Claim, GiveUp, GiveUp, Leave,
}

// ofWitness are kinds that can happen to a witness as well.
var ofWitness = []Kind{Cut, Isolate, Mirror, Replay, Crash, PowerCut, Pause, PauseBox, Freeze, Slow, LinkDown, Leave}

var stalls = []Kind{Pause, PauseBox, Freeze, Slow, Partition, Isolate}

// timed are kinds that can wait for a moment.
var timed = []Kind{Cut, Partition, Isolate, Crash, PowerCut, Pause, PauseBox, Freeze, LinkDown, Claim, GiveUp, Leave}

// moment makes a fault wait for one.
func (g *generator) moment(f *Fault) {
	moments := []Moment{OnActive, OnRelease, OnBid, OnVote, OnOpen, OnShut}
	if g.h.Witnesses > 0 || g.h.Safety {
		moments = append(moments, OnBrink, OnBrink)
	}
	f.On = moments[g.IntN(len(moments))]
	if g.one(2) {
		f.Lag = Span(1 + g.upTo(2*g.t.Beat))
	}
	if g.one(2) && !f.anywhere() && f.Kind != Cut && (f.For > 0 || f.Kind == Claim || f.Kind == GiveUp) && f.Interface == 0 {
		f.Member = 0
	}
	if f.Kind == Pause && g.one(2) {
		f.For = Span(1 + g.upTo(g.t.Lease+2*g.t.Beat)) // it wakes up before it is too late, or just after
	}
}

// brink is how an active member may come to the end of its majority's support, and stand still there: once with a
// heartbeat in hand that must not leave any more, once before it has shut its gate.
func (g *generator) brink(at time.Duration) []Fault {
	return []Fault{
		{At: Span(at), For: Span(g.t.Dead + g.upTo(3*g.t.Dead)), Kind: Isolate, Value: float64(g.IntN(3)), On: OnActive, Lag: Span(g.upTo(g.t.Beat))},
		{At: Span(at), For: Span(1 + g.upTo(g.t.Lease+g.t.Beat)), Kind: Pause, On: OnBrink},
		{At: Span(at), For: Span(1 + g.upTo(2*g.t.Dead)), Kind: Pause, On: OnShut},
	}[:2+g.IntN(2)]
}

// orphan is a hand-over whose successor is cut off from nearly all in the moment it takes the role.
func (g *generator) orphan(at time.Duration) []Fault {
	return []Fault{
		{At: Span(at), Kind: GiveUp, Peer: g.member(), On: OnActive},
		{At: Span(at), For: Span(g.t.Dead + g.upTo(3*g.t.Dead)), Kind: Isolate, Peer: g.member(), Value: float64(g.IntN(2)), On: OnOpen},
	}
}

// behind is something that a member in the middle of f will learn of only afterwards.
func (g *generator) behind(f Fault) Fault {
	b := Fault{At: f.At + Span(g.upTo(time.Duration(f.For))), Kind: []Kind{Crash, GiveUp, Claim, Leave, PowerCut, Pause}[g.IntN(6)], Member: g.member()}
	switch b.Kind {
	case Pause:
		g.moment(&b)
		b.For = Span(1 + g.upTo(g.t.Lease+2*g.t.Beat))
	case Crash, Leave, PowerCut:
		b.For = Span(4*ms + g.upTo(4*g.t.Dead))
	}
	return b
}

// fault is a random one. A time of 0.1 to 10 dead times is spread evenly over its orders of magnitude.
func (g *generator) fault(at time.Duration) Fault {
	span := time.Duration(float64(g.t.Dead/10) * float64(uint(1)<<g.IntN(7)) * (1 + 0.6*g.Float64()))
	f := Fault{At: Span(at), For: Span(span), Kind: kinds[g.IntN(len(kinds))], Interface: g.IntN(g.h.Normal + 1)}
	switch f.Kind {
	case Loss, Delay, Jitter:
		f.Value = g.Float64()
		if f.Kind != Loss {
			f.Value *= 0.3 * float64(1+g.IntN(5))
		}
		if g.one(2) {
			f.Interface = All
		}
		return f
	case Partition:
		f.Interface = 0
		for id := range g.h.Members {
			if g.one(2) {
				f.Side = append(f.Side, id+1)
			}
		}
		for i := range g.h.Witnesses {
			if g.one(2) {
				f.Side = append(f.Side, cluster.MaxMembers+1+i)
			}
		}
		if g.one(4) {
			f.Peer = g.member()
		}
		return f
	case Stranger:
		f.Value = float64(g.IntN(2))
		return f
	}
	f.Member = g.member()
	if g.h.Witnesses > 0 && g.one(4) && slices.Contains(ofWitness, f.Kind) {
		f.Member = uint8(cluster.MaxMembers + 1 + g.IntN(g.h.Witnesses))
	}
	switch f.Kind {
	case Cut:
		if f.Peer = uint8(1 + (int(f.Member)+g.IntN(g.h.Members-1))%g.h.Members); f.Member > cluster.MaxMembers {
			f.Peer = g.member()
		}
		if f.Member <= cluster.MaxMembers && g.h.Witnesses > 0 && g.one(4) {
			f.Peer = uint8(cluster.MaxMembers + 1 + g.IntN(g.h.Witnesses))
		}
		if g.one(4) {
			f.Interface = All
		}
	case Isolate:
		f.Interface, f.Value = 0, float64(g.IntN(3))
		if f.Peer = g.member(); f.Peer == f.Member || g.one(2) {
			f.Peer = 0
		}
	case Mirror, LinkDown, Unused:
	default:
		f.Interface = 0
	}
	switch f.Kind {
	case Crash:
		f.Value = []float64{-1, 0, 3 * g.Float64()}[g.IntN(3)]
		f.For += Span(4 * ms) // a restart takes longer than a farewell
	case PowerCut:
		f.Blank = g.one(3)
	case Slow:
		f.Value = 2 * g.Float64()
	case Priority:
		f.Value, f.For = float64(50+10*g.IntN(12)), 0
	case Remove:
		f.Member, f.For = max(f.Member, 2), f.For+Span(2*g.t.Dead)
	case Busy:
		f.Value, f.For = float64(g.IntN(1000)*[]int{1, 1, 10}[g.IntN(3)]), 0
	case Claim:
		f.For = 0
	case GiveUp:
		f.For = 0
		if g.one(3) {
			f.Peer = g.member()
		}
		if g.one(4) {
			f.Value = float64(g.IntN(20)) // away for that many dead times
		}
	}
	if slices.Contains([]Kind{Crash, PowerCut, Leave}, f.Kind) && g.one(8) && f.Member > 1 {
		f.For = 0 // for good; the first member always comes back
	}
	return f
}
