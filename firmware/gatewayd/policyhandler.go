package gatewayd

import (
	"context"
	"fmt"
	"net/http"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/install"
)

// handle serves what is the daemon's own of the API of policies.
func (p *policies) handle(mux *http.ServeMux) {
	mux.HandleFunc("POST "+install.PathUninstall, func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		was := p.gone
		p.gone = true // the box is shut with this reason
		p.mu.Unlock()
		if err := p.node.Uninstall(r.Context()); err != nil {
			p.mu.Lock()
			p.gone = was
			p.mu.Unlock()
			api.Reply(w, nil, &api.Error{Status: http.StatusConflict, Message: err.Error()})
			return
		}
		poke(p.look)
		api.Reply(w, api.Message{Message: "the policy is uninstalled on this member: it is closed, and a fit peer takes over; policy recover puts it back"}, nil)
	})
	mux.HandleFunc("POST "+install.PathRecover, func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		active, gone := !p.deaf && holds(p.ha.State), p.gone
		p.gone = false
		p.mu.Unlock()
		if active && !gone {
			api.Reply(w, nil, &api.Error{Status: http.StatusConflict, Message: "this member is active: the others go by what it runs", Hint: "to change that: policy install"})
			return
		}
		p.once(w, r)
	})
	mux.HandleFunc("POST "+install.PathResume, func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		holding := p.hold != ""
		p.resumed = holding
		p.mu.Unlock()
		if !holding {
			api.Reply(w, nil, &api.Error{Status: http.StatusConflict, Message: "there is nothing to resume: this member does not wait for its operator", Hint: "policy status"})
			return
		}
		p.once(w, r)
	})
	mux.HandleFunc("/", api.NotFound)
}

// once goes through the recovery order and says what it came to.
func (p *policies) once(w http.ResponseWriter, r *http.Request) {
	o, err := p.attempt(context.WithoutCancel(r.Context()))
	if err == nil {
		p.report(o, 0)
	}
	api.Reply(w, api.Message{Message: "this member " + o.String()}, err)
}

// describe adds what only the daemon knows to the status of policies.
func (p *policies) describe(s *install.Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Standing = install.Standing{Eligible: p.verdict.Eligible, Why: p.verdict.Why}
	s.Recovery, s.Uninstalled = p.outcome, p.gone
	if p.server != nil {
		s.Server = p.server.String()
	}
	if p.closed != "" {
		s.InForce, s.Meta = artifact.Ref{}, artifact.Meta{}
		for i := range s.History {
			s.History[i].InForce = false
		}
	}
	for _, q := range p.ha.Peers {
		s.Peers = append(s.Peers, install.PeerPolicy{Member: q.Member, Name: q.Name, State: q.State, Revision: q.Policy.Revision, Digest: q.Policy.Digest})
	}
	if s.Standing.Why == "" && !s.Standing.Eligible {
		s.Standing.Why = fmt.Sprintf("closed: %s", p.closed)
	}
}
