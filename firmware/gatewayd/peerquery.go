package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/peerapi"
	"github.com/twinkeep/twinkeep/ha/member"
)

// Questions that members answer each other about their boxes. They change nothing, and each answer is bounded: by
// peerapi.MaxMessage, and in time by questionTime and what the question asks to watch for.
const (
	questionTime = 3 * time.Second // at one address
	peerTime     = 7 * time.Second // at all of them
	// maxQuestions is how many of a member's peers' questions are answered at once.
	maxQuestions = 16
)

// question is one of them. answer runs at the member that is asked; made gives what its answer is read into.
type question struct {
	name   string
	answer func(d *daemon, r *http.Request) (any, error)
	made   func() any
}

func asked[T any](name string, answer func(d *daemon, r *http.Request) (T, error)) question {
	return question{name, func(d *daemon, r *http.Request) (any, error) { return answer(d, r) }, func() any { return new(T) }}
}

// questionList is all that a member tells its peers. It has no secret: heartbeats, policies and connections say more.
func questionList() []question {
	return []question{
		asked("hardware", func(d *daemon, _ *http.Request) (api.Hardware, error) { return hardware(d.inForce()), nil }),
		asked("status", func(d *daemon, r *http.Request) (member.Status, error) { return d.monitors.client.HA(r.Context()) }),
		asked("routes", func(d *daemon, r *http.Request) (api.RouteTable, error) { return d.routeTable(r.Context()) }),
		asked("traffic", func(d *daemon, r *http.Request) (api.Traffic, error) {
			over, err := overOf(r)
			if err != nil {
				return api.Traffic{}, err
			}
			return d.volume(over)
		}),
		asked("evidence", func(d *daemon, r *http.Request) (api.MemberEvidence, error) {
			watch, err := watchOf(r, spell+minWatch)
			if err != nil {
				return api.MemberEvidence{}, err
			}
			return d.evidence(r.Context(), watch), nil
		}),
	}
}

// questions answers them to peers.
func (d *daemon) questions() http.Handler {
	slots := make(chan struct{}, maxQuestions)
	mux := http.NewServeMux()
	for _, q := range questionList() {
		mux.HandleFunc("GET "+peerQuery+q.name, func(w http.ResponseWriter, r *http.Request) {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			default:
				peerapi.Refuse(w, &peerapi.Error{Status: http.StatusTooManyRequests, Message: "this member answers enough questions"})
				return
			}
			v, err := q.answer(d, r)
			if err != nil {
				peerapi.Refuse(w, asPeerError(err))
				return
			}
			peerapi.Reply(w, v)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		peerapi.Refuse(w, &peerapi.Error{Status: http.StatusNotFound, Message: r.URL.Path + " is not known here", Hint: "do the members run one version?"})
	})
	return mux
}

func asPeerError(err error) error {
	var e *api.Error
	if !errors.As(err, &e) {
		return err
	}
	status := e.Status
	if status == 0 {
		status = http.StatusBadGateway // another daemon of this member
	}
	return &peerapi.Error{Status: status, Message: e.Message, Hint: e.Hint}
}

// handlePeers serves the same questions here: GET /v1/peers/{peer}/{question} asks a peer, by name or ID.
func (d *daemon) handlePeers(mux *http.ServeMux) {
	for _, q := range questionList() {
		if q.name == "evidence" {
			continue // it takes its time: GET /v1/verify
		}
		mux.HandleFunc("GET /v1/peers/{peer}/"+q.name, func(w http.ResponseWriter, r *http.Request) {
			v := q.made()
			id, err := d.peerNamed(r.Context(), r.PathValue("peer"))
			if err == nil {
				err = d.askPeer(r.Context(), id, q.name, r.URL.RawQuery, 0, v)
			}
			api.Reply(w, v, asAPIError(err))
		})
	}
}

func asAPIError(err error) error {
	var e *peerapi.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return &api.Error{Status: e.Status, Message: fmt.Sprintf("member %d: %s", e.Member, e.Message), Hint: e.Hint, Cause: err}
	case errors.Is(err, peerapi.ErrUnreachable):
		return &api.Error{Status: http.StatusBadGateway, Message: err.Error(), Hint: "see cluster state: is it alive, and heard on a sync interface or a LAN?", Cause: err}
	}
	return err
}

// peerNamed finds another member by its name or ID.
func (d *daemon) peerNamed(ctx context.Context, name string) (uint8, error) {
	c := d.inForce().Cluster
	if c == nil {
		return 0, &api.Error{Status: http.StatusConflict, Message: "this is a standalone gateway: it has no peers"}
	}
	var names []string
	for _, m := range c.Members {
		if m.ID == c.Member {
			if m.Name == name || strconv.Itoa(int(m.ID)) == name {
				return 0, &api.Error{Status: http.StatusBadRequest, Message: name + " is this member"}
			}
			continue
		}
		if m.Name == name || strconv.Itoa(int(m.ID)) == name {
			return m.ID, nil
		}
		names = append(names, m.Name)
	}
	return 0, &api.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("there is no member %q", name), Hint: "one of " + strings.Join(names, ", ")}
}

// askPeer asks a member a question, at one address after the other. An answer may take watch longer than others. Errors are
// *peerapi.Error, or match peerapi.ErrUnreachable.
func (d *daemon) askPeer(ctx context.Context, id uint8, question, query string, watch time.Duration, out any) error {
	ctx, cancel := context.WithTimeout(ctx, peerTime+watch)
	defer cancel()
	own, _ := d.peering.is()
	if own == (identity{}) {
		return fmt.Errorf("member %d: %w: this box is no member of a cluster", id, peerapi.ErrUnreachable)
	}
	path := peerQuery + question
	if query != "" {
		path += "?" + query
	}
	addresses := d.addressesOf(ctx, id)
	if len(addresses) == 0 {
		return fmt.Errorf("member %d: %w: it has not been heard on any interface yet", id, peerapi.ErrUnreachable)
	}
	failed := &unanswered{member: id}
	for _, a := range addresses {
		peer, err := peerapi.Client(own.key[:], own.self, id, net.JoinHostPort(a, strconv.Itoa(peerPort)))
		if err != nil {
			return err
		}
		one, cancel := context.WithTimeout(ctx, questionTime+watch)
		err = peer.Call(one, http.MethodGet, path, nil, out)
		cancel()
		if !errors.Is(err, peerapi.ErrUnreachable) || ctx.Err() != nil {
			return err
		}
		failed.at, failed.errs = append(failed.at, a), append(failed.errs, err)
	}
	return failed
}

// unanswered is that a member gave no answer at any of its addresses: in one line, for it becomes evidence.
type unanswered struct {
	member uint8
	at     []string
	errs   []error // one for each of at
}

// Error names the addresses with the innermost reason; those that follow each other with the same one together.
func (u *unanswered) Error() string {
	var groups []string
	for i := 0; i < len(u.errs); {
		reason, first := innermost(u.errs[i]), i
		for i < len(u.errs) && innermost(u.errs[i]) == reason {
			i++
		}
		groups = append(groups, fmt.Sprintf("at %s (%s)", strings.Join(u.at[first:i], ", "), reason))
	}
	return fmt.Sprintf("member %d: unreachable %s", u.member, strings.Join(groups, "; "))
}

// Unwrap gives them all, so that it is peerapi.ErrUnreachable too.
func (u *unanswered) Unwrap() []error { return u.errs }

// innermost is what the network said: the connection and the request around it are named already.
func innermost(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	if request, ok := errors.AsType[*url.Error](err); ok {
		return request.Err.Error()
	}
	return err.Error()
}

// maxWays is at how many addresses a member is looked for.
const maxWays = 3

// addressesOf gives where a member may be reached: where its heartbeats come from, the freshest and the sync interface first; where
// they came from last; and where the policy has it.
func (d *daemon) addressesOf(ctx context.Context, id uint8) []string {
	limited, cancel := context.WithTimeout(ctx, time.Second)
	status, err := d.monitors.client.HA(limited)
	cancel()
	if err == nil {
		d.ways.learn(status)
	}
	out := d.ways.to(id)
	if p := d.policies.Load(); p != nil {
		p.mu.Lock()
		a, _ := p.addressOf(id)
		p.mu.Unlock()
		if a != "" && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out[:min(len(out), maxWays)]
}

// ways remembers where members were heard, for when had does not answer or starts anew.
type ways struct {
	mu   sync.Mutex
	last map[uint8][]string
}

func (w *ways) learn(s member.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range s.Peers {
		if list := waysTo(p.Addresses); len(list) > 0 {
			if w.last == nil {
				w.last = make(map[uint8][]string)
			}
			w.last[p.Member] = list
		}
	}
}

func (w *ways) to(id uint8) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.last[id])
}

// waysTo orders addresses: fresh ones first, among them those of sync interfaces.
func waysTo(list []member.PeerAddress) []string {
	list = slices.Clone(list)
	rank := func(a member.PeerAddress) int {
		switch fresh := time.Duration(a.LastHeard) < heardOf; {
		case fresh && a.Sync:
			return 0
		case fresh:
			return 1
		case a.Sync:
			return 2
		}
		return 3
	}
	slices.SortStableFunc(list, func(a, b member.PeerAddress) int { return rank(a) - rank(b) })
	var out []string
	for _, a := range list {
		if s := a.Address.String(); a.Address.IsValid() && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
