// Package statesyncd is the daemon of state sync: it joins the protocol (ha/statesync) with the kernel's connection
// table, the streams to the other members, had (who holds the role, who is in sync) and its own socket.
//
// One goroutine, the core, owns the protocol's state. Others wait for the kernel's events, walk through its table, read
// from peers, and hand over what they got.
package statesyncd

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/ha/statesync/ctnl"
	"github.com/twinkeep/twinkeep/ha/statesync/link"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// Options of Run.
type Options struct {
	ConfigDir, RunDir string
	Ready             func() // called when the socket is served; may be nil
	Log               *slog.Logger
	EventBuffer       int           // bytes; 0 means ctnl.EventBuffer
	Window            time.Duration // events are collected for so long when many come; 0 means DefaultWindow
	// MemoryLimit is what the Go runtime tries to stay below, in bytes; 0 means a third of the machine's memory.
	MemoryLimit int64
}

// DefaultWindow is how long events are collected when they come in a stream. Single ones leave at once.
const DefaultWindow = 3 * time.Millisecond

// daemon is what lives as long as the process; a life has one node file.
type daemon struct {
	Options
	reload chan struct{}

	mu      sync.Mutex
	core    *core // nil without a cluster
	problem string
}

// Run serves until ctx ends.
func Run(ctx context.Context, o Options) error {
	if o.EventBuffer == 0 {
		o.EventBuffer = ctnl.EventBuffer
	}
	if o.Window == 0 {
		o.Window = DefaultWindow
	}
	if o.MemoryLimit == 0 {
		o.MemoryLimit = memory() / 3
	}
	debug.SetMemoryLimit(o.MemoryLimit)
	if err := os.MkdirAll(o.RunDir, 0o755); err != nil {
		return fmt.Errorf("statesyncd: %w", err)
	}
	ln, err := unixhttp.Listen(filepath.Join(o.RunDir, api.StatesyncdSocket))
	if err != nil {
		return fmt.Errorf("statesyncd: %w", err)
	}
	defer ln.Close()
	d := &daemon{Options: o, reload: make(chan struct{}, 1), problem: "statesyncd is starting"}
	served := make(chan error, 1)
	go func() { served <- unixhttp.Serve(ctx, ln, d.handler()) }()
	if o.Ready != nil {
		o.Ready()
	}
	for ctx.Err() == nil {
		d.life(ctx)
	}
	return <-served
}

// life is one node file, until the next reload.
func (d *daemon) life(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait := func(for_ time.Duration) {
		select {
		case <-ctx.Done():
		case <-d.reload:
		case <-time.After(for_):
		}
	}
	n, _, err := node.LoadRunning(d.ConfigDir, d.RunDir)
	if err == nil && n.Cluster == nil {
		err = errStandalone
	}
	var c *core
	if err == nil {
		c, err = newCore(d.Options, n)
	}
	if err != nil {
		d.set(nil, err.Error())
		if !errors.Is(err, errStandalone) {
			d.Log.Error("connections are not replicated", "err", err)
		}
		wait(10 * time.Second)
		return
	}
	d.set(c, "")
	go func() {
		select {
		case <-d.reload:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := c.run(ctx); err != nil && ctx.Err() == nil {
		d.set(nil, err.Error())
		d.Log.Error("state sync ended; it starts anew", "err", err)
		wait(time.Second)
	}
	d.set(nil, "statesyncd is starting")
}

var errStandalone = errors.New("this is a standalone host: its node file has no cluster section")

func (d *daemon) set(c *core, problem string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.core, d.problem = c, problem
}

func (d *daemon) current() (*core, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.core == nil {
		return nil, &api.Error{Status: http.StatusConflict, Message: "connections are not replicated: " + d.problem}
	}
	return d.core, nil
}

// memory is the machine's, in bytes.
func memory() int64 {
	b, _ := os.ReadFile("/proc/meminfo")
	var kib int64
	fmt.Sscanf(strings.TrimPrefix(string(b), "MemTotal:"), "%d", &kib)
	return max(kib<<10, 256<<20)
}

func nonce() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// newCore opens the kernel's table and makes the protocol's state of a node file.
func newCore(o Options, n *node.Node) (*core, error) {
	enableEvents(o.Log)
	secret, err := link.HashSecret(n.Cluster.Key[:])
	if err != nil {
		return nil, err
	}
	c := &core{
		Options: o, node: n, names: map[uint8]string{}, sessions: map[uint8]*link.Session{}, start: time.Now(), refused: map[statesync.Reason]uint64{},
		saidRefused: map[statesync.Reason]time.Duration{},
		events:      make(chan eventBatch, 64), spare: make(chan []statesync.Event, 64), walked: make(chan walked), frames: make(chan frame, 64), calls: make(chan func()),
		walkNow: make(chan struct{}, 1), roleNow: make(chan struct{}, 1), sayNow: make(chan struct{}, 1), kick: make(chan struct{}, 1),
		barriers: map[uint64]*barrier{}, fetching: map[statesync.Tuple]bool{}, ended: make(chan struct{}),
	}
	cfg := statesync.Config{Cluster: n.Cluster.ID, Self: n.Cluster.Member, Nonce: nonce(), Secret: secret, Addresses: privateAddresses(n)}
	for _, m := range n.Cluster.Members {
		cfg.Members = append(cfg.Members, m.ID)
		c.names[m.ID] = m.Name
	}
	table, err := ctnl.OpenTable()
	if err != nil {
		return nil, err
	}
	c.table = ctnl.NewPipe(table)
	if c.reader, err = ctnl.OpenReader(); err != nil {
		c.table.Close()
		return nil, err
	}
	if c.machine, err = statesync.New(cfg, c.table, c); err == nil {
		c.tls, err = link.Config(n.Cluster.Key[:])
	}
	if err != nil {
		c.table.Close()
		c.reader.Close()
		return nil, err
	}
	return c, nil
}

// enableEvents makes the kernel tell of all connections. By default it only does so of those that began while
// somebody listened.
func enableEvents(log *slog.Logger) {
	const path = "/proc/sys/net/netfilter/nf_conntrack_events"
	if err := os.WriteFile(path, []byte("1"), 0); err != nil {
		log.Warn("connections that began before this process are found by walks only", "err", err)
	}
}

// severity gives a machine's severity the logger's level.
func severity(s statesync.Severity) slog.Level {
	return [...]slog.Level{slog.LevelInfo, member.LevelNotice, slog.LevelWarn, slog.LevelError}[s]
}
