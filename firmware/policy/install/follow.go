package install

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/twinkeep/twinkeep/firmware/policy/fetch"
	"github.com/twinkeep/twinkeep/firmware/policy/registry"
)

// Poll asks the management server once, and installs what is newer on the whole cluster. tried are digests that a member
// rejected: they are not tried again. done is whether something newer was there and was judged: with an error, this member
// does not accept it.
func (n *Node) Poll(ctx context.Context, tried []digest.Digest, partial bool) (r Report, done bool, err error) {
	head, err := n.Fetcher.Server.Head(ctx)
	if errors.Is(err, registry.ErrNone) {
		return r, false, nil
	}
	if err != nil {
		return r, false, err
	}
	st := n.store().State()
	e := st.Entry(head.Digest)
	if head.Revision <= max(st.Floor, st.Ref().Revision) || slices.Contains(tried, head.Digest) || e != nil && e.Refused != "" {
		return r, false, nil
	}
	r.Transaction.Policy = head
	a, err := n.Fetcher.Transfer.Get(ctx, n.Fetcher.Server, head.Digest)
	if err != nil {
		return r, false, err
	}
	if err := n.Fetcher.Accept(a); err != nil {
		return r, true, err
	}
	r, err = n.Install(ctx, Request{Policy: a, Operator: "the management server", Partial: partial})
	return r, err == nil, err
}

// Follow polls the management server every interval, give or take a tenth, while active says that this member is the one
// to do it, until ctx ends. What a member rejects is left alone until something newer comes; what a member could not be
// reached for is tried again. partial installs without members that do not answer or reject.
func (n *Node) Follow(ctx context.Context, interval time.Duration, active func() bool, partial bool) {
	var tried []digest.Digest
	failed := false
	for wait := rand.N(interval + 1); ; wait = interval*9/10 + rand.N(interval/5+1) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if !active() {
			continue
		}
		r, done, err := n.Poll(ctx, tried, partial)
		switch {
		case err != nil && ctx.Err() == nil:
			if !failed || done {
				n.event("%v", err)
			}
			if done { // it came, and this member does not accept it
				tried = append(tried, r.Transaction.Policy.Digest)
			}
		case done && slices.ContainsFunc(r.Members, func(m Result) bool { return m.State == Rejected }) && !r.Installed:
			tried = append(tried, r.Transaction.Policy.Digest)
		}
		failed = err != nil
		tried = tried[max(0, len(tried)-keepDecisions):]
	}
}

// Unsynced are the commits that never reached the peer, and those that were given up for the peer's policy.
func (n *Node) Unsynced() []UnsyncedPolicy {
	st := n.store().State()
	commits := fetch.Commits(st)
	var out []UnsyncedPolicy
	for _, e := range st.Entries {
		if e.Abandoned || slices.Contains(commits, e.Ref) {
			out = append(out, UnsyncedPolicy{Ref: e.Ref, Missed: e.Missed, InForce: e.Digest == st.Current, Abandoned: e.Abandoned})
		}
	}
	return out
}
