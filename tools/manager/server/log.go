package server

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// counter is what happened since the last report.
type counter struct {
	polls     atomic.Int64 // HEAD of a manifest
	downloads atomic.Int64 // GET of a manifest or blob
	refused   atomic.Int64 // 401, 403
	failed    atomic.Int64 // 5xx
	sent      atomic.Int64 // bytes of bodies
}

// response notes what a handler answers.
type response struct {
	http.ResponseWriter
	status int
	sent   int64
}

func (r *response) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *response) Write(p []byte) (int, error) {
	n, err := r.ResponseWriter.Write(p)
	r.sent += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// counted logs what changes something at once, and counts the rest for report.
func (s *Server) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		res := &response{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(res, r)
		s.count.sent.Add(res.sent)
		manifest := strings.Contains(r.URL.Path, "/manifests/")
		switch {
		case res.status == http.StatusUnauthorized || res.status == http.StatusForbidden:
			// A client's first request has no token: it asks what is wanted.
			if r.Header.Get("Authorization") != "" {
				s.count.refused.Add(1)
				s.log.Warn("refused", "client", r.RemoteAddr, "method", r.Method, "path", r.URL.Path)
			}
		case res.status >= 500:
			s.count.failed.Add(1)
			s.log.Error("failed", "client", r.RemoteAddr, "method", r.Method, "path", r.URL.Path, "status", res.status)
		case (r.Method == http.MethodPut || r.Method == http.MethodDelete) && manifest && res.status < 300:
			token, _ := s.Tokens.find(r)
			s.log.Info("published", "method", r.Method, "path", r.URL.Path, "digest", res.Header().Get("Docker-Content-Digest"),
				"token", token.Name, "client", r.RemoteAddr)
		case r.Method == http.MethodHead && manifest:
			s.count.polls.Add(1)
		case r.Method == http.MethodGet:
			s.count.downloads.Add(1)
		}
	})
}

// reportEvery is the time between two lines of totals.
const reportEvery = time.Minute

// report logs the totals once a minute, when there are any.
func (s *Server) report(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		polls, downloads := s.count.polls.Swap(0), s.count.downloads.Swap(0)
		refused, failed, sent := s.count.refused.Swap(0), s.count.failed.Swap(0), s.count.sent.Swap(0)
		if polls+downloads+refused+failed > 0 {
			s.log.Info("last minute", "polls", polls, "downloads", downloads, "refused", refused, "failed", failed, "bytes", sent)
		}
	}
}
