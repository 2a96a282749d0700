package fetch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/registry"
	"github.com/twinkeep/twinkeep/firmware/policy/sign"
	"github.com/twinkeep/twinkeep/firmware/policy/store"
)

// Gatekeeper decides what may come into force here.
type Gatekeeper struct {
	Name string       // of this cluster's policy
	Keys sign.Keyring // pinned
	// Check says what is wrong with a document; it changes nothing.
	Check func(document []byte) error
}

// Accept verifies a policy from anywhere: name, signature, document.
func (g Gatekeeper) Accept(a *artifact.Artifact) error {
	if _, err := g.Keys.Verify(a); err != nil {
		return err
	}
	if a.Meta.Name != g.Name {
		return fmt.Errorf("%s is for %q, this cluster takes %q", a.Ref(), a.Meta.Name, g.Name)
	}
	if err := g.Check(a.Document); err != nil {
		return fmt.Errorf("%s: %w", a.Ref(), err)
	}
	return nil
}

// Fetcher carries the machine's actions out.
type Fetcher struct {
	Gatekeeper
	Store *store.Store
	// Apply brings a document into force; when it gives an error, what was in force before is.
	Apply func(ctx context.Context, document []byte) error
	// Peer finds a member; an error says that there is no way to it.
	Peer func(member uint8) (Peer, error)
	// Server is nil without a management server.
	Server   *registry.Registry
	Transfer Transfer
	// Patience is how long one source may take to answer what it has; 0 means 10 s.
	Patience time.Duration
	// Adopted is called in the update that makes a policy from elsewhere current; may be nil. When head.Confirm is set,
	// the policy goes back unless it is confirmed.
	Adopted func(st *store.State, head Head) error
}

// takeLimit is how long a transfer may take as a whole, however it goes on.
const takeLimit = 10 * time.Minute

// Outcome is what a recovery came to.
type Outcome struct {
	Kind     Kind         // Run, Taken, Hold or Closed
	Ref      artifact.Ref // in force; with Hold, what the active member runs
	From     Source       // with Taken and Hold
	Unsynced []artifact.Ref
	Reasons  []string
}

// String is one line for the console.
func (o Outcome) String() string {
	why := strings.Join(o.Reasons, "; ")
	switch o.Kind {
	case Run:
		return fmt.Sprintf("runs its own %s: %s", o.Ref, why)
	case Taken:
		return fmt.Sprintf("took %s from %s: %s", o.Ref, o.From, why)
	case Hold:
		return fmt.Sprintf("waits for the operator: %s; see policy unsynced, then cluster resume-sync to give them up, or policy install to keep them", why)
	}
	return "closed, without a policy: " + why
}

// Recover goes through the recovery order once. active are the members that heartbeats show active; resumed is the
// operator's word that unsynced commits may be overwritten. The error is that of ctx.
func (f *Fetcher) Recover(ctx context.Context, active []uint8, resumed bool) (Outcome, error) {
	local, notes := f.local(resumed)
	var m Machine
	var got *artifact.Artifact
	var head Head
	for act := m.Start(local, active, f.Server != nil); ; {
		if ctx.Err() != nil {
			return Outcome{}, ctx.Err()
		}
		switch act.Kind {
		case Ask:
			var err error
			head, err = f.ask(ctx, act.From)
			act = m.Answered(head, err)
		case Take:
			var err error
			got, err = f.take(ctx, act, head, resumed)
			act = m.Done(err)
		case Run:
			if err := f.run(ctx, act.Ref); err != nil {
				notes = append(notes, err.Error())
				act = Action{Kind: Closed, Reasons: append(act.Reasons, "the local policy does not apply")}
				continue
			}
			return outcome(act, notes), nil
		case Taken:
			act.Ref = got.Ref()
			return outcome(act, notes), nil
		case Hold:
			if err := f.pin(act.Unsynced); err != nil {
				notes = append(notes, err.Error())
			}
			return outcome(act, notes), nil
		default:
			return outcome(act, notes), nil
		}
	}
}

func outcome(a Action, notes []string) Outcome {
	return Outcome{Kind: a.Kind, Ref: a.Ref, From: a.From, Unsynced: a.Unsynced, Reasons: append(notes, a.Reasons...)}
}

// local is what the store has; what is not signed by a pinned key any more does not count.
func (f *Fetcher) local(resumed bool) (Local, []string) {
	st := f.Store.State()
	notes := append([]string(nil), f.Store.Damage()...)
	l := Local{Ref: st.Ref(), Floor: st.Floor, Resumed: resumed, Unsynced: Commits(st)}
	for _, e := range st.Entries {
		if e.Refused != "" {
			l.Refused = append(l.Refused, e.Digest)
		}
	}
	if l.IsZero() {
		return l, notes
	}
	a, err := f.Store.Load(st.Current)
	if err == nil {
		err = f.Accept(a)
	}
	if err != nil {
		notes = append(notes, "the local policy is not usable: "+err.Error())
		l.Ref = artifact.Ref{}
	}
	return l, notes
}

// Commits are the policies that came into force here and did not reach every member, as far as is known, but for those
// that were given up.
func Commits(st store.State) []artifact.Ref {
	var out []artifact.Ref
	for _, e := range st.Entries {
		if !e.Synced && !e.Abandoned && e.Refused == "" && (e.Digest == st.Current || e.Pinned || e.Revision <= st.Floor) {
			out = append(out, e.Ref)
		}
	}
	return out
}

func (f *Fetcher) ask(ctx context.Context, from Source) (h Head, err error) {
	patience := f.Patience
	if patience == 0 {
		patience = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if from == Server {
		h.Ref, err = f.Server.Head(ctx)
		if errors.Is(err, registry.ErrNone) {
			return Head{}, nil
		}
		return h, err
	}
	p, err := f.Peer(uint8(from))
	if err != nil {
		return h, err
	}
	h, err = p.Head(ctx)
	if err == nil {
		err = f.markSynced(h)
	}
	return h, err
}

// markSynced notes what the peer has too.
func (f *Fetcher) markSynced(h Head) error {
	st := f.Store.State()
	news := false
	for _, ref := range h.Known {
		e := st.Entry(ref.Digest)
		news = news || e != nil && !e.Synced
	}
	if !news {
		return nil
	}
	return f.Store.Update(nil, func(st *store.State) error {
		for _, ref := range h.Known {
			if e := st.Entry(ref.Digest); e != nil {
				e.Synced, e.Pinned, e.Abandoned, e.Missed = true, false, false, nil
			}
		}
		return nil
	})
}

// pin keeps what the operator has to decide about.
func (f *Fetcher) pin(refs []artifact.Ref) error {
	return f.Store.Update(nil, func(st *store.State) error {
		for _, ref := range refs {
			if e := st.Entry(ref.Digest); e != nil {
				e.Pinned = true
			}
		}
		return nil
	})
}

func (f *Fetcher) take(ctx context.Context, act Action, head Head, resumed bool) (*artifact.Artifact, error) {
	ctx, cancel := context.WithTimeout(ctx, takeLimit)
	defer cancel()
	var from Remote = f.Server
	if act.From != Server {
		p, err := f.Peer(uint8(act.From))
		if err != nil {
			return nil, err
		}
		from = p
	}
	a, err := f.Transfer.Get(ctx, from, act.Ref.Digest)
	if err != nil {
		return nil, err
	}
	if a.Ref() != act.Ref {
		return nil, fmt.Errorf("it promised %s and sent %s", act.Ref, a.Ref())
	}
	if err := f.Accept(a); err != nil {
		return nil, err
	}
	// On the disk first: what does not fit there does not come into force.
	if err := f.Store.Update([]*artifact.Artifact{a}, func(st *store.State) error { st.Candidate = a.Digest(); return nil }); err != nil {
		return nil, err
	}
	if err := f.Apply(ctx, a.Document); err != nil {
		err = fmt.Errorf("%s does not apply: %w", a.Ref(), err)
		return nil, errors.Join(err, f.Store.Update(nil, func(st *store.State) error {
			st.Candidate, st.Entry(a.Digest()).Refused = "", err.Error()
			return nil
		}))
	}
	return a, f.Store.Update(nil, func(st *store.State) error { return f.adopt(st, a, head, resumed) })
}

// adopt makes what came from another one the current policy.
func (f *Fetcher) adopt(st *store.State, a *artifact.Artifact, head Head, resumed bool) error {
	for i := range st.Entries {
		if e := &st.Entries[i]; !e.Synced && e.Refused == "" && e.Revision <= max(st.Floor, st.Ref().Revision) && e.Digest != a.Digest() {
			e.Pinned, e.Abandoned = true, true
		}
	}
	e := st.Entry(a.Digest())
	e.Synced, e.Pinned, e.Abandoned, e.Missed, e.Refused = true, false, false, nil, ""
	st.Current, st.Candidate = a.Digest(), ""
	switch {
	case resumed:
		st.Floor = a.Meta.Revision // the operator's word: the cluster's count goes on from here
	case head.Confirm == nil:
		st.Floor = max(st.Floor, a.Meta.Revision)
	}
	if f.Adopted != nil {
		return f.Adopted(st, head)
	}
	return nil
}

func (f *Fetcher) run(ctx context.Context, ref artifact.Ref) error {
	a, err := f.Store.Load(ref.Digest)
	if err != nil {
		return err
	}
	if err := f.Apply(ctx, a.Document); err != nil {
		return fmt.Errorf("%s does not apply: %w", ref, err)
	}
	return nil
}

// Keep calls try, a recovery, again and again until the member has a policy or waits for its operator, and hands every outcome to report,
// with the time to the next attempt when it is still closed. retry is Backoff when nil; wake, which may be nil, ends a wait
// early. The error is that of try.
func Keep(ctx context.Context, try func(context.Context) (Outcome, error), retry func(attempt int) time.Duration, wake <-chan struct{},
	report func(o Outcome, retry time.Duration)) (Outcome, error) {
	if retry == nil {
		retry = func(attempt int) time.Duration { return Backoff(attempt, rand.Float64()) }
	}
	for attempt := 1; ; attempt++ {
		o, err := try(ctx)
		if err != nil {
			return o, err
		}
		if o.Kind != Closed {
			report(o, 0)
			return o, nil
		}
		wait := retry(attempt)
		report(o, wait)
		select {
		case <-ctx.Done():
			return o, ctx.Err()
		case <-wake:
			attempt = 0 // something has changed
		case <-time.After(wait):
		}
	}
}
