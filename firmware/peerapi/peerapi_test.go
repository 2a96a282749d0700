package peerapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

var (
	testKey  = bytes.Repeat([]byte{7}, KeyLen)
	otherKey = bytes.Repeat([]byte{8}, KeyLen)
)

type message struct {
	From uint8  `json:"from"`
	Text string `json:"text"`
}

func serve(t *testing.T, key []byte, self uint8) string {
	t.Helper()
	content := strings.Repeat("0123456789", 1000)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		var m message
		if err := Decode(r.Body, &m); err != nil {
			Refuse(w, &Error{Message: err.Error(), Status: http.StatusBadRequest})
			return
		}
		Reply(w, message{From: Member(r), Text: m.Text})
	})
	mux.HandleFunc("GET /no", func(w http.ResponseWriter, _ *http.Request) {
		Refuse(w, &Error{Message: "not now", Hint: "later", Status: http.StatusConflict})
	})
	mux.HandleFunc("GET /large", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `"`+strings.Repeat("x", MaxMessage)+`"`)
	})
	mux.HandleFunc("GET /blob", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
	})
	srv, err := Server(key, self, mux)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv.ErrorLog = log.New(io.Discard, "", 0) // handshakes that were refused
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, srv) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String()
}

func client(t *testing.T, key []byte, self, peer uint8, addr string) *Peer {
	t.Helper()
	p, err := Client(key, self, peer, addr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCall(t *testing.T) {
	addr := serve(t, testKey, 2)
	p := client(t, testKey, 1, 2, addr)
	var m message
	if err := p.Call(t.Context(), "POST", "/echo", message{Text: "hello"}, &m); err != nil || m != (message{1, "hello"}) {
		t.Errorf("%+v, %v", m, err)
	}
	var e *Error
	if err := p.Call(t.Context(), "GET", "/no", nil, nil); !errors.As(err, &e) || *e != (Error{"not now", "later", 409, 2}) {
		t.Errorf("a refusal: %v", err)
	}
	if err := p.Call(t.Context(), "GET", "/none", nil, nil); !errors.As(err, &e) || e.Status != 404 {
		t.Errorf("not found: %v", err)
	}
	var s string
	if err := p.Call(t.Context(), "GET", "/large", nil, &s); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("an answer beyond the limit: %v", err)
	}
	if err := p.Call(t.Context(), "POST", "/echo", message{Text: strings.Repeat("x", MaxMessage)}, nil); err == nil {
		t.Error("a message beyond the limit was sent")
	}
	for _, offset := range []int64{0, 1, 9999} {
		r, err := p.Open(t.Context(), "/blob", offset)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		r.Close()
		if err != nil || int64(len(data)) != 10000-offset || data[0] != '0'+byte(offset%10) {
			t.Errorf("from %d: %d bytes, %v", offset, len(data), err)
		}
	}
}

// TestStrangers: nobody without the cluster key gets an answer, and nobody is taken for another member.
func TestStrangers(t *testing.T) {
	addr := serve(t, testKey, 2)
	for name, p := range map[string]*Peer{
		"another cluster key":              client(t, otherKey, 1, 2, addr),
		"the server is another member":     client(t, testKey, 1, 3, addr),
		"another key, and expects another": client(t, otherKey, 1, 3, addr),
	} {
		if err := p.Call(t.Context(), "POST", "/echo", message{}, nil); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A client that checks nothing: the server must be the one that refuses.
	stranger, err := identity(otherKey, 1)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := certificate(stranger, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, certs := range map[string][]tls.Certificate{"no certificate": nil, "a stranger's": {cert}} {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certs}}}
		resp, err := c.Get("https://" + addr + "/blob")
		if err == nil {
			resp.Body.Close()
			t.Errorf("%s: %s", name, resp.Status)
		}
		c.CloseIdleConnections()
	}
	for _, member := range []uint8{0, MaxMember + 1} {
		if _, err := Client(testKey, 1, member, addr); err == nil {
			t.Errorf("member %d", member)
		}
	}
	if _, err := Server(testKey[1:], 1, nil); err == nil {
		t.Error("a short key")
	}
}

// TestIdentity holds the derivation: members of different versions must come to the same keys.
func TestIdentity(t *testing.T) {
	for member, want := range map[uint8]string{
		1: "6d56b731883d3df333b0f7884211be1bc20e77423782a3497dccc839e121319d",
		2: "bbea700ab2d6bd9491c006a656f995f50aac819da922312551a916eaea671dbe",
	} {
		k, err := identity(testKey, member)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(k.Seed()); got != want {
			t.Errorf("member %d: %s, want %s", member, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"error":"x","hint":"y"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e Error
		if err := Decode(bytes.NewReader(data), &e); err == nil && len(data) > MaxMessage {
			t.Errorf("%d bytes were read", len(data))
		}
	})
}
