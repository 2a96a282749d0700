package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/policy"
	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/fetch"
	"github.com/twinkeep/twinkeep/firmware/policy/install"
	"github.com/twinkeep/twinkeep/firmware/policy/standing"
	"github.com/twinkeep/twinkeep/ha/member"
)

// Times.
const (
	lookEvery = 250 * time.Millisecond
	// startPatience is for how long the first recovery waits until had knows who is active.
	startPatience = 10 * time.Second
	// rollPatience is for how long the active member waits for a standby to hand over to, before its had starts anew.
	rollPatience = 20 * time.Second
	rollFirst    = time.Second
	// tellPatience is for how long the restart waits for the policy that asks for it to be in force by the disk, too: had
	// tells the others of it first, and begins with it. A change by the node file has none.
	tellPatience = time.Second
	// adaptPatience is for how long had may take to take in other settings while it runs.
	adaptPatience = 3 * time.Second
)

// watching tells had and the other daemons what this member runs and whether it may hold the role, until ctx ends.
func (p *policies) watching(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	w := watch{}
	for {
		p.tick(ctx, &w)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-p.look:
		}
	}
}

// watch is what the loop remembers.
type watch struct {
	told     time.Duration
	verdict  standing.Verdict
	ref      artifact.Ref
	recover  time.Duration // no further recovery before
	attempts int
	world    string // what the others ran at the last recovery
	syncAt   time.Duration
	recalled bool          // the machine knows what the disk has about a missed policy
	keepAt   time.Duration // no further attempt to write that before
}

// keepPause is how long a disk that refused is left alone.
const keepPause = 10 * time.Second

// remember keeps on the disk what this member has missed: after a restart, with nobody there, it must not serve by what it
// has as if it were the newest.
func (p *policies) remember(w *watch, now time.Duration, missed install.Missed) {
	if p.node == nil || now < w.keepAt {
		return
	}
	if err := p.node.Miss(missed); err != nil {
		w.keepAt = now + keepPause
		p.d.Log.Printf("policy: that this member has missed one is not kept: %v", err)
	}
}

// tick looks once.
func (p *policies) tick(ctx context.Context, w *watch) {
	limited, cancel := context.WithTimeout(ctx, time.Second)
	status, err := p.client.HA(limited)
	cancel()
	ref := p.ref()
	now := uptime()
	p.mu.Lock()
	if err != nil { // it has its own troubles, or has not started; what it is told then is lost
		p.deaf = true
		p.write()
		p.mu.Unlock()
		return
	}
	p.deaf = status.ConfigError != "" || status.State == "INIT" || time.Duration(status.StateSince) > now-p.ordered
	p.ha = status
	if !w.recalled && p.node != nil {
		w.recalled = true
		r := p.node.Record().Missed
		p.machine.Recall(standing.Mark{Revision: r.Revision, Digest: r.Digest}, r.Who)
	}
	v := p.machine.Step(p.input(now, ref))
	missed, who := p.machine.Missed()
	p.verdict = v
	p.runs = ref
	p.write()
	restart := p.dueRestart(now)
	p.mu.Unlock()

	p.remember(w, now, install.Missed{Revision: missed.Revision, Digest: missed.Digest, Who: who})
	if v != w.verdict && v.Why != w.verdict.Why {
		if v.Eligible {
			p.d.Log.Printf("policy: this member may hold the role: %s", ref)
		} else {
			p.d.Log.Printf("policy: this member may not hold the role: %s", v.Why)
		}
	}
	if v != w.verdict || ref != w.ref || now-w.told >= reportEvery || restart {
		w.verdict, w.ref, w.told = v, ref, now
		p.tell(ctx, v, ref)
	}
	if restart {
		if p.restartHA(ctx) {
			w.syncAt = now + 2*time.Second // had's hand-over asks it first
		}
	}
	if w.syncAt != 0 && now >= w.syncAt {
		w.syncAt = 0
		p.client.ReloadSync(ctx)
	}
	if v.Recover {
		p.again(w, now)
	}
}

// input is what is known. mu is held.
func (p *policies) input(now time.Duration, ref artifact.Ref) standing.Input {
	in := standing.Input{Now: now, Ours: markOf(ref), Why: p.closed, Hold: p.hold, Deaf: p.deaf}
	if in.Why == "" {
		in.Why = "a policy is being put in force"
	}
	if p.gone {
		in.Ours = standing.Mark{}
	}
	if p.deaf {
		return in
	}
	in.Holder = holds(p.ha.State)
	var refusers []uint8
	if p.node != nil {
		r := p.node.Record()
		if in.Left = markOf(r.Left); r.Prepared != nil {
			in.Switching = markOf(r.Prepared.Policy)
		}
		refusers = p.node.Refusers()
	}
	for _, q := range p.ha.Peers {
		in.Peers = append(in.Peers, standing.Peer{
			Name: q.Name, Active: holds(q.State), Idle: q.State == "DOWN" || q.State == "INIT" || q.State == "LOST",
			Refused: slices.Contains(refusers, q.Member),
			Heard:   time.Duration(q.LastHeard), Mark: standing.Mark{Revision: q.Policy.Revision, Digest: q.Policy.Digest},
		})
	}
	return in
}

func holds(state string) bool { return state == "ACTIVE" || state == "ACTIVE!" }

// markOf is a policy as heartbeats tell it.
func markOf(r artifact.Ref) standing.Mark {
	if r.IsZero() {
		return standing.Mark{}
	}
	return standing.Mark{Revision: r.Revision, Digest: r.Digest.Encoded()[:16]}
}

// tell says to had what this member runs, and whether it may serve by that. A had that does not answer has its own
// troubles, and begins with what is in force.
func (p *policies) tell(ctx context.Context, v standing.Verdict, ref artifact.Ref) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	r := api.DeviceReport{State: "ok", Text: short(ref.String()), Timeout: member.Duration(deviceTimeout)}
	if !v.Eligible {
		r.State, r.Text = lockdownState, short(v.Why)
		p.client.ReportDevice(ctx, policyDevice, r) // first: what it says is about what runs
	}
	p.client.SetPolicy(ctx, api.Policy{Revision: ref.Revision, Digest: string(ref.Digest)})
	if v.Eligible {
		p.client.ReportDevice(ctx, policyDevice, r)
	}
}

// dueRestart reports whether had is to start anew now: one that does not hold the role at once; the holder when there is
// somebody to hand over to, unless all must. mu is held.
func (p *policies) dueRestart(now time.Duration) bool {
	r := p.restart
	if !r.wanted || r.from == p.runs && now-r.since < tellPatience {
		return false
	}
	if !r.apart && !r.soft && holds(p.ha.State) && now-r.since < rollPatience {
		ready := false
		ours := markOf(p.runs)
		for _, q := range p.ha.Peers {
			ready = ready || q.State == "STANDBY" && q.InSync && standing.Mark(q.Policy) == ours
		}
		if !ready || now-r.since < rollFirst {
			return false
		}
	}
	return true
}

// restartHA makes had take in what is in force, and reports whether it starts anew for that.
func (p *policies) restartHA(ctx context.Context) bool {
	p.mu.Lock()
	if p.restart.soft {
		p.restart = restart{}
		p.mu.Unlock()
		ctx, cancel := context.WithTimeout(ctx, adaptPatience)
		defer cancel()
		said, err := p.client.AdaptHA(ctx)
		if err != nil {
			said = err.Error()
			p.mu.Lock()
			p.restart = restart{wanted: true, since: uptime()} // one member after the other
			p.mu.Unlock()
		}
		p.d.Log.Printf("policy: other HA settings: %s", said)
		return false
	}
	apart, listen := p.restart.apart, p.unsure
	p.restart, p.unsure = restart{}, 0
	p.ordered = uptime()
	if apart {
		p.machine.Unsettle(p.ordered, listen)
	}
	p.mu.Unlock()
	p.d.Log.Print("policy: had starts anew with other HA settings")
	if _, err := p.client.ReloadHA(ctx); err != nil {
		p.d.Log.Printf("policy: %v; had reads them when it starts", err)
	}
	return true
}

// listenFor is for how long heartbeats of a timing must be listened for.
func listenFor(t node.Timing) time.Duration { return max(time.Second, 2*t.Dead, 4*t.Beat) }

// again asks for the recovery order: at once when the others run something else than the last time, else with growing
// pauses.
func (p *policies) again(w *watch, now time.Duration) {
	p.mu.Lock()
	world := ""
	for _, q := range p.ha.Peers {
		world += fmt.Sprintf("%d %v %s;", q.Member, holds(q.State), q.Policy.Digest)
	}
	busy := p.first || p.gone
	p.mu.Unlock()
	if world != w.world {
		w.world, w.attempts, w.recover = world, 0, 0
	}
	if busy || now < w.recover {
		return
	}
	w.attempts++
	w.recover = now + fetch.Backoff(w.attempts, rand.Float64())
	poke(p.wake)
}

// recovering goes through the recovery order at the start, and whenever it is woken, until ctx ends.
func (p *policies) recovering(ctx context.Context) {
	for {
		p.mu.Lock()
		due := p.first && !p.gone
		p.mu.Unlock()
		if due {
			if _, err := fetch.Keep(ctx, p.attempt, nil, p.wake, p.report); errors.Is(err, errGone) {
				p.d.Log.Printf("policy: %v", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
			p.mu.Lock()
			p.first = true
			p.mu.Unlock()
		}
	}
}

var errGone = errors.New(uninstalled)

// attempt goes through the recovery order once.
func (p *policies) attempt(ctx context.Context) (fetch.Outcome, error) {
	active, err := p.actives(ctx)
	if err != nil {
		return fetch.Outcome{}, err
	}
	p.mu.Lock()
	gone, resumed := p.gone, p.resumed
	// An install came first, or this member is the one that the others go by.
	settled := p.closed == "" && p.hold == "" && (p.verdict.Eligible || !p.deaf && holds(p.ha.State))
	if settled {
		p.first = false
	}
	p.mu.Unlock()
	switch {
	case gone:
		return fetch.Outcome{}, errGone
	case settled:
		return fetch.Outcome{Kind: fetch.Run, Ref: p.ref(), Reasons: []string{"it was installed"}}, nil
	}
	o, err := p.node.Recover(ctx, active, resumed || p.resumesItself())
	if err != nil {
		return o, err
	}
	p.mu.Lock()
	p.outcome, p.resumed, p.first = o.String(), false, false
	p.hold = ""
	if o.Kind == fetch.Hold {
		p.hold = o.String()
	}
	n := p.member
	if n == nil {
		n = p.local
	}
	open := p.closed == ""
	if o.Kind == fetch.Closed {
		p.closed = o.String()
	}
	p.mu.Unlock()
	if o.Kind == fetch.Closed && open {
		p.shut(n, o.String()) // what was taken is in force, and cannot be kept
	}
	poke(p.look)
	return o, nil
}

func (p *policies) report(o fetch.Outcome, retry time.Duration) {
	if retry > 0 {
		p.d.Log.Printf("policy: %s; again in %v", o, retry.Round(100*time.Millisecond))
		return
	}
	p.d.Log.Printf("policy: %s", o)
}

// actives waits, at the start, until had knows who is active.
func (p *policies) actives(ctx context.Context) (out []uint8, err error) {
	for end := time.Now().Add(startPatience); ; {
		p.mu.Lock()
		deaf, status := p.deaf, p.ha
		p.mu.Unlock()
		if !deaf || !p.starting() || time.Now().After(end) {
			if deaf {
				return nil, nil
			}
			for _, q := range status.Peers {
				if holds(q.State) {
					out = append(out, q.Member)
				}
			}
			return out, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *policies) starting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.outcome == ""
}

// resumesItself is the setting of the stored policy: what never reached the peer is given up without an operator.
func (p *policies) resumesItself() bool {
	st := p.node.Fetcher.Store.State()
	a, err := p.node.Fetcher.Store.Load(st.Current)
	if err != nil {
		return false
	}
	parsed, err := p.parsed.parse(a.Document)
	return err == nil && parsed.Cluster.Lock.Resume == policy.ResumeAutomatic
}

// follows reports whether this member is the one that asks the management server for news.
func (p *policies) follows() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.deaf && holds(p.ha.State) && p.closed == ""
}
