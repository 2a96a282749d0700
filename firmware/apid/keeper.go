package apid

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/jail"
	"github.com/twinkeep/twinkeep/init/supervise"
	"github.com/twinkeep/twinkeep/init/unixhttp"
	"github.com/twinkeep/twinkeep/init/vault"
)

// Options of Run.
type Options struct {
	ConfigDir, StateDir, RunDir string
	// Program is the multi-call binary: it is run as the front.
	Program string
	Version string // of the firmware, for techsupport
	Ready   func() // called when the socket is served; may be nil
	Log     *slog.Logger
}

// keeper is the process with the privileges.
type keeper struct {
	Options
	key     *ecdsa.PrivateKey
	pin     string
	daemons map[string]http.Handler // by socket
	edit    sync.Mutex              // of the tokens: read, change, write

	mu       sync.Mutex
	settings settings
	tokens   []Token
	tokenErr error
	listener *net.TCPListener
	port     uint16 // of the listener
	problem  string
	front    *front
	began    time.Duration // the newest front
	limit    *limiter
	counts   api.RemoteCounts
	refused  map[string]uint64 // since they were last logged, by why
}

// socketName is the keeper's socket in the front's root.
const socketName = "keeper.sock"

// Run keeps the API over the network until ctx ends.
func Run(ctx context.Context, o Options) error {
	key, note, err := loadKey(o.StateDir)
	if err != nil {
		return fmt.Errorf("apid: make a key: %w", err)
	}
	if note != "" {
		o.Log.Error(note)
	}
	k := &keeper{Options: o, key: key, daemons: map[string]http.Handler{}, limit: newLimiter(), refused: map[string]uint64{}}
	if k.pin, err = Pin(key.Public()); err != nil {
		return fmt.Errorf("apid: %w", err)
	}
	for _, r := range routes {
		if r.socket == archive {
			k.daemons[archive] = k.archive()
		} else if k.daemons[r.socket] == nil {
			k.daemons[r.socket] = k.daemon(r.socket)
		}
	}
	// Whatever carries traffic comes first; and an API must not be what the machine runs out of memory by.
	unix.Setpriority(unix.PRIO_PGRP, 0, 5)
	os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 2)
	serve := func(path string, h http.Handler, owner int) error {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		ln, err := unixhttp.Listen(path)
		if err != nil {
			return err
		}
		if owner != 0 {
			if err := os.Chown(path, owner, owner); err != nil {
				ln.Close()
				return err
			}
		}
		go func() { served <- unixhttp.Serve(ctx, ln, h) }()
		return nil
	}
	if err := errors.Join(serve(filepath.Join(o.RunDir, api.RemoteSocket), k.local(), 0), serve(filepath.Join(k.root(), socketName), k.forFront(), jail.Nobody)); err != nil {
		return fmt.Errorf("apid: %w", err)
	}
	defer k.shut()
	k.look()
	if o.Ready != nil {
		o.Ready()
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			if ctx.Err() == nil {
				return fmt.Errorf("apid: %w", err)
			}
		case <-tick.C:
			k.look()
		}
	}
}

// root is the front's root directory: it has the keeper's socket and nothing else.
func (k *keeper) root() string { return filepath.Join(k.RunDir, "apid.front") }

// look follows the settings and the tokens, and keeps a front where there should be one.
func (k *keeper) look() {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.settings
	k.settings = before.read(k.ConfigDir, k.RunDir)
	tokens, err := LoadTokens(k.ConfigDir)
	if err != nil && (k.tokenErr == nil || err.Error() != k.tokenErr.Error()) {
		k.Log.Error("no token is good until that is mended", "err", err)
	}
	k.tokens, k.tokenErr = tokens, err
	for why, n := range k.refused {
		k.Log.Warn("requests refused", "why", why, "count", n)
	}
	clear(k.refused)
	port := k.settings.port
	if len(tokens) == 0 {
		port = 0 // nobody could get in
	}
	if k.port != port || before.changed(k.settings) {
		k.close()
	}
	k.problem = ""
	if port == 0 {
		return
	}
	if k.listener == nil {
		ln, err := net.ListenTCP("tcp", &net.TCPAddr{Port: int(port)})
		if err != nil {
			k.problem = err.Error()
			return
		}
		k.listener, k.port = ln, port
		k.Log.Info("the API over the network listens", "port", port, "key", k.pin)
	}
	if k.front == nil {
		if err := k.startFront(); err != nil {
			k.problem = err.Error()
		}
	}
}

// close ends the front and the listener. mu is held.
func (k *keeper) close() {
	if k.front != nil {
		k.front.kill()
		k.front = nil
	}
	if k.listener != nil {
		k.listener.Close()
		k.listener, k.port = nil, 0
		k.Log.Info("the API over the network is closed")
	}
}

func (k *keeper) shut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.close()
}

// forFront is what the front asks for: of its own, and for strangers.
func (k *keeper) forFront() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /certificate", func(w http.ResponseWriter, _ *http.Request) {
		der, err := k.certificate()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Write(der)
	})
	m.HandleFunc("POST /sign", func(w http.ResponseWriter, r *http.Request) {
		digest, err := io.ReadAll(io.LimitReader(r.Body, 65))
		if err != nil || len(digest) != crypto.SHA256.Size() { // what TLS has a P-256 key sign
			http.Error(w, "want the SHA-256 of something", http.StatusBadRequest)
			return
		}
		sig, err := k.key.Sign(rand.Reader, digest, crypto.SHA256)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Write(sig)
	})
	m.Handle(Prefix+"/", mux(k.serve))
	return m
}

// certificate is that for the addresses of now. It is kept: clients have copies.
func (k *keeper) certificate() ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	path := filepath.Join(k.StateDir, certFile)
	if data, err := os.ReadFile(path); err == nil {
		if c, err := x509.ParseCertificate(data); err == nil && fits(c, k.key, k.settings) {
			return data, nil
		}
	}
	der, err := certificate(k.key, k.settings.hostname, k.settings.addresses)
	if err != nil {
		return nil, err
	}
	if err := vault.Write(path, der); err != nil {
		k.Log.Error("the certificate of the API is not kept, and will be another one", "err", err)
	}
	return der, nil
}

// now is the clock of the limits.
func now() time.Duration { return supervise.Uptime() }
