package upgraded

import (
	"context"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/peerapi"
)

// quiet takes what net/http says of handshakes that came to nothing.
var quiet = log.New(io.Discard, "", 0)

// peers knows the other members and where they are: state sync has found them.
type peers struct {
	dir    string // of the node file
	run    string // of what is in force
	client *api.Client

	mu   sync.Mutex
	last map[uint8]string // addresses
}

// cluster is the cluster of the node file.
func (p *peers) cluster() (*node.Cluster, error) {
	n, _, err := node.LoadRunning(p.dir, p.run)
	switch {
	case err != nil:
		return nil, err
	case n.Cluster == nil:
		return nil, fmt.Errorf("this is a standalone gateway: upgrade it with upgrade install")
	}
	return n.Cluster, nil
}

// look asks state sync where the members are now. An address stays until there is another one.
func (p *peers) look(ctx context.Context) {
	s, err := p.client.Sync(ctx)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range s.Peers {
		if a, err := netip.ParseAddrPort(q.Address); err == nil && q.Connected {
			p.last[q.Member] = a.Addr().String()
		}
	}
}

// addresses gives what is known, for a driver that is restarted.
func (p *peers) addresses() map[uint8]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.last)
}

func (p *peers) remember(known map[uint8]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, a := range known {
		if _, have := p.last[id]; !have {
			p.last[id] = a
		}
	}
}

func (p *peers) of(ctx context.Context, id uint8) (*peerapi.Peer, error) {
	c, err := p.cluster()
	if err != nil {
		return nil, err
	}
	a, ok := p.addresses()[id]
	if !ok {
		p.look(ctx)
		a, ok = p.addresses()[id]
	}
	if !ok {
		return nil, fmt.Errorf("member %d: %w: state sync has not found it yet", id, peerapi.ErrUnreachable)
	}
	return peerapi.Client(c.Key[:], c.Member, id, net.JoinHostPort(a, strconv.Itoa(Port)))
}

func (p *peers) call(ctx context.Context, id uint8, method, path string, in, out any) error {
	peer, err := p.of(ctx, id)
	if err != nil {
		return err
	}
	return peer.Call(ctx, method, path, in, out)
}

// maxBreaks is how often a transfer may break off and go on.
const maxBreaks = 20

// file reads a plan's upgrade file from the member that drives. A transfer that breaks off goes on where it was.
func (p *peers) file(ctx context.Context, driver uint8, plan string) io.ReadCloser {
	return &remote{peers: p, ctx: ctx, driver: driver, path: pathFile + plan}
}

type remote struct {
	peers  *peers
	ctx    context.Context
	driver uint8
	path   string
	rc     io.ReadCloser
	at     int64
	breaks int
}

func (r *remote) Read(b []byte) (int, error) {
	for {
		if r.rc == nil {
			peer, err := r.peers.of(r.ctx, r.driver)
			if err == nil {
				r.rc, err = peer.Open(r.ctx, r.path, r.at)
			}
			if err != nil {
				if err := r.broken(err); err != nil {
					return 0, err
				}
				continue
			}
		}
		n, err := r.rc.Read(b)
		r.at += int64(n)
		if n > 0 || err == io.EOF {
			return n, err
		}
		if err != nil {
			r.Close()
			if err := r.broken(err); err != nil {
				return 0, err
			}
			r.peers.look(r.ctx) // it may be elsewhere now
		}
	}
}

// broken waits a little, or gives up.
func (r *remote) broken(err error) error {
	if r.breaks++; r.breaks > maxBreaks || r.ctx.Err() != nil {
		return fmt.Errorf("read the upgrade file from member %d: %w", r.driver, err)
	}
	sleep(r.ctx, again)
	return nil
}

func (r *remote) Close() error {
	if r.rc == nil {
		return nil
	}
	rc := r.rc
	r.rc = nil
	return rc.Close()
}

func syncDirOf(name string) error {
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func ctxOf(r *http.Request) context.Context { return context.WithoutCancel(r.Context()) }
