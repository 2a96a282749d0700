package gatewayd

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/peerapi"
	"github.com/twinkeep/twinkeep/firmware/policy"
	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/fetch"
	"github.com/twinkeep/twinkeep/firmware/policy/install"
	"github.com/twinkeep/twinkeep/firmware/policy/registry"
	"github.com/twinkeep/twinkeep/firmware/policy/standing"
	"github.com/twinkeep/twinkeep/firmware/policy/store"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/init/supervise"
)

const policyDevice = api.PolicyDevice

// policies runs the box by policies: it joins the store, the recovery order, the installs and the peers with the kernel
// and had. The locks are taken in this order: the install's slot, that of the daemon, mu.
type policies struct {
	d        *daemon
	settings policySettings
	node     *install.Node
	server   *registry.Registry // nil: none
	api      http.Handler
	peers    http.Handler // what the other members ask for; nil: nothing
	client   *api.Client
	cancel   context.CancelFunc
	running  sync.WaitGroup
	wake     chan struct{} // go through the recovery order
	look     chan struct{} // something has changed: look now
	parsed   parsed

	mu      sync.Mutex
	local   *node.Node     // the node file
	member  *node.Node     // what the policy made of it, nil before
	policy  *policy.Policy // in force, nil while there is none
	closed  string         // why none is in force; empty: one is
	hold    string         // why the member waits for its operator
	outcome string         // of the last recovery
	gone    bool           // uninstalled by an operator
	resumed bool           // the operator has given up what never reached the peer
	first   bool           // the recovery order has not been gone through since the start
	ha      member.Status  // had's last answer
	deaf    bool           // had has not answered, or listens still
	verdict standing.Verdict
	unsure  time.Duration // had is to start anew: listen so long before judging
	ordered time.Duration // when had was told so last
	machine standing.Machine
	restart restart
	runs    artifact.Ref // as had was told last
	inForce node.InForce // as last written
}

// startPolicies opens the store and closes the box, or goes on with what this box ran when only this process was
// restarted. What it begins, end ends. With an error the box is closed and nothing else runs.
func startPolicies(d *daemon, s policySettings, n *node.Node) (*policies, error) {
	p := &policies{
		d: d, settings: s, client: d.monitors.client, wake: make(chan struct{}, 1), look: make(chan struct{}, 1),
		local: n, closed: "the recovery order is being gone through", first: true, deaf: true,
	}
	ctx, cancel := context.WithCancel(d.ctx)
	p.cancel = cancel
	mux := http.NewServeMux()
	p.api = mux
	st, err := store.OpenDir(filepath.Join(d.StateDir, storeDir), 0)
	if err != nil {
		p.closed = err.Error()
		mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { api.Reply(w, nil, err) })
		p.shut(n, p.closed)
		p.running.Go(func() { p.watching(ctx) })
		return p, err
	}
	for _, damage := range st.Damage() {
		d.Log.Printf("policy: damaged on the disk: %s", damage)
	}
	if s.server != (registry.Config{}) {
		if p.server, err = registry.New(s.server); err != nil {
			d.Log.Printf("policy: the management server is not asked: %v", err)
		}
	}
	p.node = &install.Node{
		Self: s.self, Members: memberIDs(n), MembersOf: p.membersOf, Rehearse: p.rehearse, Now: install.Clock,
		Event: func(message string) { d.Log.Printf("policy: %s", message) }, Describe: p.describe,
		Fetcher: &fetch.Fetcher{
			Gatekeeper: fetch.Gatekeeper{Name: s.name, Keys: s.keys, Check: p.check},
			Store:      st, Apply: p.apply, Peer: p.peer, Server: p.server,
		},
	}
	p.node.HandleLocal(mux)
	peers := http.NewServeMux()
	p.node.Handle(peers)
	p.peers = peers
	p.handle(mux)
	if was := p.begin(ctx); d.started && was == nil { // had runs by the node file
		p.restart = restart{wanted: true, apart: true, since: uptime()}
		p.unsure = listenFor(n.Cluster.Timing)
	}
	p.running.Go(func() { p.node.Run(ctx) })
	p.running.Go(func() { p.recovering(ctx) })
	p.running.Go(func() { p.watching(ctx) })
	if p.server != nil {
		every := s.server.Poll
		if every == 0 {
			every = registry.DefaultPoll
		}
		p.running.Go(func() { p.node.Follow(ctx, every, p.follows, false) })
	}
	return p, nil
}

func (p *policies) end() {
	p.cancel()
	p.running.Wait()
	if p.server != nil {
		p.server.Close()
	}
}

// begin puts in force what this box ran when only this process was restarted; else it closes the box, with the addresses
// of the stored policy, or those of the node file. It gives what was in force, nil for a box that ran by its node file.
func (p *policies) begin(ctx context.Context) *node.InForce {
	st := p.node.Fetcher.Store.State()
	was, err := node.LoadInForce(p.d.RunDir)
	if err != nil {
		p.d.Log.Print(err)
	}
	if was != nil && was.Boot == bootID() && was.Supervisor == os.Getppid() {
		switch {
		case was.Uninstalled:
			p.gone, p.first = true, false
			p.shut(p.stored(), uninstalled)
			return was
		case was.Digest != "" && was.Digest == string(st.Current):
			p.inForce, p.runs = *was, st.Ref()
			p.member = was.Node
			if err := p.node.Restore(ctx); err == nil {
				p.first = false
				p.outcome = fmt.Sprintf("goes on with %s", st.Ref())
				p.d.Log.Printf("policy: %s after a restart of gatewayd", p.outcome)
				return was
			}
			p.d.Log.Printf("policy: what was in force does not go on: %v", err)
			p.inForce, p.runs, p.member = node.InForce{}, artifact.Ref{}, nil
		}
	}
	p.shut(p.stored(), p.closed)
	return was
}

// stored is the node that the stored policy makes, if it can be used; else the node file.
func (p *policies) stored() *node.Node {
	st := p.node.Fetcher.Store.State()
	if st.Current == "" {
		return p.local
	}
	a, err := p.node.Fetcher.Store.Load(st.Current)
	if err == nil {
		err = p.node.Fetcher.Accept(a)
	}
	var m *policy.Member
	if err == nil {
		_, m, err = p.render(a.Document)
	}
	if err != nil {
		return p.local
	}
	p.member = m.Node
	return m.Node
}

// peer finds a member: where its heartbeats come from, the sync interface first; else where the policy has it.
func (p *policies) peer(id uint8) (fetch.Peer, error) {
	p.mu.Lock()
	address, name := p.addressOf(id)
	p.mu.Unlock()
	if address == "" {
		return fetch.Peer{}, fmt.Errorf("%s is heard on no interface", name)
	}
	c, err := peerapi.Client(p.settings.key[:], p.settings.self, id, net.JoinHostPort(address, strconv.Itoa(peerPort)))
	return fetch.Peer{Peer: c}, err
}

// heardOf is how old a heartbeat may be to show the way to its sender.
const heardOf = 5 * time.Second

func (p *policies) addressOf(id uint8) (address, name string) {
	name = fmt.Sprintf("member %d", id)
	for _, q := range p.ha.Peers {
		if q.Member != id {
			continue
		}
		if q.Name != "" {
			name = q.Name
		}
		best := -1
		for i, a := range q.Addresses {
			if time.Duration(a.LastHeard) < heardOf && (best < 0 || a.Sync && !q.Addresses[best].Sync) {
				best = i
			}
		}
		if best >= 0 {
			return q.Addresses[best].Address.String(), name
		}
	}
	if p.policy == nil {
		return "", name
	}
	for _, f := range p.policy.Interfaces {
		if a, ok := f.Addresses[id]; ok && (address == "" || f.Sync) {
			address = a.Addr().String()
		}
	}
	return address, name
}

// memberIDs are the members of a cluster, ascending.
func memberIDs(n *node.Node) (out []uint8) {
	for _, m := range n.Cluster.Members {
		out = append(out, m.ID)
	}
	slices.Sort(out)
	return out
}

// ref is the policy in force; zero while there is none.
func (p *policies) ref() artifact.Ref {
	p.mu.Lock()
	closed := p.closed != ""
	p.mu.Unlock()
	if closed || p.node == nil {
		return artifact.Ref{}
	}
	st := p.node.Fetcher.Store.State()
	return st.Ref()
}

// name is for whoever looks at the node file.
func (p *policies) name() string {
	if ref := p.ref(); !ref.IsZero() {
		return fmt.Sprintf("policy %s, %s", p.settings.name, ref)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return "no policy: " + p.closed
}

// uptime is a monotonic clock.
func uptime() time.Duration { return supervise.Uptime() }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
