// Package fleet plays thousands of gateways against one management server, to see what they cost it.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	policycmd "github.com/twinkeep/twinkeep/firmware/policy/cmd"
	"github.com/twinkeep/twinkeep/firmware/policy/fetch"
	"github.com/twinkeep/twinkeep/firmware/policy/registry"
	"github.com/twinkeep/twinkeep/firmware/policy/sign"
)

// options of a simulation.
type options struct {
	gateways int
	interval time.Duration // between two polls of one gateway
	length   time.Duration
	size     int // bytes of the policy document
	config   registry.Config
	operator string // token that may publish
	pid      int    // of the server; 0: not on this machine
}

// phase is what the gateways did in one part of the run.
type phase struct {
	name    string
	began   time.Time
	usage   usage // of the server
	own     usage
	polls   atomic.Int64
	fetched atomic.Int64
	failed  atomic.Int64

	mu    sync.Mutex
	times []time.Duration // of polls
	err   error           // one of those that failed
}

func (p *phase) done(took time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.failed.Add(1)
		p.err = err
		return
	}
	p.polls.Add(1)
	p.times = append(p.times, took)
}

// simulation has a first phase of polls without news, and a second one in which a new revision comes out.
type simulation struct {
	options
	keys  sign.Keyring
	phase atomic.Pointer[phase]
}

func (s *simulation) run(ctx context.Context, out io.Writer) error {
	private, _, err := sign.Generate(sign.ECDSA)
	if err != nil {
		return err
	}
	key, err := sign.ParsePrivate(private)
	if err != nil {
		return err
	}
	s.keys = sign.Keyring{{ID: sign.KeyID(key.Public()), Name: "simulation", Public: key.Public()}}
	publish := func(revision uint64) error {
		c := s.config
		c.Token = s.operator
		r, err := registry.New(c)
		if err != nil {
			return err
		}
		defer r.Close()
		document := make([]byte, s.size)
		for i := range document {
			document[i] = "abcdefghij klmnop:\n"[rand.IntN(19)]
		}
		a, err := policycmd.Signed(artifact.Meta{Name: "fleet", Revision: revision}, document, key)
		if err != nil {
			return err
		}
		return r.Push(ctx, a)
	}
	if err := publish(1); err != nil {
		return err
	}
	first, second := &phase{name: "polls without news"}, &phase{name: "a new revision is out"}
	current, err := s.head(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d gateways, one poll each in %v, policy of %d bytes; two phases of %v\n", s.gateways, s.interval, s.size, s.length)
	s.begin(first)
	gateways, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for range s.gateways {
		wg.Go(func() { s.gateway(gateways, current) })
	}
	err = s.pause(ctx)
	if err == nil {
		s.report(out, first)
		s.begin(second)
		if err = publish(2); err == nil {
			err = s.pause(ctx)
		}
	}
	if err == nil {
		s.report(out, second)
	}
	cancel()
	wg.Wait()
	return err
}

func (s *simulation) begin(p *phase) {
	p.began, p.usage, p.own = time.Now(), usageOf(s.pid), usageOf(os.Getpid())
	s.phase.Store(p)
}

func (s *simulation) pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(s.length):
		return nil
	}
}

func (s *simulation) head(ctx context.Context) (digest.Digest, error) {
	r, err := registry.New(s.config)
	if err != nil {
		return "", err
	}
	defer r.Close()
	ref, err := r.Head(ctx)
	return ref.Digest, err
}

// gateway polls as a box does, with a client and a connection of its own, and takes and verifies what is new.
func (s *simulation) gateway(ctx context.Context, have digest.Digest) {
	r, err := registry.New(s.config)
	if err != nil {
		s.phase.Load().done(0, err)
		return
	}
	defer r.Close()
	for wait := rand.N(s.interval); ; wait = s.interval*9/10 + rand.N(s.interval/5) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		p, start := s.phase.Load(), time.Now()
		ref, err := r.Head(ctx)
		took := time.Since(start)
		if err == nil && ref.Digest != have {
			var a *artifact.Artifact
			if a, err = (fetch.Transfer{}).Get(ctx, r, ref.Digest); err == nil {
				_, err = s.keys.Verify(a)
			}
			if err == nil {
				have = ref.Digest
				p.fetched.Add(1)
			}
		}
		r.Close() // the next poll is a minute away
		if errors.Is(err, context.Canceled) {
			return
		}
		p.done(took, err)
	}
}

func (s *simulation) report(out io.Writer, p *phase) {
	took := time.Since(p.began)
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.Sort(p.times)
	at := func(q float64) time.Duration {
		if len(p.times) == 0 {
			return 0
		}
		return p.times[int(q*float64(len(p.times)-1))].Round(100 * time.Microsecond)
	}
	fmt.Fprintf(out, "\n%s, %v:\n", p.name, took.Round(time.Second))
	fmt.Fprintf(out, "  polls        %d, %.1f a second, each with a TLS handshake; median %v, 99%% %v\n",
		p.polls.Load(), float64(p.polls.Load())/took.Seconds(), at(0.5), at(0.99))
	fmt.Fprintf(out, "  fetched      %d\n  failed       %d\n", p.fetched.Load(), p.failed.Load())
	if p.err != nil {
		fmt.Fprintf(out, "               e.g. %v\n", p.err)
	}
	// Without it, nobody can tell a slow server from a machine that is too small to play all gateways.
	fmt.Fprintf(out, "  gateways CPU %.1f s, on the same machine\n", (usageOf(os.Getpid()).cpu - p.own.cpu).Seconds())
	if s.pid != 0 {
		u := usageOf(s.pid)
		cpu := u.cpu - p.usage.cpu
		fmt.Fprintf(out, "  server CPU   %.1f s, %.1f %% of one core, %.2f ms a poll\n", cpu.Seconds(), 100*cpu.Seconds()/took.Seconds(),
			1000*cpu.Seconds()/float64(max(p.polls.Load(), 1)))
		fmt.Fprintf(out, "  server RAM   %.0f MB resident, %.0f MB at most\n", float64(u.rss)/1e6, float64(u.peak)/1e6)
		fmt.Fprintf(out, "  server bytes %.1f MB read, %.1f MB written (sockets and files)\n",
			float64(u.read-p.usage.read)/1e6, float64(u.written-p.usage.written)/1e6)
	}
}
