package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/fetch"
	"github.com/twinkeep/twinkeep/firmware/policy/store"
)

// Node is one member's part in installs, and in recovery. Its methods may be called from any goroutine; what changes the
// policy happens one after the other.
type Node struct {
	// Fetcher has the store, the gatekeeper and Apply. Apply with a nil document closes the member: it runs no policy.
	Fetcher *fetch.Fetcher
	Self    uint8
	Members []uint8 // of the cluster, ascending, this one too; SetMembers changes them
	// MembersOf gives the members that a document has; may be nil. Who is in the cluster and not in the document takes no
	// part in its install.
	MembersOf func(document []byte) []uint8
	// Describe adds to a status what only the caller knows; may be nil.
	Describe func(*Status)
	// Rehearse tries a document as far as that is possible without a change; may be nil.
	Rehearse func(ctx context.Context, document []byte) error
	Now      func() Instant       // Clock, but in tests
	Event    func(message string) // for the log; may be nil

	once sync.Once
	slot chan struct{} // held by whoever changes the policy

	mu      sync.Mutex
	members []uint8 // those of SetMembers; nil: Members
	// refusers were asked by the last install through this member, of the policy refused, and do not run it.
	refused  digest.Digest
	refusers []uint8
	holder   string             // what the slot is held for
	driving  string             // the transaction that this member coordinates just now
	staged   *artifact.Artifact // its policy
}

func (n *Node) init() {
	n.once.Do(func() {
		n.slot = make(chan struct{}, 1)
		n.Fetcher.Adopted = n.adopted
	})
}

func (n *Node) event(format string, args ...any) {
	if n.Event != nil {
		n.Event(fmt.Sprintf(format, args...))
	}
}

// acquire takes the slot. Without wait it gives an error at once when somebody has it.
func (n *Node) acquire(ctx context.Context, wait bool, what string) (release func(), err error) {
	n.init()
	select {
	case n.slot <- struct{}{}:
	default:
		n.mu.Lock()
		holder := n.holder
		n.mu.Unlock()
		if !wait {
			return nil, fmt.Errorf("member %d is %w: %s", n.Self, ErrBusy, holder)
		}
		select {
		case n.slot <- struct{}{}:
		case <-ctx.Done():
			return nil, fmt.Errorf("member %d is %w: %s: %w", n.Self, ErrBusy, holder, ctx.Err())
		}
	}
	n.mu.Lock()
	n.holder = what
	n.mu.Unlock()
	return func() { <-n.slot }, nil
}

func (n *Node) store() *store.Store { return n.Fetcher.Store }

// recordOf reads what the store has about installs. What cannot be read counts as nothing: prepared policies are not in
// force, and an unconfirmed one stays.
func recordOf(st *store.State) Record {
	var r Record
	if len(st.Install) > 0 && json.Unmarshal(st.Install, &r) != nil {
		return Record{}
	}
	return r
}

func setRecord(st *store.State, r Record) error {
	data, err := json.Marshal(r)
	st.Install = data
	return err
}

// Record is what this member has stored about installs.
func (n *Node) Record() Record {
	st := n.store().State()
	return recordOf(&st)
}

// Miss keeps what the cluster runs without this member, or with a zero one that it misses nothing any more.
func (n *Node) Miss(missed Missed) error {
	if n.Record().Missed == missed {
		return nil
	}
	return n.store().Update(nil, func(st *store.State) error {
		r := recordOf(st)
		r.Missed = missed
		return setRecord(st, r)
	})
}

// Head is what this member tells its peers.
func (n *Node) Head() fetch.Head {
	st := n.store().State()
	h := fetch.HeadOf(st)
	if p := recordOf(&st).Pending; p != nil && p.Policy.Digest == st.Current {
		h.Confirm = &fetch.Confirm{Transaction: p.ID, Previous: p.Previous, Remaining: p.Until.left(n.Now())}
	}
	return h
}

// adopted notes what the recovery order brought.
func (n *Node) adopted(st *store.State, head fetch.Head) error {
	r := recordOf(st)
	if r.Prepared != nil {
		r = r.Fail(r.Prepared.ID)
	}
	r.Pending, r.Left = nil, artifact.Ref{}
	if c := head.Confirm; c != nil {
		r.Pending = &Pending{
			Transaction: Transaction{ID: c.Transaction, Policy: head.Ref, Members: n.all(), Operator: "an operator"},
			Previous:    c.Previous, Until: n.Now().after(c.Remaining),
		}
	}
	return setRecord(st, r)
}

// Recover goes through the recovery order once; see [fetch.Fetcher.Recover].
func (n *Node) Recover(ctx context.Context, active []uint8, resumed bool) (fetch.Outcome, error) {
	release, err := n.acquire(ctx, true, "its own recovery is under way")
	if err != nil {
		return fetch.Outcome{}, err
	}
	defer release()
	return n.Fetcher.Recover(ctx, active, resumed)
}

// slotPatience is how long an install waits for something else to end, such as a recovery.
const slotPatience = 10 * time.Second

// prepare is the first phase on this member.
func (n *Node) prepare(ctx context.Context, tx Transaction) error {
	patient, cancel := context.WithTimeout(ctx, slotPatience)
	defer cancel()
	release, err := n.acquire(patient, true, tx.String()+" is under way")
	if err != nil {
		return err
	}
	defer release()
	st := n.store().State()
	if _, err := recordOf(&st).Prepare(tx, facts(&st, tx), n.Now()); err != nil {
		return err // before anything is transferred
	}
	a, err := n.candidate(ctx, tx)
	if err != nil {
		return err
	}
	if err := n.Fetcher.Accept(a); err != nil {
		return err
	}
	if n.Rehearse != nil {
		if err := n.Rehearse(ctx, a.Document); err != nil {
			return fmt.Errorf("%s does not apply: %w", a.Ref(), err)
		}
	}
	return n.store().Update([]*artifact.Artifact{a}, func(st *store.State) error {
		r, err := recordOf(st).Prepare(tx, facts(st, tx), n.Now())
		if err != nil {
			return err
		}
		st.Candidate = tx.Policy.Digest
		return setRecord(st, r)
	})
}

func facts(st *store.State, tx Transaction) Facts {
	f := Facts{Current: st.Ref(), Floor: st.Floor}
	if e := st.Entry(tx.Policy.Digest); e != nil {
		f.Refused = e.Refused
	}
	return f
}

// candidate gets the policy of a transaction from this member, or from the coordinator.
func (n *Node) candidate(ctx context.Context, tx Transaction) (*artifact.Artifact, error) {
	a := n.stagedPolicy()
	if a == nil || a.Digest() != tx.Policy.Digest {
		var err error
		if a, err = n.store().Load(tx.Policy.Digest); err != nil {
			p, err := n.Fetcher.Peer(tx.Coordinator)
			if err != nil {
				return nil, err
			}
			if a, err = n.Fetcher.Transfer.Get(ctx, p, tx.Policy.Digest); err != nil {
				return nil, fmt.Errorf("get %s from member %d: %w", tx.Policy, tx.Coordinator, err)
			}
		}
	}
	if a.Ref() != tx.Policy {
		return nil, fmt.Errorf("the policy is %s, the transaction is about %s", a.Ref(), tx.Policy)
	}
	return a, nil
}

// decide is the coordinator's decision, on its disk.
func (n *Node) decide(ctx context.Context, id string) error {
	release, err := n.acquire(ctx, true, "a decision is being written")
	if err != nil {
		return err
	}
	defer release()
	return n.change(func(r Record) (Record, error) { return r.Decide(id) })
}

func (n *Node) change(f func(Record) (Record, error)) error {
	return n.store().Update(nil, func(st *store.State) error {
		r, err := f(recordOf(st))
		if err != nil {
			return err
		}
		return setRecord(st, r)
	})
}

// switchTo is the second phase on this member.
func (n *Node) switchTo(ctx context.Context, id string) error {
	release, err := n.acquire(ctx, true, "it switches to another policy")
	if err != nil {
		return err
	}
	defer release()
	ctx = context.WithoutCancel(ctx) // once begun it is carried through: half of it would leave the kernel with one policy and the disk with another
	st := n.store().State()
	r, before := recordOf(&st), st.Ref()
	next, err := r.Switch(id, before, n.Now())
	if err != nil || r.Prepared == nil || r.Prepared.ID != id {
		return err
	}
	tx := r.Prepared.Transaction
	if err := n.enforce(ctx, tx.Policy); err != nil {
		n.event("%s: %v; the old policy stays in force", tx, err)
		return errors.Join(err, n.store().Update(nil, func(st *store.State) error {
			st.Candidate = ""
			if e := st.Entry(tx.Policy.Digest); e != nil && st.Current != tx.Policy.Digest {
				e.Refused = err.Error()
			}
			return setRecord(st, recordOf(st).Fail(id))
		}))
	}
	err = n.store().Update(nil, func(st *store.State) error {
		st.Current, st.Candidate = tx.Policy.Digest, ""
		st.Entry(tx.Policy.Digest).Refused = ""
		if next.Pending == nil {
			st.Floor = max(st.Floor, tx.Policy.Revision)
		}
		return setRecord(st, next)
	})
	if err != nil {
		return errors.Join(err, n.enforce(ctx, before))
	}
	n.event("%s: %s is in force", tx, tx.Policy)
	return nil
}

// enforce applies a stored policy, or none.
func (n *Node) enforce(ctx context.Context, ref artifact.Ref) error {
	if ref.IsZero() {
		return n.Fetcher.Apply(ctx, nil)
	}
	a, err := n.store().Load(ref.Digest)
	if err != nil {
		return err
	}
	if err := n.Fetcher.Apply(ctx, a.Document); err != nil {
		return fmt.Errorf("%s does not apply: %w", ref, err)
	}
	return nil
}

// abort drops the candidate. why is empty when it was refused by others.
func (n *Node) abort(ctx context.Context, id string) error {
	release, err := n.acquire(ctx, true, "an install is being given up")
	if err != nil {
		return err
	}
	defer release()
	return n.store().Update(nil, func(st *store.State) error {
		r := recordOf(st)
		next := r.Abort(id)
		if r.Prepared != nil && next.Prepared == nil && st.Candidate == r.Prepared.Policy.Digest {
			drop(st, st.Candidate)
		}
		return setRecord(st, next)
	})
}

// drop forgets a candidate, and its entry when it was never in force.
func drop(st *store.State, d digest.Digest) {
	st.Candidate = ""
	e := st.Entry(d)
	if e == nil || d == st.Current || e.Refused != "" || e.Pinned || e.Synced || e.Revision <= st.Floor {
		return
	}
	var left []store.Entry
	for _, e := range st.Entries {
		if e.Digest != d {
			left = append(left, e)
		}
	}
	st.Entries = left
}

// confirm keeps the policy in force.
func (n *Node) confirm(ctx context.Context, id string) error {
	release, err := n.acquire(ctx, true, "a confirmation is being written")
	if err != nil {
		return err
	}
	defer release()
	err = n.store().Update(nil, func(st *store.State) error {
		r, err := recordOf(st).Confirm(id)
		if err != nil {
			return err
		}
		st.Floor = max(st.Floor, st.Ref().Revision)
		return setRecord(st, r)
	})
	if err == nil {
		n.event("the policy in force is confirmed")
	}
	return err
}

// rollBack goes back to the policy before. why is told to whoever asks for the refused one again.
func (n *Node) rollBack(ctx context.Context, id, why string) error {
	release, err := n.acquire(ctx, true, "it goes back to the policy before")
	if err != nil {
		return err
	}
	defer release()
	ctx = context.WithoutCancel(ctx) // once begun it is carried through: half of it would leave the kernel with one policy and the disk with another
	st := n.store().State()
	r := recordOf(&st)
	next, err := r.RollBack(id)
	if err != nil || r.Pending == nil {
		return err
	}
	p := r.Pending
	previous := p.Previous
	if !previous.IsZero() && st.Entry(previous.Digest) == nil {
		previous = artifact.Ref{} // it joined after the install: the recovery order brings that one
	}
	if err := n.enforce(ctx, previous); err != nil {
		return err
	}
	err = n.store().Update(nil, func(st *store.State) error {
		st.Current = previous.Digest
		if e := st.Entry(p.Policy.Digest); e != nil {
			e.Refused = why
		}
		return setRecord(st, next)
	})
	if err == nil {
		n.event("%s: %s; %s is in force again", p.Transaction, why, previous)
	}
	return err
}

// finish notes who has the policy; on a member that did not switch, what the others run without it.
func (n *Node) finish(ctx context.Context, o order) error {
	release, err := n.acquire(ctx, true, "the end of an install is being written")
	if err != nil {
		return err
	}
	defer release()
	return n.store().Update(nil, func(st *store.State) error {
		r := recordOf(st)
		if f := r.Fate(o.ID); f != Committed && f != Confirmed {
			if (f == Unknown || f == Aborted) && o.Policy.Revision > st.Ref().Revision {
				r.Left = o.Policy
				return setRecord(st, r)
			}
			return fmt.Errorf("transaction %s is %s here", o.ID, f)
		}
		if e := st.Entry(st.Current); e != nil {
			e.Synced, e.Missed = len(o.Missed) == 0, o.Missed
		}
		return nil
	})
}

// tickEvery is how often Run looks at the clock, askEvery how often a prepared member asks the others.
const (
	tickEvery = 250 * time.Millisecond
	askEvery  = 5 * time.Second
)

// Run settles what a crash left, and what time ends, until ctx does. Call it after the peer API is served.
func (n *Node) Run(ctx context.Context) {
	n.init()
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	last := time.Time{}
	for {
		ask := time.Since(last) >= askEvery
		if ask {
			last = time.Now()
		}
		if err := n.Settle(ctx, ask); err != nil && ctx.Err() == nil && ask {
			n.event("an install is not settled yet: %v", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Settle does what is due; ask is whether others may be asked about a transaction before its lease is over.
func (n *Node) Settle(ctx context.Context, ask bool) error {
	n.init()
	r, now := n.Record(), n.Now()
	switch r.Due(now, ask && !n.coordinating()) {
	case Finish:
		return n.switchTo(ctx, r.Prepared.ID)
	case AskPrepared:
		switch r.Resolve(n.fates(ctx, r.Prepared.Transaction), n.Self, n.Now()) {
		case Committed:
			return n.switchTo(ctx, r.Prepared.ID)
		case Aborted:
			n.event("%s came to nothing; the old policy stays in force", r.Prepared.Transaction)
			return n.abort(ctx, r.Prepared.ID)
		}
	case AskConfirmed:
		for _, f := range n.fates(ctx, r.Pending.Transaction) {
			if f == Confirmed {
				return n.confirm(ctx, r.Pending.ID)
			}
		}
		return n.rollBack(ctx, r.Pending.ID, fmt.Sprintf("not confirmed within %v", r.Pending.Confirm))
	case RollBackNow:
		return n.rollBack(ctx, r.Pending.ID, "the member was restarted before the confirmation")
	}
	return nil
}

// coordinating reports whether an install of this member is at work.
func (n *Node) coordinating() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.driving != ""
}
