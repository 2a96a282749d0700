package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// Config is what a Supervisor needs.
type Config struct {
	// Name marks the supervisor's own lines in the journal: "init" or "run".
	Name string
	// RunDir is where the socket init.sock is made. It must exist.
	RunDir string
	// Services in the order in which to start them, as far as After allows.
	Services []Service
	// PID1 is true for the process that reaps every orphan of the machine.
	// Nothing else in such a process may wait for a child.
	PID1 bool
	// Policy says when to restart; the zero value is the product's.
	Policy Policy
	// Journal, if nil, is made with its default size.
	Journal *Journal
	// Shutdown is called for POST /v1/shutdown, and returns at once; nil: this
	// supervisor does not control the machine's power.
	Shutdown func(Action) error
	// Tick, if set, is called every TickInterval by the loop of Run, after it
	// has seen that the supervisor is not stuck: a place for a watchdog.
	Tick func()
}

// TickInterval is the period of Config.Tick.
const TickInterval = time.Second

// SocketName is the name of the API's socket in Config.RunDir.
const SocketName = "init.sock"

// Supervisor runs services. Make it with New, run it with Run, once.
type Supervisor struct {
	name     string
	socket   string
	policy   Policy
	journal  *Journal
	launch   launcher
	shutdown func(Action) error
	tick     func()
	pid1     bool
	runners  []*runner // in start order
}

// New checks the services: names, programs, and that After has no circle.
func New(cfg Config) (*Supervisor, error) {
	sorted, err := order(cfg.Services)
	if err != nil {
		return nil, err
	}
	s := &Supervisor{
		name: cfg.Name, policy: cfg.Policy.withDefaults(), journal: cfg.Journal,
		shutdown: cfg.Shutdown, tick: cfg.Tick, pid1: cfg.PID1,
	}
	if s.name == "" {
		s.name = "supervise"
	}
	if cfg.RunDir != "" {
		s.socket = filepath.Join(cfg.RunDir, SocketName)
	}
	if s.journal == nil {
		s.journal = NewJournal(0, 0)
	}
	for _, i := range sorted {
		s.runners = append(s.runners, newRunner(s, cfg.Services[i]))
	}
	return s, nil
}

// Journal is where the output of the services goes.
func (s *Supervisor) Journal() *Journal { return s.journal }

// Services returns the status of every service, in start order.
func (s *Supervisor) Services() []ServiceStatus {
	out := make([]ServiceStatus, 0, len(s.runners))
	for _, r := range s.runners {
		out = append(out, r.status())
	}
	return out
}

// ErrNoService is returned for a name that is no service.
var ErrNoService = errors.New("no such service")

// Restart ends the process of a service (SIGTERM, then SIGKILL) and starts it
// again at once, also out of a backoff or a crash loop. It does not wait.
func (s *Supervisor) Restart(name string) error {
	i := slices.IndexFunc(s.runners, func(r *runner) bool { return r.svc.Name == name })
	if i < 0 {
		return fmt.Errorf("restart %s: %w", name, ErrNoService)
	}
	select {
	case s.runners[i].restart <- struct{}{}:
	default: // one is already asked for
	}
	return nil
}

// Run starts the services and keeps them running until ctx ends. Then it stops
// them, each as soon as those that named it in After have stopped, and
// returns. An error means that the API's socket could not be made; as PID 1
// that is only a line in the journal, because PID 1 must go on.
func (s *Supervisor) Run(ctx context.Context) error {
	if s.launch == nil {
		s.launch = newChildren(s.journal, s.pid1)
	}
	apiCtx, closeAPI := context.WithCancel(context.Background())
	defer closeAPI()
	if s.socket != "" {
		ln, err := unixhttp.Listen(s.socket)
		switch {
		case err == nil:
			go s.serve(apiCtx, ln)
		case s.pid1:
			s.journal.Appendf(s.name, "no API: %v", err)
		default:
			return err
		}
	}
	s.start(ctx)
	ticker := time.NewTicker(TickInterval)
	defer ticker.Stop()
	allDone := s.done(ctx)
	for {
		select {
		case <-allDone:
			return nil
		case <-ticker.C:
			s.Services() // takes every lock: a stuck supervisor does not tick
			if s.tick != nil {
				s.tick()
			}
		}
	}
}

// start starts one goroutine a service, and the ones that stop them in order.
func (s *Supervisor) start(ctx context.Context) {
	byName := make(map[string]*runner, len(s.runners))
	for _, r := range s.runners {
		byName[r.svc.Name] = r
	}
	dependents := make(map[*runner][]*runner)
	for _, r := range s.runners {
		var deps []*runner
		for _, name := range r.svc.After {
			deps = append(deps, byName[name])
			dependents[byName[name]] = append(dependents[byName[name]], r)
		}
		// Each service has its own context, which ends when ctx has ended and
		// everything that depends on the service has stopped.
		own, cancel := context.WithCancel(context.Background())
		s.guard(r.svc.Name, func() { r.run(own, deps) })
		context.AfterFunc(ctx, func() {
			defer cancel()
			for _, d := range dependents[r] {
				<-d.done
			}
		})
	}
}

// guard runs fn in a goroutine whose panic is a line in the journal and not
// the end of PID 1.
func (s *Supervisor) guard(name string, fn func()) {
	go func() {
		defer func() {
			if v := recover(); v != nil {
				s.journal.Appendf(s.name, "%s: supervisor panicked: %v\n%s", name, v, debug.Stack())
			}
		}()
		fn()
	}()
}

// done is closed when ctx has ended and every service has stopped.
func (s *Supervisor) done(ctx context.Context) <-chan struct{} {
	ch := make(chan struct{})
	var wg sync.WaitGroup
	for _, r := range s.runners {
		wg.Go(func() { <-r.done })
	}
	go func() {
		<-ctx.Done()
		wg.Wait()
		close(ch)
	}()
	return ch
}

func (s *Supervisor) serve(ctx context.Context, ln net.Listener) {
	if err := unixhttp.Serve(ctx, ln, s.Handler()); err != nil {
		s.journal.Appendf(s.name, "API on %s ended: %v", s.socket, err)
	}
}

// Settled is closed when every service has settled: it is ready, or has failed
// once, or has used up its ReadyTimeout.
func (s *Supervisor) Settled() <-chan struct{} {
	ch := make(chan struct{})
	go func() {
		for _, r := range s.runners {
			<-r.settled
		}
		close(ch)
	}()
	return ch
}
