package sshd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/init/supervise"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// User is the name to log in with.
const User = "admin"

// grace is how long a connection may take to log in.
const grace = 45 * time.Second

// Options of Run.
type Options struct {
	ConfigDir, StateDir, RunDir string
	// Program is the multi-call binary: it is run as the front and as consoles.
	Program string
	Ready   func() // called when the socket is served; may be nil
	Log     *slog.Logger
	// Listen, if set, is used instead of the port of the settings, for tests.
	Listen func() (net.Listener, error)
}

// keeper is the process with the privileges.
type keeper struct {
	Options
	host   ssh.Signer
	hashes sync.Mutex // one password is compared at a time: it takes 19 MB and a processor

	mu        sync.Mutex
	settings  settings
	listener  net.Listener
	listening string // where; empty: nowhere
	problem   string
	guard     *guard
	conns     map[uint64]*conn
	sessions  map[uint64]*session
	last      uint64 // ID of a connection or session
	front     *front
	began     time.Duration // the newest front
	idle      time.Duration // no connection since
	counts    api.SSHCounts
	refused   map[string]uint64 // since they were last logged, by why
}

// conn is one connection as the keeper sees it.
type conn struct {
	id       uint64
	source   netip.AddrPort
	since    time.Duration
	tries    int  // passwords
	offers   int  // keys
	busy     bool // a password is being compared
	known    bool
	failed   bool // a login has failed
	user, by string
	key      string // fingerprint, when it came by a key
	sessions int
}

// Run keeps the console over the network until ctx ends.
func Run(ctx context.Context, o Options) error {
	host, note, err := hostKey(o.StateDir)
	if err != nil {
		return fmt.Errorf("sshd: make a host key: %w", err)
	}
	if note != "" {
		o.Log.Error(note)
	}
	// Whatever carries traffic comes first; and a console must not be what the machine runs out of memory by.
	unix.Setpriority(unix.PRIO_PGRP, 0, 5)
	os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0)
	if err := os.MkdirAll(o.RunDir, 0o755); err != nil {
		return fmt.Errorf("sshd: %w", err)
	}
	ln, err := unixhttp.Listen(filepath.Join(o.RunDir, api.SSHSocket))
	if err != nil {
		return fmt.Errorf("sshd: %w", err)
	}
	defer ln.Close()
	k := &keeper{
		Options: o, host: host, guard: newGuard(), conns: make(map[uint64]*conn), sessions: make(map[uint64]*session), refused: make(map[string]uint64),
		problem: "sshd is starting",
	}
	served := make(chan error, 1)
	go func() { served <- unixhttp.Serve(ctx, ln, k.handler()) }()
	k.look()
	if o.Ready != nil {
		o.Ready()
	}
	k.Log.Info("the console over the network has a host key", "fingerprint", ssh.FingerprintSHA256(host.PublicKey()))
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			k.close()
			return <-served
		case err := <-served:
			k.close()
			return err
		case <-tick.C:
			k.look()
			k.tidy()
		}
	}
}

func (k *keeper) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.listener != nil {
		k.listener.Close()
		k.listener = nil
	}
	for _, s := range k.sessions {
		s.end()
	}
	if k.front != nil {
		k.front.kill()
	}
}

// idleFront is how long the front stays without a connection.
const idleFront = time.Minute

// tidy looks after what nobody else does: every second.
func (k *keeper) tidy() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := supervise.Uptime()
	for why, n := range k.refused {
		k.Log.Warn("connections refused", "why", why, "count", n)
	}
	clear(k.refused)
	if k.front == nil {
		return
	}
	if len(k.conns) > 0 {
		k.idle = now
	} else if now-k.idle > idleFront {
		k.front.Close() // it ends by that
		return
	}
	for _, c := range k.conns {
		if !c.known && now-c.since > grace+30*time.Second {
			k.Log.Error("the front does not end a connection that has not logged in; it is started anew")
			k.front.kill()
			return
		}
	}
}

// accept takes connections until the listener is closed.
func (k *keeper) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, or gone again
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			if why := k.arrived(tcp); why != "" {
				k.mu.Lock()
				k.refused[why]++
				k.counts.Refused++
				k.mu.Unlock()
			}
		}
		c.Close() // the front has its own
	}
}

// arrived gives a connection to the front, or says why not. Causes are few: they are counted by their text.
func (k *keeper) arrived(c *net.TCPConn) (refusal string) {
	remote, local := c.RemoteAddr().(*net.TCPAddr).AddrPort(), c.LocalAddr().(*net.TCPAddr).AddrPort()
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 15 * time.Second, Count: 4})
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.settings.vips[local.Addr().Unmap().WithZone("")] {
		return "it came in on a virtual address"
	}
	f, err := k.ensureFront()
	if err != nil {
		return err.Error()
	}
	k.last++
	id, now := k.last, supervise.Uptime()
	leave, why := k.guard.admit(now, id, remote.Addr())
	if why != "" {
		return why
	}
	if leave != 0 {
		k.refused["another connection took its place before it had logged in"]++
		k.drop(leave)
	}
	raw, err := c.SyscallConn()
	if err == nil {
		var sent error
		err = raw.Control(func(fd uintptr) {
			// What the other side does not acknowledge for so long is lost; keepalives do not look then.
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 90_000)
			sent = f.send(message{Op: opConnection, Conn: id, Source: remote.String()}, int(fd))
		})
		err = errors.Join(err, sent)
	}
	if err != nil {
		k.guard.left(id)
		f.kill()
		return "the front does not answer"
	}
	k.conns[id] = &conn{id: id, source: remote, since: now}
	k.counts.Connections++
	return ""
}

// gone takes the end of a connection. mu is held.
func (k *keeper) gone(id uint64) {
	c := k.conns[id]
	if c == nil {
		return
	}
	delete(k.conns, id)
	k.guard.left(id)
	for _, s := range k.sessions {
		if s.conn == c {
			s.end()
		}
	}
	if c.known {
		k.Log.Info("logout", "user", c.user, "source", c.source.Addr(), "by", c.by)
	}
}
