// Package peerapi is HTTP between the members of a cluster, over mutual TLS 1.3.
//
// Every member's ed25519 key is derived from the cluster key (HKDF-SHA-256, RFC 5869, with a label of this protocol and
// the member's ID), so every member knows the public keys of all and accepts no other. There is no authority, name, date
// or clock in it. A client names the member it wants and gets that one or an error; a handler asks [Member] who calls.
//
// Messages are JSON of at most MaxMessage bytes. What is larger is read in pieces: [Peer.Open].
package peerapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/netutil"
)

// MaxMessage is the largest message, request or answer, in bytes.
const MaxMessage = 1 << 20

// maxConnections bounds what all peers together, and strangers that never finish their handshake, can hold open.
const maxConnections = 128

// Error is what a member answers when it does not do what it was asked for.
type Error struct {
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"`
	Status  int    `json:"-"` // HTTP status; 0 means 500 in an answer
	Member  uint8  `json:"-"` // who answered
}

// Error gives the message and the hint.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + ": " + e.Hint
}

// ErrUnreachable is matched by the errors of a member that gave no answer.
var ErrUnreachable = errors.New("unreachable")

type memberKey struct{}

// Member is the ID of the member that sent a request.
func Member(r *http.Request) uint8 {
	m, _ := r.Context().Value(memberKey{}).(uint8)
	return m
}

// Server makes the server of member self. Give it to Serve. key is the cluster key.
func Server(key []byte, self uint8, h http.Handler) (*http.Server, error) {
	var others []uint8
	for m := uint8(1); m <= MaxMember; m++ {
		others = append(others, m)
	}
	cfg, known, err := config(key, self, others...)
	if err != nil {
		return nil, fmt.Errorf("peer API: %w", err)
	}
	return &http.Server{
		TLSConfig:         cfg,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.TLS == nil {
				http.Error(w, "TLS only", http.StatusForbidden)
				return
			}
			m, err := known.memberOf(*r.TLS)
			if err != nil {
				http.Error(w, err.Error(), http.StatusForbidden)
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, MaxMessage)
			h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), memberKey{}, m)))
		}),
	}, nil
}

// Serve answers requests until ctx ends.
func Serve(ctx context.Context, ln net.Listener, srv *http.Server) error {
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	err := srv.ServeTLS(netutil.LimitListener(ln, maxConnections), "", "")
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Peer is one other member, as a client sees it. Its methods may be called from any goroutine.
type Peer struct {
	member uint8
	addr   string
	http   *http.Client
}

// Client makes a client of member peer at addr (host:port). It connects when asked for something. key is the cluster
// key, self the member that asks.
func Client(key []byte, self, peer uint8, addr string) (*Peer, error) {
	cfg, _, err := config(key, self, peer)
	if err != nil {
		return nil, fmt.Errorf("peer API: %w", err)
	}
	return &Peer{member: peer, addr: addr, http: &http.Client{Transport: &http.Transport{
		TLSClientConfig:        cfg,
		DialContext:            (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		TLSHandshakeTimeout:    5 * time.Second,
		ResponseHeaderTimeout:  time.Minute, // a member compiles a whole policy before it answers
		MaxResponseHeaderBytes: 16 << 10,
		// A connection kept open breaks when the peer restarts, and an order that was on it is lost or done twice.
		DisableKeepAlives: true,
	}}}, nil
}

// Member is the peer's ID.
func (p *Peer) Member() uint8 { return p.member }

// Call sends in as JSON, when it is not nil, and reads the answer into out, when that is not nil. Errors are *Error, or
// match ErrUnreachable.
func (p *Peer) Call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("member %d: %w", p.member, err)
		}
		if len(body) > MaxMessage {
			return fmt.Errorf("member %d: message of %d bytes, the most is %d", p.member, len(body), MaxMessage)
		}
	}
	resp, err := p.do(ctx, method, path, body, 0)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := Decode(resp.Body, out); err != nil {
		return fmt.Errorf("member %d: answer to %s: %w", p.member, path, err)
	}
	return nil
}

// Open reads something from offset on. The handler serves it with http.ServeContent.
func (p *Peer) Open(ctx context.Context, path string, offset int64) (io.ReadCloser, error) {
	resp, err := p.do(ctx, http.MethodGet, path, nil, offset)
	if err != nil {
		return nil, err
	}
	if offset > 0 && !startsAt(resp, offset) {
		resp.Body.Close()
		return nil, fmt.Errorf("member %d: %s does not start at byte %d", p.member, path, offset)
	}
	return resp.Body, nil
}

func startsAt(resp *http.Response, offset int64) bool {
	return resp.StatusCode == http.StatusPartialContent &&
		strings.HasPrefix(resp.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(offset, 10)+"-")
}

func (p *Peer) do(ctx context.Context, method, path string, body []byte, offset int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+p.addr+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("member %d: %w", p.member, err)
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("member %d at %s: %w: %w", p.member, p.addr, ErrUnreachable, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	e := &Error{}
	if Decode(resp.Body, e) != nil || e.Message == "" {
		e = &Error{Message: fmt.Sprintf("%s %s: %s", method, path, resp.Status)}
	}
	e.Status, e.Member = resp.StatusCode, p.member
	return nil, e
}

// Decode reads one JSON message of at most MaxMessage bytes. Fields it does not know are passed over: members of versions
// N and N+1 understand each other.
func Decode(r io.Reader, v any) error {
	data, err := io.ReadAll(io.LimitReader(r, MaxMessage+1))
	if err != nil {
		return err
	}
	if len(data) > MaxMessage {
		return fmt.Errorf("more than %d bytes", MaxMessage)
	}
	return json.Unmarshal(data, v)
}

// Reply writes v as the answer.
func Reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // the client has gone, if this fails
}

// Refuse writes err as the answer.
func Refuse(w http.ResponseWriter, err error) {
	e := &Error{Message: err.Error()}
	errors.As(err, &e)
	w.Header().Set("Content-Type", "application/json")
	if e.Status == 0 {
		w.WriteHeader(http.StatusInternalServerError)
	} else {
		w.WriteHeader(e.Status)
	}
	json.NewEncoder(w).Encode(e)
}
