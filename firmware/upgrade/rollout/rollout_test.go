package rollout

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/upgrade"
)

var (
	v1 = upgrade.Release{Board: "generic-x86_64", Version: "v1", Revision: 1}
	v2 = upgrade.Release{Board: "generic-x86_64", Version: "v2", Revision: 2}
)

// gateway is one member of the model.
type gateway struct {
	id      uint8
	up      bool
	back    time.Duration // when it is up again; negative: never
	boots   int
	release upgrade.Release
	trial   bool
	since   time.Duration // start of this boot
	next    bool          // the other slot boots next, on trial
	other   upgrade.Release
	job     Job
	// What is wrong with it.
	broken, sick, gone, deaf, full bool // the new image does not start, is never healthy, is never seen again; is never in sync; install fails
	byUs                           bool // it is down because it was asked to restart
}

// world is a cluster and its driver.
type world struct {
	t        *testing.T
	r        *rand.Rand
	now      time.Duration
	members  []*gateway
	holder   uint8
	stubborn bool // hand-overs are refused
	plan     []byte
	m        *Machine
	accident bool // something went down that nobody asked to
	crashes  int  // of the driver that are still to come
	story    []string
}

func (w *world) note(format string, args ...any) {
	w.story = append(w.story, fmt.Sprintf("%7.0fs ", w.now.Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) fatal(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(w.story, "\n"))
}

func newWorld(t *testing.T, seed uint64, n int) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 7)), holder: uint8(1 + seed%uint64(n))}
	p := Plan{ID: "p", Driver: uint8(1 + seed/2%uint64(n)), Image: upgrade.Candidate{Release: v2, Size: 100}, Phase: Forward}
	for i := range n {
		id := uint8(i + 1)
		w.members = append(w.members, &gateway{id: id, up: true, boots: 1, release: v1, other: v1, since: -time.Hour})
		p.Members = append(p.Members, Member{ID: id, Name: fmt.Sprintf("gw-%c", 'a'+i), From: v1, Step: Waiting})
	}
	w.m = New(p)
	w.save()
	return w
}

func (w *world) save() {
	var err error
	if w.plan, err = json.Marshal(w.m.Plan); err != nil {
		w.t.Fatal(err)
	}
}

// crash starts the driver anew from what is on disk.
func (w *world) crash() {
	var p Plan
	if err := json.Unmarshal(w.plan, &p); err != nil {
		w.t.Fatal(err)
	}
	w.m = New(p)
}

func (w *world) of(id uint8) *gateway { return w.members[id-1] }

func (w *world) healthy(g *gateway) (bool, string) {
	switch {
	case w.now-g.since < 20*time.Second:
		return false, "the member is INIT"
	case g.release == v2 && (g.sick || g.deaf):
		return false, "not in sync"
	}
	return true, ""
}

// restart takes a machine down and says what it starts.
func (w *world) restart(g *gateway, away time.Duration) {
	g.up, g.back = false, w.now+away
	if g.next || g.trial {
		g.release, g.other, g.trial = g.other, g.release, g.next
		g.next = false
	}
	g.job = Job{}
	if g.release == v2 && g.trial && g.broken { // it hangs, a reset, the old one
		g.back += 40 * time.Second
		g.release, g.other, g.trial = g.other, g.release, false
	}
	if g.gone && g.release == v2 {
		g.back = -1
	}
	if w.holder == g.id {
		w.holder = 0
	}
}

// tick lets a second pass.
func (w *world) tick() {
	w.now += time.Second
	for _, g := range w.members {
		if !g.up && g.back >= 0 && w.now >= g.back {
			g.up, g.byUs, g.since = true, false, w.now
			g.boots++
			w.note("gw %d is up with %s, trial %t", g.id, g.release.Version, g.trial)
		}
		if !g.up {
			continue
		}
		ok, _ := w.healthy(g)
		if g.trial && ok && w.now-g.since > 80*time.Second {
			g.trial = false
		}
		if g.trial && w.now-g.since > 600*time.Second {
			w.note("gw %d gives its trial up", g.id)
			w.restart(g, 30*time.Second)
		}
		if g.job.Plan != "" && g.job.Error == "" && !g.job.Installed {
			if g.job.Done += 20; g.job.Done >= 100 {
				if g.full {
					g.job.Error = "the EFI system partition is full"
				} else {
					g.job.Installed, g.next, g.other = true, true, v2
				}
			}
		}
	}
	if w.holder == 0 {
		for _, g := range w.members {
			if ok, _ := w.healthy(g); g.up && ok {
				w.holder = g.id
				break
			}
		}
	}
}

func (w *world) see() map[uint8]Seen {
	seen := make(map[uint8]Seen)
	for _, g := range w.members {
		if !g.up || w.r.IntN(50) == 0 {
			continue
		}
		s := Seen{Boot: fmt.Sprint(g.boots), Release: g.release, Trial: g.trial, Job: g.job, Holder: w.holder == g.id}
		s.Healthy, s.Why = w.healthy(g)
		for _, o := range w.members {
			if ok, _ := w.healthy(o); o.id != g.id && o.up && ok {
				s.InSync = append(s.InSync, o.id)
			}
		}
		seen[g.id] = s
	}
	return seen
}

// do carries an action out as a member does.
func (w *world) do(a Action) {
	g := w.of(a.Member)
	w.note("%+v", a)
	if !g.up {
		w.m.Refused(a, "unreachable")
		return
	}
	switch a.Verb {
	case Install:
		if g.job.Plan == "" {
			g.job = Job{Plan: "p", All: 100}
		}
	case Cancel:
		g.job, g.next = Job{}, false
	case Restart, Return:
		if w.holder == g.id {
			w.fatal("the holder of the role is to restart")
		}
		if a.Boot != fmt.Sprint(g.boots) {
			return
		}
		for _, o := range w.members {
			if o.byUs && o != g && o.back >= 0 {
				w.fatal("%d and %d are away at the same time", o.id, g.id)
			}
		}
		if a.Verb == Return {
			g.next = true
		}
		w.restart(g, 30*time.Second)
		g.byUs = true
		if w.holder == 0 && !w.accident {
			w.fatal("nobody serves")
		}
	case HandOver:
		to := w.of(a.To)
		ok, why := w.healthy(to)
		switch {
		case w.stubborn:
			w.m.Refused(a, "it is locked")
		case !to.up || !ok:
			w.m.Refused(a, "not fit "+why)
		case w.holder == g.id:
			w.holder = to.id
		}
	}
}

// play goes on until the plan has ended.
func (w *world) play(crashes bool) Plan {
	last := ""
	if crashes {
		w.crashes = 12
	}
	for range 4 * 3600 {
		w.tick()
		if w.crashes > 0 && w.r.IntN(30) == 0 {
			w.crashes--
			w.crash()
		}
		if d := w.of(w.m.Plan.Driver); !d.up {
			w.crash() // the driver is on a machine that is down
			if d.back < 0 {
				return w.m.Plan
			}
			continue
		}
		acts := w.m.Step(w.now, w.see())
		w.save()
		if s := fmt.Sprintf("%s: %s (%s)", w.m.Plan.Phase, w.m.Plan.Now, w.m.Plan.Reason); s != last {
			w.note("%s", s)
			last = s
		}
		for _, a := range acts {
			if w.crashes > 0 && w.r.IntN(3) == 0 {
				w.crashes--
				w.crash()
				break
			}
			w.do(a)
		}
		if w.m.Plan.Phase.Ended() {
			return w.m.Plan
		}
	}
	w.fatal("it comes to no end")
	return Plan{}
}

func (w *world) all(r upgrade.Release) {
	w.t.Helper()
	for _, g := range w.members {
		if g.up && (g.release != r || g.trial || g.next) {
			w.fatal("member %d: %+v, want %s", g.id, g, r.Version)
		}
	}
}

func TestUpgraded(t *testing.T) {
	for seed := range uint64(80) {
		w := newWorld(t, seed, 2+int(seed%3))
		before := w.holder
		if p := w.play(seed%2 == 0); p.Phase != Upgraded {
			w.fatal("%+v", p)
		}
		w.all(v2)
		if w.holder == before {
			w.fatal("the role did not move, or moved back")
		}
	}
}

// TestFaults: one member at a time has one fault; the others end with what they ran before.
func TestFaults(t *testing.T) {
	for _, f := range []struct {
		name string
		do   func(w *world, g *gateway)
		want string
	}{
		{"the image does not start", func(_ *world, g *gateway) { g.broken = true }, "came back with v1"},
		{"it is never healthy", func(_ *world, g *gateway) { g.sick = true }, "was not healthy with the new image"},
		{"it never comes back", func(_ *world, g *gateway) { g.gone = true }, "did not come back within"},
		{"it does not come in sync", func(_ *world, g *gateway) { g.deaf = true }, "was not healthy with the new image"},
		{"no room", func(_ *world, g *gateway) { g.full = true }, "is full"},
		{"the hand-over is refused", func(w *world, _ *gateway) { w.stubborn = true }, "did not hand the role over: it is locked"},
	} {
		t.Run(f.name, func(t *testing.T) {
			for seed := range uint64(36) {
				w := newWorld(t, seed, 2+int(seed%2))
				// Whoever drives, and whoever serves: the first or the last to be upgraded.
				bad := w.members[seed/3%uint64(len(w.members))]
				f.do(w, bad)
				p := w.play(seed%4 == 0)
				driverGone := bad.gone && bad.id == p.Driver
				if driverGone && !p.Phase.Ended() {
					continue // an operator has to go on; every member is as it should be or waits
				}
				if p.Phase != BackedOut && p.Phase != Mixed || !strings.Contains(p.Reason, f.want) {
					w.fatal("%s: %q, want %q", p.Phase, p.Reason, f.want)
				}
				if p.Phase == Mixed && !bad.gone {
					w.fatal("mixed: %+v", p)
				}
				if p.Phase == BackedOut {
					w.all(v1)
				}
				if w.holder == 0 || !w.of(w.holder).up {
					w.fatal("nobody serves in the end")
				}
			}
		})
	}
}

// TestAccidents: machines lose their power at any moment, and the driver crashes. It ends all the same, with somebody who serves.
func TestAccidents(t *testing.T) {
	ends := make(map[Phase]int)
	for seed := range uint64(80) {
		w := newWorld(t, seed, 2+int(seed%3))
		w.accident = true
		left := 1 + w.r.IntN(3)
		last := ""
		for i := 0; !w.m.Plan.Phase.Ended(); i++ {
			if i > 4*3600 {
				w.fatal("it comes to no end")
			}
			w.tick()
			if g := w.members[w.r.IntN(len(w.members))]; left > 0 && g.up && w.r.IntN(120) == 0 {
				left--
				w.note("gw %d loses its power", g.id)
				w.restart(g, time.Duration(20+w.r.IntN(90))*time.Second)
			}
			if !w.of(w.m.Plan.Driver).up || w.r.IntN(40) == 0 {
				w.crash()
				continue
			}
			acts := w.m.Step(w.now, w.see())
			w.save()
			if s := fmt.Sprintf("%s: %s", w.m.Plan.Phase, w.m.Plan.Now); s != last {
				w.note("%s", s)
				last = s
			}
			for _, a := range acts {
				if g := w.of(a.Member); (a.Verb == Restart || a.Verb == Return) && w.holder == g.id {
					continue // it refuses: the role has come to it meanwhile
				}
				w.do(a)
			}
		}
		ends[w.m.Plan.Phase]++
		switch w.m.Plan.Phase {
		case Upgraded:
			w.all(v2)
		case BackedOut:
			for _, g := range w.members {
				if g.up && g.release != v1 && !g.trial {
					w.fatal("member %d runs %s", g.id, g.release.Version)
				}
			}
		}
	}
	t.Logf("%v", ends)
	if ends[Upgraded] == 0 || ends[BackedOut] == 0 {
		t.Errorf("%v", ends)
	}
}

func TestAbort(t *testing.T) {
	for seed := range uint64(36) {
		w := newWorld(t, seed, 2)
		at := time.Duration(w.r.IntN(400)) * time.Second
		for w.now < at && !w.m.Plan.Phase.Ended() {
			w.tick()
			if !w.of(w.m.Plan.Driver).up {
				w.crash()
				continue
			}
			acts := w.m.Step(w.now, w.see())
			w.save()
			for _, a := range acts {
				w.do(a)
			}
		}
		if w.m.Plan.Phase == Upgraded {
			continue
		}
		w.m.Abort("the operator ended it")
		w.save()
		if p := w.play(false); p.Phase != BackedOut {
			w.fatal("%+v", p)
		}
		w.all(v1)
	}
}

// TestRunsAlready: members that have the image are left alone.
func TestRunsAlready(t *testing.T) {
	w := newWorld(t, 0, 2)
	w.of(2).release = v2
	p := w.play(false)
	if p.Phase != Upgraded || w.of(2).boots != 1 || w.of(1).boots != 2 {
		w.fatal("%+v", p)
	}
	if i := slices.IndexFunc(p.Members, func(m Member) bool { return m.Note == "ran it already" }); i != 1 {
		t.Errorf("%+v", p.Members)
	}
}

// TestUnwell: a cluster that is not well is not touched.
func TestUnwell(t *testing.T) {
	w := newWorld(t, 0, 2)
	w.of(2).up, w.of(2).back = false, -1
	if w.m.Plan.Driver == 2 {
		w.m.Plan.Driver = 1
	}
	p := w.play(false)
	if p.Phase != BackedOut || !strings.Contains(p.Reason, "gw-b does not answer") || w.of(1).boots != 1 || w.of(1).job.Plan != "" {
		w.fatal("%+v", p)
	}
}
