package install

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/twinkeep/twinkeep/firmware/peerapi"
	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/fetch"
)

// Paths of the peer API.
const (
	pathInstall = "/v1/policy/install/"
	pathFate    = pathInstall + "fate/"
)

// Times of the second phase.
const (
	switchLimit = 30 * time.Second // for one attempt
	switchTries = 3
	fateLimit   = 5 * time.Second
)

// order is a message about a transaction.
type order struct {
	ID     string   `json:"id"`
	Missed []string `json:"missed,omitempty"` // with finish
	// Policy, with finish, is what the others run now: news for a member that did not switch.
	Policy artifact.Ref `json:"policy,omitzero"`
	Why    string       `json:"why,omitempty"` // with rollback
}

func (o order) check() error {
	if id, err := hex.DecodeString(o.ID); err != nil || len(id) != 16 {
		return fmt.Errorf("transaction ID %.40q", o.ID)
	}
	if !o.Policy.IsZero() {
		if err := artifact.CheckDigest(o.Policy.Digest); err != nil {
			return err
		}
	}
	if len(o.Missed) > peerapi.MaxMember || len(o.Why) > artifact.MaxText || !printable(o.Why) {
		return errors.New("too long")
	}
	for _, m := range o.Missed {
		if len(m) > artifact.MaxText || !printable(m) {
			return errors.New("too long")
		}
	}
	return nil
}

// fateReply is the answer to pathFate.
type fateReply struct {
	Fate Fate `json:"fate"`
}

// Handle serves this member's part of installs, and its policies, to the peers.
func (n *Node) Handle(mux *http.ServeMux) {
	n.init()
	fetch.Handle(mux, n, n.Head)
	mux.HandleFunc("POST "+pathInstall+"prepare", func(w http.ResponseWriter, r *http.Request) {
		var tx Transaction
		err := peerapi.Decode(r.Body, &tx)
		if err == nil {
			err = tx.check()
		}
		if err == nil && tx.Coordinator != peerapi.Member(r) {
			err = fmt.Errorf("member %d asks for member %d", peerapi.Member(r), tx.Coordinator)
		}
		if err != nil {
			peerapi.Refuse(w, &peerapi.Error{Message: err.Error(), Status: http.StatusBadRequest})
			return
		}
		answer(w, n.prepare(r.Context(), tx))
	})
	for name, f := range map[string]func(context.Context, order) error{
		"switch":   func(ctx context.Context, o order) error { return n.switchTo(ctx, o.ID) },
		"abort":    func(ctx context.Context, o order) error { return n.abort(ctx, o.ID) },
		"confirm":  func(ctx context.Context, o order) error { return n.confirm(ctx, o.ID) },
		"rollback": func(ctx context.Context, o order) error { return n.rollBack(ctx, o.ID, o.Why) },
		"finish":   func(ctx context.Context, o order) error { return n.finish(ctx, o) },
	} {
		mux.HandleFunc("POST "+pathInstall+name, func(w http.ResponseWriter, r *http.Request) {
			var o order
			err := peerapi.Decode(r.Body, &o)
			if err == nil {
				err = o.check()
			}
			if err != nil {
				peerapi.Refuse(w, &peerapi.Error{Message: err.Error(), Status: http.StatusBadRequest})
				return
			}
			// Once begun it is carried through, whether the coordinator still listens or not.
			answer(w, f(context.WithoutCancel(r.Context()), o))
		})
	}
	mux.HandleFunc("GET "+pathFate+"{id}", func(w http.ResponseWriter, r *http.Request) {
		peerapi.Reply(w, fateReply{n.fate(r.PathValue("id"))})
	})
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		status := http.StatusConflict
		switch {
		case errors.Is(err, ErrBusy):
			status = http.StatusLocked
		case errors.Is(err, peerapi.ErrUnreachable):
			status = http.StatusBadGateway // it could not get the policy from the coordinator
		}
		peerapi.Refuse(w, &peerapi.Error{Message: err.Error(), Status: status})
		return
	}
	peerapi.Reply(w, struct{}{})
}

// stateOf is what an error makes of a member.
func stateOf(err error) State {
	var e *peerapi.Error
	switch {
	case errors.Is(err, ErrBusy), errors.As(err, &e) && e.Status == http.StatusLocked:
		return Busy
	case errors.Is(err, peerapi.ErrUnreachable), errors.As(err, &e) && e.Status == http.StatusBadGateway:
		return Unreachable
	}
	return Rejected
}

// Blob implements [fetch.Blobs]: what is stored, and what is being installed from here.
func (n *Node) Blob(d digest.Digest) ([]byte, error) {
	if a := n.stagedPolicy(); a != nil {
		b, err := a.SignatureBundle()
		if err != nil {
			return nil, err
		}
		for _, data := range append([][]byte{a.Manifest, a.Document}, b.Payloads...) {
			if digest.FromBytes(data) == d {
				return data, nil
			}
		}
	}
	return n.store().Blob(d)
}

// Signatures implements [fetch.Blobs].
func (n *Node) Signatures(policy digest.Digest) ([]byte, error) {
	if a := n.stagedPolicy(); a != nil && a.Digest() == policy {
		b, err := a.SignatureBundle()
		return b.Manifest, err
	}
	return n.store().Signatures(policy)
}

func (n *Node) stagedPolicy() *artifact.Artifact {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.staged
}

// fate is what this member answers about a transaction. One that it is at work on is undecided until the disk says more.
func (n *Node) fate(id string) Fate {
	f := n.Record().Fate(id)
	n.mu.Lock()
	defer n.mu.Unlock()
	if f == Unknown && n.driving == id {
		return Undecided
	}
	return f
}

// Request is what an operator asks for.
type Request struct {
	Policy   *artifact.Artifact
	Operator string
	Confirm  time.Duration // 0: for good
	// Partial: install on the members that can, when others do not answer or reject.
	Partial bool
	Again   bool // also a revision that was refused or rolled back before
}

// Install coordinates an install on the whole cluster. The error is about the request or the coordinator; what became of
// each member is in the report. It ends when ctx does, and then the install may still go through: ask for the record.
func (n *Node) Install(ctx context.Context, req Request) (Report, error) {
	n.init()
	id := make([]byte, 16)
	rand.Read(id)
	tx := Transaction{
		ID: hex.EncodeToString(id), Policy: req.Policy.Ref(), Coordinator: n.Self, Members: n.taking(req.Policy.Document),
		Operator: req.Operator, Confirm: req.Confirm, Again: req.Again,
	}
	if err := tx.check(); err != nil {
		return Report{}, err
	}
	if err := n.Fetcher.Accept(req.Policy); err != nil {
		return Report{}, err
	}
	n.mu.Lock()
	if n.driving != "" {
		n.mu.Unlock()
		return Report{}, fmt.Errorf("another install through member %d is under way: wait for its end", n.Self)
	}
	n.driving, n.staged = tx.ID, req.Policy
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.driving, n.staged = "", nil
		n.mu.Unlock()
	}()
	return n.drive(ctx, tx, req.Partial), nil
}

// drive carries out the coordinator's commands, each in a goroutine of its own.
func (n *Node) drive(ctx context.Context, tx Transaction, partial bool) Report {
	prepareCtx, cancel := context.WithTimeout(ctx, PrepareLimit)
	defer cancel()
	c, commands := NewCoordinator(tx, partial)
	type result struct {
		Command
		err error
	}
	results := make(chan result)
	running := 0
	start := func(commands []Command) {
		running += len(commands)
		for _, cmd := range commands {
			go func() {
				ctx := prepareCtx
				if cmd.Step != DoPrepare {
					ctx = context.WithoutCancel(ctx) // decided or given up: it is carried through
				}
				results <- result{cmd, n.step(ctx, cmd, tx)}
			}()
		}
	}
	for start(commands); running > 0; running-- {
		r := <-results
		switch r.Step {
		case DoPrepare:
			start(c.Prepared(r.Member, r.err, stateOf(r.err)))
		case DoDecide:
			start(c.Decided(r.err))
		case DoSwitch:
			c.Switched(r.Member, r.err, stateOf(r.err))
		}
	}
	report := c.Report()
	if report.Installed {
		n.mu.Lock()
		n.refused, n.refusers = tx.Policy.Digest, report.rejecting()
		n.mu.Unlock()
		n.each(context.WithoutCancel(ctx), tx.Members, "finish", order{ID: tx.ID, Missed: report.Missed(), Policy: tx.Policy})
	}
	n.event("%s", report)
	return report
}

// step carries out one command.
func (n *Node) step(ctx context.Context, cmd Command, tx Transaction) error {
	switch cmd.Step {
	case DoPrepare:
		if cmd.Member == n.Self {
			return n.prepare(ctx, tx)
		}
		return n.post(ctx, cmd.Member, "prepare", tx)
	case DoDecide:
		return n.decide(ctx, tx.ID)
	case DoAbort:
		return n.order(ctx, cmd.Member, "abort", order{ID: tx.ID})
	}
	var err error
	for range switchTries {
		limit, cancel := context.WithTimeout(ctx, switchLimit)
		err = n.order(limit, cmd.Member, "switch", order{ID: tx.ID})
		cancel()
		if !errors.Is(err, peerapi.ErrUnreachable) {
			break
		}
	}
	return err
}

// order gives an order to a member, this one too.
func (n *Node) order(ctx context.Context, member uint8, name string, o order) error {
	if member != n.Self {
		return n.post(ctx, member, name, o)
	}
	switch name {
	case "switch":
		return n.switchTo(ctx, o.ID)
	case "abort":
		return n.abort(ctx, o.ID)
	case "confirm":
		return n.confirm(ctx, o.ID)
	case "rollback":
		return n.rollBack(ctx, o.ID, o.Why)
	}
	return n.finish(ctx, o)
}

func (n *Node) post(ctx context.Context, member uint8, name string, in any) error {
	p, err := n.Fetcher.Peer(member)
	if err != nil {
		return fmt.Errorf("%w: %w", peerapi.ErrUnreachable, err)
	}
	return p.Call(ctx, http.MethodPost, pathInstall+name, in, nil)
}

// each gives an order to several members at once.
func (n *Node) each(ctx context.Context, members []uint8, name string, o order) map[uint8]error {
	ctx, cancel := context.WithTimeout(ctx, switchLimit)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	errs := map[uint8]error{}
	for _, m := range members {
		wg.Go(func() {
			if err := n.order(ctx, m, name, o); err != nil {
				mu.Lock()
				errs[m] = err
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errs
}

// End confirms the policy that awaits it on this member, or takes it back, on every member. Members that do not hear of
// it are named in the error, with what they will do.
func (n *Node) End(ctx context.Context, confirm bool, operator string) error {
	n.init()
	p := n.Record().Pending
	if p == nil {
		return errors.New("no policy awaits a confirmation here")
	}
	name, o := "confirm", order{ID: p.ID}
	if !confirm {
		name, o.Why = "rollback", "taken back by "+operator
	}
	members := n.all()
	errs := n.each(ctx, members, name, o)
	var failed []error
	for _, m := range members {
		if err := errs[m]; err != nil {
			failed = append(failed, fmt.Errorf("member %d: %w", m, err))
		}
	}
	if len(failed) == 0 {
		return nil
	}
	will := "asks this member when its time is over, and keeps the policy if it gets an answer"
	if !confirm {
		will = "goes back by itself when its time is over"
	}
	return fmt.Errorf("not everywhere: %w: a member that did not hear of it %s", errors.Join(failed...), will)
}

// fates asks the other members of a transaction what became of it there.
func (n *Node) fates(ctx context.Context, tx Transaction) map[uint8]Fate {
	ctx, cancel := context.WithTimeout(ctx, fateLimit)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	fates := map[uint8]Fate{}
	for _, m := range tx.Members {
		if m == n.Self {
			continue
		}
		wg.Go(func() {
			p, err := n.Fetcher.Peer(m)
			if err != nil {
				return
			}
			var reply fateReply
			if p.Call(ctx, http.MethodGet, pathFate+tx.ID, nil, &reply) == nil {
				mu.Lock()
				fates[m] = reply.Fate
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return fates
}
