package install

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/peerapi"
	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/fetch"
	"github.com/twinkeep/twinkeep/firmware/policy/internal/powercut"
	"github.com/twinkeep/twinkeep/firmware/policy/sign"
	"github.com/twinkeep/twinkeep/firmware/policy/store"
	"github.com/twinkeep/twinkeep/tools/managertest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	managertest.Cleanup()
	os.Exit(code)
}

var (
	clusterKey = bytes.Repeat([]byte{3}, peerapi.KeyLen)
	signer     = func() crypto.Signer {
		private, _, err := sign.Generate(sign.Ed25519)
		if err != nil {
			panic(err)
		}
		k, err := sign.ParsePrivate(private)
		if err != nil {
			panic(err)
		}
		return k
	}()
	ring = sign.Keyring{{ID: "test", Name: "test", Public: signer.Public()}}
)

func newPolicy(t testing.TB, revision uint64, text string) *artifact.Artifact {
	t.Helper()
	a, err := artifact.New(artifact.Meta{Name: "office", Revision: revision}, fmt.Appendf(nil, "revision: %d\n%s", revision, text))
	if err != nil {
		t.Fatal(err)
	}
	if err := sign.Sign(a, signer); err != nil {
		t.Fatal(err)
	}
	return a
}

// cluster is members with real TLS between them, on disks that can lose their power, and one clock.
type cluster struct {
	t       *testing.T
	members map[uint8]*member
	ids     []uint8

	mu sync.Mutex
	at time.Duration
}

type member struct {
	*Node
	c    *cluster
	id   uint8
	addr string
	disk *powercut.Disk
	boot int
	stop func()

	mu       sync.Mutex
	applied  string // document in force
	apply    error  // what Apply gives next
	rehearse func() error
	events   []string
}

func newCluster(t *testing.T, n int) *cluster {
	c := &cluster{t: t, members: map[uint8]*member{}}
	for id := uint8(1); id <= uint8(n); id++ {
		c.ids = append(c.ids, id)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c.members[id] = &member{c: c, id: id, addr: ln.Addr().String(), disk: powercut.New()}
		ln.Close()
	}
	for _, m := range c.members {
		m.start()
		t.Cleanup(func() { m.stop() })
	}
	return c
}

func (c *cluster) now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *cluster) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at += d
}

// start runs the member's process on its disk.
func (m *member) start() {
	t := m.c.t
	s, err := store.Open(m.disk, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Damage()) > 0 {
		t.Fatalf("member %d: %v", m.id, s.Damage())
	}
	peer := func(id uint8) (fetch.Peer, error) {
		p, err := peerapi.Client(clusterKey, m.id, id, m.c.members[id].addr)
		return fetch.Peer{Peer: p}, err
	}
	boot := fmt.Sprint("boot", m.boot)
	m.Node = &Node{
		Self: m.id, Members: m.c.ids,
		Now: func() Instant { return Instant{boot, m.c.now()} },
		Rehearse: func(context.Context, []byte) error {
			m.mu.Lock()
			f := m.rehearse
			m.mu.Unlock()
			if f != nil {
				return f()
			}
			return nil
		},
		Event: func(s string) { m.mu.Lock(); defer m.mu.Unlock(); m.events = append(m.events, s) },
		Fetcher: &fetch.Fetcher{
			Gatekeeper: fetch.Gatekeeper{Name: "office", Keys: ring, Check: func([]byte) error { return nil }},
			Store:      s, Peer: peer, Transfer: fetch.Transfer{Attempts: 2, Pause: time.Millisecond, Stall: 2 * time.Second},
			Apply: func(_ context.Context, doc []byte) error {
				m.mu.Lock()
				defer m.mu.Unlock()
				if err := m.apply; err != nil {
					m.apply = nil
					return err
				}
				m.applied = string(doc)
				return nil
			},
		},
	}
	mux := http.NewServeMux()
	m.Node.Handle(mux)
	disk := m.disk
	srv, err := peerapi.Server(clusterKey, m.id, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		if !disk.Dead() {
			mux.ServeHTTP(rec, r)
		}
		if disk.Dead() {
			panic(http.ErrAbortHandler) // a machine without power answers nothing
		}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		w.Write(rec.Body.Bytes())
	}))
	if err != nil {
		t.Fatal(err)
	}
	srv.ErrorLog = log.New(io.Discard, "", 0)
	ln, err := net.Listen("tcp", m.addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- peerapi.Serve(ctx, ln, srv) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
}

// restart is a new process on the same boot; reboot is one after a power cut.
func (m *member) restart() { m.stop(); m.start() }

func (m *member) reboot(l powercut.Lost, rng *rand.Rand) {
	m.stop()
	m.disk = m.disk.After(l, rng)
	m.boot++
	m.mu.Lock()
	m.applied = ""
	m.mu.Unlock()
	m.start()
}

func (m *member) revision() uint64 {
	st := m.store().State()
	return st.Ref().Revision
}

func (m *member) runs(revision uint64, what string) {
	m.c.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	want := fmt.Sprintf("revision: %d\n", revision)
	if revision == 0 {
		want = ""
	}
	if got := m.revision(); got != revision || !strings.HasPrefix(m.applied, want) || revision == 0 && m.applied != "" {
		m.c.t.Errorf("%s: member %d has revision %d and applied %.14q, want %d", what, m.id, got, m.applied, revision)
	}
}

func (c *cluster) install(id uint8, a *artifact.Artifact, change func(*Request)) Report {
	c.t.Helper()
	req := Request{Policy: a, Operator: fmt.Sprint("admin", id)}
	if change != nil {
		change(&req)
	}
	r, err := c.members[id].Install(c.t.Context(), req)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// settle lets every member do what is due, several times.
func (c *cluster) settle(ask bool) {
	for range 3 {
		for _, id := range c.ids {
			c.members[id].Settle(c.t.Context(), ask) // an error is tried again, and shows in what runs in the end
		}
	}
}

func (c *cluster) all(revision uint64, what string) {
	c.t.Helper()
	for _, id := range c.ids {
		c.members[id].runs(revision, what)
	}
}

func confirmIn(d time.Duration) func(*Request) { return func(r *Request) { r.Confirm = d } }

// said counts the events with a text in them.
func (m *member) said(text string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.events {
		if strings.Contains(e, text) {
			n++
		}
	}
	return n
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	for range 1000 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it did not happen in 10 s")
}
