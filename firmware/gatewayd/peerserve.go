package gatewayd

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/peerapi"
	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// peerPort is the TCP port of what members ask each other for: policies, and how their boxes are.
const peerPort = rules.PolicyPort

// peerQuery is the path, to peers, of the questions of peerquery.go.
const peerQuery = "/box/v1/"

// identity is who a box is to the other members. The zero value: nobody.
type identity struct {
	key  node.Key
	self uint8
}

// peering serves the other members, whether the box runs by policies or not.
type peering struct {
	mu      sync.Mutex
	now     identity
	changed chan struct{} // closed when now is another one
}

func newPeering() *peering { return &peering{changed: make(chan struct{})} }

// become takes in a good node file.
func (p *peering) become(n *node.Node) {
	var id identity
	if n.Cluster != nil && !n.Cluster.Judges() {
		id = identity{key: n.Cluster.Key, self: n.Cluster.Member}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if id != p.now {
		close(p.changed)
		p.now, p.changed = id, make(chan struct{})
	}
}

func (p *peering) is() (identity, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now, p.changed
}

// servePeers answers the other members until ctx ends.
func (d *daemon) servePeers(ctx context.Context) {
	for ctx.Err() == nil {
		id, changed := d.peering.is()
		if id == (identity{}) {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		until, cancel := context.WithCancel(ctx)
		go func() {
			select {
			case <-until.Done():
			case <-changed:
			}
			cancel()
		}()
		err := d.serveAs(until, id)
		if err != nil && until.Err() == nil {
			d.Log.Printf("the peers are not answered: %v; again in 5s", err)
			select {
			case <-until.Done():
			case <-time.After(5 * time.Second):
			}
		}
		cancel()
	}
}

// strangers takes what net/http says of handshakes that came to nothing: there is no end of scanners.
var strangers = log.New(io.Discard, "", 0)

func (d *daemon) serveAs(ctx context.Context, id identity) error {
	srv, err := peerapi.Server(id.key[:], id.self, d.peerHandler())
	if err != nil {
		return err
	}
	srv.ErrorLog = strangers
	ln, err := net.Listen("tcp", ":"+strconv.Itoa(peerPort))
	if err != nil {
		return err
	}
	return peerapi.Serve(ctx, ln, srv)
}

// peerHandler answers questions about this box, and what is about policies where it runs by them.
func (d *daemon) peerHandler() http.Handler {
	questions := d.questions()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, peerQuery) {
			questions.ServeHTTP(w, r)
			return
		}
		if p := d.policies.Load(); p != nil && p.peers != nil {
			p.peers.ServeHTTP(w, r)
			return
		}
		peerapi.Refuse(w, &peerapi.Error{Status: http.StatusNotFound, Message: "this member runs by its node file alone"})
	})
}
