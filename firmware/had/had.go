// Package had is the HA daemon: it turns the node file into a running cluster member (ha/member) and serves its
// status and the operator's orders on had.sock. With a node file that cannot be used it stays up, DOWN, and says
// why: a gate that was never opened is shut.
package had

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// Options of Run.
type Options struct {
	ConfigDir, StateDir, RunDir string
	NodeFile                    string // read instead of the config directory's; may be empty
	Ready                       func() // called when the socket is served and the member prepared; may be nil
	StateSync                   bool   // statesyncd runs beside it: not in sync until it says so
	Log                         *slog.Logger
}

// starting is the problem of a daemon that has no member yet.
const starting = "the member is starting"

type daemon struct {
	Options
	reload chan struct{}
	sync   syncWatch

	adapting sync.Mutex // one change at a time

	mu      sync.Mutex
	member  *member.Member // nil without a usable node file
	node    *node.Node     // nil without a readable node file
	problem string         // why there is no member
}

// Run serves until ctx ends.
func Run(ctx context.Context, o Options) error {
	if err := os.MkdirAll(o.RunDir, 0o755); err != nil {
		return fmt.Errorf("had: %w", err)
	}
	ln, err := unixhttp.Listen(filepath.Join(o.RunDir, api.HadSocket))
	if err != nil {
		return fmt.Errorf("had: %w", err)
	}
	defer ln.Close()
	d := &daemon{Options: o, reload: make(chan struct{}, 1), problem: starting}
	served := make(chan error, 1)
	go func() { served <- unixhttp.Serve(ctx, ln, d.handler()) }()
	for ctx.Err() == nil {
		d.life(ctx)
	}
	return <-served
}

// life is one member, from the node file as it is now to the next reload.
func (d *daemon) life(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-d.reload:
			cancel()
		case <-ctx.Done():
		}
	}()
	m, late, err := d.prepare()
	if d.Ready != nil {
		d.Ready()
		d.Ready = nil
	}
	if err != nil {
		d.Log.Error("no cluster member runs here, the gate stays shut", "err", err)
		<-ctx.Done()
		return
	}
	_, n, _ := d.current()
	go d.sync.watch(ctx, m, d.StateSync && !n.Cluster.Judges())
	go watchLoad(ctx, m)
	if len(late) > 0 {
		go d.await(ctx, late)
	}
	go activeCheck(ctx, m)
	if err := m.Run(ctx); err != nil {
		d.Log.Error("the member ended", "err", err)
	}
	d.set(nil, nil, starting)
}

// prepare makes the member that the node file asks for. late are devices that are not there yet and
// whose place is therefore not known.
func (d *daemon) prepare() (m *member.Member, late []string, err error) {
	n, in, err := d.load()
	if err != nil {
		d.set(nil, nil, err.Error())
		return nil, nil, err
	}
	if n.Cluster == nil {
		err := errors.New("this is a standalone host: its node file has no cluster section")
		d.set(nil, n, err.Error())
		return nil, nil, err
	}
	cfg, late, err := config(n)
	if err == nil {
		cfg.StateDir, cfg.RunDir, cfg.Log = d.StateDir, d.RunDir, d.Log
		cfg.Barrier, cfg.Role = barrier(d.Options), role(d.Options)
		if down, yes := d.keptDown(); yes {
			cfg.Devices = append(cfg.Devices, down)
		}
		if in != nil {
			cfg.Devices = append(cfg.Devices, policyDevice(in))
			cfg.Policy = policyOf(in.Revision, in.Digest)
		}
		m, err = member.New(cfg)
	}
	if err != nil {
		d.set(nil, n, err.Error())
		return nil, nil, err
	}
	d.set(m, n, "")
	return m, late, nil
}

// load reads what this member runs by; in is nil without policies.
func (d *daemon) load() (n *node.Node, in *node.InForce, err error) {
	if d.NodeFile != "" {
		n, _, err = node.LoadFile(d.NodeFile)
		return n, nil, err
	}
	return node.LoadRunning(d.ConfigDir, d.RunDir)
}

func (d *daemon) set(m *member.Member, n *node.Node, problem string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.member, d.problem = m, problem
	if n != nil {
		d.node = n
	}
}

// await starts the member anew when a device appears whose place was not known.
func (d *daemon) await(ctx context.Context, devices []string) {
	t := time.NewTicker(2 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for _, name := range devices {
			if _, err := net.InterfaceByName(name); err == nil {
				d.Log.Warn("a missing NIC has appeared; the member starts anew", "device", name)
				d.askReload()
				return
			}
		}
	}
}

func (d *daemon) askReload() {
	select {
	case d.reload <- struct{}{}:
	default: // one is already asked for
	}
}

func (d *daemon) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		s, err := d.status()
		api.Reply(w, s, err)
	})
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		since, err := strconv.ParseUint(r.FormValue("since"), 10, 64)
		if err != nil && r.FormValue("since") != "" {
			api.Reply(w, nil, &api.Error{Status: http.StatusBadRequest, Message: "since: " + err.Error()})
			return
		}
		events := []member.Event{}
		if m, _, _ := d.current(); m != nil {
			events = append(events, m.Events(since)...)
		}
		api.Reply(w, events, nil)
	})
	mux.HandleFunc("POST /v1/activate", d.order(d.activate))
	mux.HandleFunc("POST /v1/deactivate", d.order(d.deactivate))
	mux.HandleFunc("PUT /v1/devices/{name}", d.order(d.reportDevice))
	mux.HandleFunc("DELETE /v1/devices/{name}", d.order(d.unregisterDevice))
	mux.HandleFunc("POST /v1/clear-lock", d.order(func(m *member.Member, _ *http.Request) (member.Reply, error) { return m.ClearLock() }))
	mux.HandleFunc("POST /v1/watch", d.order(watch))
	mux.HandleFunc("POST /v1/priority", d.order(priority))
	mux.HandleFunc("POST /v1/remove", d.order(remove))
	mux.HandleFunc("POST /v1/sync", d.order(d.sync.report))
	mux.HandleFunc("POST /v1/policy", d.order(d.setPolicy))
	mux.HandleFunc("GET /v1/changes", func(w http.ResponseWriter, _ *http.Request) {
		changes := []member.Change{}
		var err error
		if m, _, _ := d.current(); m != nil {
			changes, err = m.Changes()
		}
		api.Reply(w, changes, err)
	})
	mux.HandleFunc("POST /v1/adapt", d.order(d.adapt))
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, _ *http.Request) {
		d.askReload()
		api.Reply(w, api.Message{Message: "reading the node file again; see 'ha'"}, nil)
	})
	mux.HandleFunc("/", api.NotFound)
	return mux
}

func (d *daemon) current() (*member.Member, *node.Node, string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.member, d.node, d.problem
}

func (d *daemon) status() (member.Status, error) {
	m, n, problem := d.current()
	if m != nil {
		if s, err := m.Status(); err == nil {
			return s, nil
		}
		problem = starting
	}
	s := member.Status{State: wire.Down.String(), Reason: "no usable node file", ConfigError: problem}
	if problem == starting {
		s.State, s.Reason, s.ConfigError = wire.Init.String(), problem, ""
	}
	if n != nil && n.Cluster == nil {
		s.Reason, s.ConfigError = problem, ""
	}
	s.Failover.Since = -1
	if n != nil && n.Cluster != nil {
		c := n.Cluster
		s.ClusterID, s.ClusterName, s.Member = c.ID, c.Name, c.Member
		for _, m := range c.Members {
			if m.ID == c.Member {
				s.MemberName, s.Priority = m.Name, m.Priority
			}
		}
		for _, w := range c.Witnesses {
			if w.ID == c.Member {
				s.MemberName = w.Name
			}
		}
	}
	return s, nil
}
