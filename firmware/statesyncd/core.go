package statesyncd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/ha/statesync/ctnl"
	"github.com/twinkeep/twinkeep/ha/statesync/link"
)

// core is the running protocol of one node file.
type core struct {
	Options
	node    *node.Node
	names   map[uint8]string
	machine *statesync.Machine
	table   *ctnl.Pipe
	reader  *ctnl.Reader
	kernel  *ctnl.Events
	tls     *tls.Config
	start   time.Time

	events   chan eventBatch
	spare    chan []statesync.Event
	walked   chan walked
	frames   chan frame
	calls    chan func()
	walkNow  chan struct{}
	roleNow  chan struct{}
	sayNow   chan struct{}
	kick     chan struct{} // of the reader of events
	ended    chan struct{}
	fast     atomic.Bool  // walks go as fast as they can
	anew     atomic.Bool  // the walk that runs is to begin anew
	backlog  atomic.Int64 // bytes, of the peer with most
	barrierN atomic.Uint64
	held     atomic.Uint64 // first packets
	late     atomic.Uint64 // of which went before every peer had their connection
	dropped  atomic.Uint64 // further first packets, for which there was no room

	// The core goroutine's own:
	sessions map[uint8]*link.Session
	barriers map[uint64]*barrier
	diffs    []chan statesync.Diff
	refused  map[statesync.Reason]uint64 // sessions, by reason
	// saidRefused is when a reason was logged last.
	saidRefused map[statesync.Reason]time.Duration
	roleError   string
	rates       rates
	report      report
	listens     bool // to events of new and changed entries
	fetching    map[statesync.Tuple]bool

	netMu sync.Mutex
	seen  map[uint8]map[string]sighting // by member and interface
	via   map[uint8]string              // interface of the session
	// dialNow wakes who dials a member.
	dialNow map[uint8]chan struct{}
}

// eventBatch is what one read of the kernel's events gave. marker, if not 0, says that everything told before the
// barrier of that number was asked for is in this batch or before it.
type eventBatch struct {
	events []statesync.Event
	lost   bool
	marker uint64
}

// frame is what a peer sent; up and down tell of its session.
type frame struct {
	session *link.Session
	t       statesync.Type
	payload []byte
	up      chan bool
	down    bool
}

// now is the machine's time.
func (c *core) now() time.Duration { return time.Since(c.start) }

// run is the life of a core.
func (c *core) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer c.table.Close()
	defer c.reader.Close()
	defer wg.Wait()
	defer cancel()
	defer close(c.ended)
	var err error
	if c.kernel, err = ctnl.OpenEvents(c.EventBuffer, c.table.Port()); err != nil {
		return err
	}
	c.listens = true
	failed := make(chan error, 8)
	wg.Go(func() {
		if err := c.readEvents(ctx); err != nil && ctx.Err() == nil {
			failed <- err
		}
	})
	defer c.kernel.Close()
	wg.Go(func() { c.walk(ctx) })
	wg.Go(func() { c.watchRole(ctx) })
	wg.Go(func() { c.reportSync(ctx) })
	wg.Go(func() { c.network(ctx, &wg) })
	if c.node.Cluster.Defer {
		if err := c.hold(ctx, &wg); err != nil {
			c.Options.Log.Error("first packets are not held back", "err", err)
		}
	}
	defer func() {
		for _, s := range c.sessions {
			s.Close(net.ErrClosed)
		}
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case b := <-c.events:
			c.takeEvents(b)
		case w := <-c.walked:
			c.takeWalked(w)
		case f := <-c.frames:
			c.takeFrame(f)
			if len(c.frames) == 0 {
				c.machine.Acknowledge(c.now())
			}
		case call := <-c.calls:
			call()
		case <-tick.C:
			c.tick()
		}
		c.fast.Store(c.machine.Repairing())
		c.anew.Store(c.machine.WalkAnew())
		c.subscribe()
	}
}

// subscribe turns the events of new and changed entries on or off, as the role asks. What happened in between is found by
// the walk that a new role begins with.
func (c *core) subscribe() {
	on := c.machine.Listens()
	if on == c.listens {
		return
	}
	if err := c.kernel.Beginnings(on); err != nil {
		c.Options.Log.Error("connection events", "on", on, "err", err)
	}
	c.listens = on
	if on {
		c.Walk()
	}
}

// do runs a call in the core's goroutine; false when the core has ended.
func (c *core) do(ctx context.Context, call func()) bool {
	done := make(chan struct{})
	select {
	case c.calls <- func() { call(); close(done) }:
		<-done
		return true
	case <-c.ended:
	case <-ctx.Done():
	}
	return false
}

func (c *core) tick() {
	now := c.now()
	c.machine.Tick(now)
	c.rates.sample(now, &c.machine.Stats)
	most := 0
	for _, s := range c.sessions {
		waiting, _, _ := s.Backlog()
		most = max(most, waiting)
	}
	c.backlog.Store(int64(most))
	c.noteSync()
	for n, b := range c.barriers {
		if now > b.until {
			b.end(n, c)
		}
	}
}

func (c *core) takeEvents(b eventBatch) {
	if len(b.events) > 0 || b.lost {
		c.machine.Events(c.now(), b.events, b.lost)
		clear(b.events)
		select {
		case c.spare <- b.events[:0]:
		default:
		}
	}
	if b.marker != 0 {
		c.beginBarrier(b.marker)
	}
}

// takeFrame hands a peer's frame to the machine. Whatever is wrong with one ends its session.
func (c *core) takeFrame(f frame) {
	s := f.session
	id := s.Peer.Member
	switch {
	case f.up != nil:
		f.up <- c.admit(s)
		return
	case c.sessions[id] != s:
		return // a session that another has replaced
	case f.down:
		delete(c.sessions, id)
		c.setVia(id, "")
		c.machine.PeerDown(c.now(), id)
		why := s.Err()
		c.count(why)
		c.Options.Log.Warn("the connection to a member has ended", "member", c.name(id), "via", s.Via, "reason", link.ReasonOf(why), "err", why)
		return
	}
	if err := c.machine.Frame(c.now(), id, f.t, f.payload); err != nil {
		s.Close(err)
	}
}

// admit takes a new session in, in place of an older one.
func (c *core) admit(s *link.Session) bool {
	id := s.Peer.Member
	if err := c.machine.CheckHello(&s.Peer); err != nil {
		return false
	}
	if old := c.sessions[id]; old != nil {
		old.Close(errReplaced)
		c.machine.PeerDown(c.now(), id)
	}
	c.sessions[id] = s
	c.setVia(id, s.Via)
	c.machine.PeerUp(c.now(), s.Peer)
	c.Options.Log.Info("connected to a member", "member", c.name(id), "via", s.Via, "address", s.Remote())
	return true
}

var errReplaced = errors.New("replaced by a better connection")

func (c *core) name(id uint8) string {
	if n := c.names[id]; n != "" {
		return n
	}
	return fmt.Sprint("member ", id)
}

func (c *core) count(err error) { c.refused[link.ReasonOf(err)]++ }

// Send implements statesync.Output.
func (c *core) Send(peer uint8, f []byte) bool {
	s := c.sessions[peer]
	return s != nil && s.Send(f)
}

// Fetch implements statesync.Output. The kernel tells of what is expected before it has changed what announces it.
func (c *core) Fetch(f statesync.Flow) {
	if c.fetching[f.Orig] || len(c.fetching) >= maxFetching {
		return // the next walk finds it
	}
	c.fetching[f.Orig] = true
	time.AfterFunc(fetchAfter, func() {
		c.do(context.Background(), func() {
			delete(c.fetching, f.Orig)
			got, ok, err := c.reader.Get(&f)
			switch {
			case err != nil:
				c.Options.Log.Warn("a connection with a helper was not read", "err", err)
			case ok:
				c.machine.Events(c.now(), []statesync.Event{{Kind: statesync.EventUpdate, Flow: got}}, false)
			}
		})
	})
}

const (
	fetchAfter  = 5 * time.Millisecond
	maxFetching = 4096
)

// Walk implements statesync.Output.
func (c *core) Walk() { poke(c.walkNow) }

// Log implements statesync.Output.
func (c *core) Log(s statesync.Severity, text string) {
	c.Options.Log.Log(context.Background(), severity(s), text)
}

// DiffDone implements statesync.Output.
func (c *core) DiffDone(d statesync.Diff) {
	for _, ch := range c.diffs {
		ch <- d
	}
	c.diffs = nil
}

// poke puts a token into a channel that has room for one.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// privateAddresses are those whose connections concern this member only: its own, and the broadcast addresses of its
// networks.
func privateAddresses(n *node.Node) (out []netip.Addr) {
	for i := range n.Interfaces {
		for _, p := range n.Interfaces[i].Prefixes() {
			out = append(out, p.Addr())
			if p.Addr().Is4() && p.Bits() < 31 {
				out = append(out, broadcast(p))
			}
		}
	}
	return out[:min(len(out), statesync.MaxAddresses)]
}

func broadcast(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}
