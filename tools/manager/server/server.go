// Package server is the management server: the reference registry library (github.com/distribution/distribution) on a
// local disk, with TLS of its own authority and tokens. Anything that speaks the OCI distribution specification can push
// to it and pull from it.
package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // the storage
	"github.com/sirupsen/logrus"
	"golang.org/x/net/netutil"
)

// Options of Open.
type Options struct {
	Dir   string   // has everything: keys, tokens, policies
	Names []string // host names and addresses for the certificate, beside those that the machine has
	Log   *slog.Logger
}

// Server is one management server.
type Server struct {
	Tokens *Tokens
	// First is true when the directory was new: there is no token yet.
	First bool

	log      *slog.Logger
	ca       *authority
	leaf     *leaf
	app      *handlers.App
	count    counter
	registry string // its directory
}

// Open makes what is missing in the directory. Nothing is served yet.
func Open(ctx context.Context, opts Options) (s *Server, err error) {
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	s = &Server{log: opts.Log, registry: filepath.Join(opts.Dir, "registry")}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.ca, err = openAuthority(opts.Dir); err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	if s.Tokens, err = OpenTokens(opts.Dir); err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	list, err := s.Tokens.List()
	if err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	s.First = len(list) == 0
	s.leaf = &leaf{ca: s.ca, names: append(localNames(), opts.Names...)}
	if s.app, err = newApp(ctx, s.registry, s.Tokens); err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	return s, nil
}

// newApp makes the registry. The library panics when it does not like its configuration.
func newApp(ctx context.Context, dir string, tokens *Tokens) (app *handlers.App, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("registry in %s: %v", dir, p)
		}
	}()
	logrus.SetLevel(logrus.ErrorLevel) // the library logs every request
	secret := make([]byte, 32)
	rand.Read(secret)
	cfg := &configuration.Configuration{
		Version: "0.1",
		Storage: configuration.Storage{
			"filesystem": {"rootdirectory": dir},
			"delete":     {"enabled": true},
			"cache":      {"blobdescriptor": "inmemory"},
		},
		Auth: configuration.Auth{accessName: {"tokens": tokens}},
	}
	cfg.HTTP.Secret = hex.EncodeToString(secret) // of uploads under way
	cfg.HTTP.RelativeURLs = true                 // clients know the server by several names
	cfg.Log.AccessLog.Disabled = true
	return handlers.NewApp(ctx, cfg), nil
}

// maxConnections bounds the memory. Who comes then waits in the kernel's queue.
const maxConnections = 4096

// CA is the certificate that gateways pin, as PEM.
func (s *Server) CA() []byte { return s.ca.pem }

// Serve answers requests until ctx ends.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           s.counted(s.blobs(s.app)),
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      10 * time.Minute, // also for uploads; it begins anew with every request
		IdleTimeout:       90 * time.Second,
		MaxHeaderBytes:    32 << 10,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.leaf.get},
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 only: less memory for each of thousands
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		limit, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if srv.Shutdown(limit) != nil {
			srv.Close()
		}
	})
	defer func() {
		if !stop() {
			<-done
		}
		if err := s.app.Shutdown(); err != nil {
			s.log.Error("close the registry", "err", err)
		}
	}()
	reporting := make(chan struct{})
	reportCtx, cancel := context.WithCancel(ctx)
	go func() { defer close(reporting); s.report(reportCtx) }()
	defer func() { cancel(); <-reporting }()
	if err := srv.ServeTLS(netutil.LimitListener(ln, maxConnections), "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
