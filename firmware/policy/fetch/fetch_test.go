package fetch

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/twinkeep/twinkeep/firmware/peerapi"
	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/internal/powercut"
	"github.com/twinkeep/twinkeep/firmware/policy/registry"
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
	key, rogue = newKey(), newKey()
	ring       = sign.Keyring{{ID: sign.KeyID(key.Public()), Name: "test", Public: key.Public()}}
	quick      = Transfer{Attempts: 3, Pause: time.Millisecond, Stall: 2 * time.Second}
)

func newKey() crypto.Signer {
	private, _, err := sign.Generate(sign.ECDSA)
	if err != nil {
		panic(err)
	}
	k, err := sign.ParsePrivate(private)
	if err != nil {
		panic(err)
	}
	return k
}

func policy(t testing.TB, revision uint64, k crypto.Signer, document string) *artifact.Artifact {
	t.Helper()
	a, err := artifact.New(artifact.Meta{Name: "office", Revision: revision}, fmt.Appendf(nil, "revision: %d\n%s", revision, document))
	if err != nil {
		t.Fatal(err)
	}
	if err := sign.Sign(a, k); err != nil {
		t.Fatal(err)
	}
	return a
}

// force puts a policy in force in a store.
func force(t testing.TB, s *store.Store, a *artifact.Artifact, synced bool) {
	t.Helper()
	err := s.Update([]*artifact.Artifact{a}, func(st *store.State) error {
		st.Current, st.Floor = a.Digest(), a.Meta.Revision
		st.Entry(a.Digest()).Synced = synced
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func newStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.OpenDir(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// peer serves a store as member 2 and gives its address.
func peer(t *testing.T, s *store.Store) string {
	t.Helper()
	mux := http.NewServeMux()
	Handle(mux, s, func() Head { return HeadOf(s.State()) })
	srv, err := peerapi.Server(clusterKey, 2, mux)
	if err != nil {
		t.Fatal(err)
	}
	srv.ErrorLog = log.New(io.Discard, "", 0)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- peerapi.Serve(ctx, ln, srv) }()
	t.Cleanup(func() { cancel(); <-done })
	return ln.Addr().String()
}

// relay passes TCP on and cuts every connection after so many bytes from the peer. After dies connections it takes no
// more, when dies is not 0.
func relay(t *testing.T, to string, bytes int64, dies int32) (addr string, connections *atomic.Int32) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	connections = new(atomic.Int32)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if n := connections.Add(1); dies > 0 && n > dies {
				c.Close()
				continue
			}
			go func() {
				defer c.Close()
				p, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer p.Close()
				go io.Copy(p, c)
				io.CopyN(c, p, bytes)
			}()
		}
	}()
	return ln.Addr().String(), connections
}

// box is the member that recovers.
type box struct {
	*Fetcher
	applied string
}

func newBox(t *testing.T, s *store.Store, peerAddr string, server *registry.Registry) *box {
	t.Helper()
	b := &box{}
	b.Fetcher = &Fetcher{
		Gatekeeper: Gatekeeper{Name: "office", Keys: ring, Check: func(doc []byte) error {
			if bytes.Contains(doc, []byte("nonsense")) {
				return errors.New("line 2: unknown key nonsense")
			}
			return nil
		}},
		Store: s, Server: server, Transfer: quick, Patience: 2 * time.Second,
		Apply: func(_ context.Context, doc []byte) error { b.applied = string(doc); return nil },
		Peer: func(member uint8) (Peer, error) {
			if peerAddr == "" {
				return Peer{}, errors.New("no address")
			}
			p, err := peerapi.Client(clusterKey, 1, member, peerAddr)
			return Peer{p}, err
		},
	}
	return b
}

// recover runs the order once and wants this revision in force, applied and stored; 0: none.
func (b *box) recover(t *testing.T, active []uint8, want Kind, revision uint64, reason string) Outcome {
	t.Helper()
	o, err := b.Recover(t.Context(), active, false)
	if err != nil {
		t.Fatal(err)
	}
	if o.Kind != want || !strings.Contains(o.String(), reason) {
		t.Errorf("%v; want kind %d with %q", o, want, reason)
	}
	if want == Hold {
		return o
	}
	st := b.Store.State()
	if o.Ref.Revision != revision || revision != 0 && (st.Ref() != o.Ref || !strings.HasPrefix(b.applied, fmt.Sprintf("revision: %d\n", revision))) {
		t.Errorf("in force %v, stored %v, applied %.20q; want revision %d", o.Ref, st.Ref(), b.applied, revision)
	}
	return o
}

var active = []uint8{2}

func TestPeerFirst(t *testing.T) {
	m := managertest.Start(t)
	theirs := newStore(t)
	force(t, theirs, policy(t, 5, key, ""), true)
	if err := m.Registry("policies/office", m.Operator).Push(t.Context(), policy(t, 9, key, "")); err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	b := newBox(t, s, peer(t, theirs), m.Registry("policies/office", m.Gateway))
	b.recover(t, active, Taken, 5, "from member 2")
	b.recover(t, active, Run, 5, "runs the same")
	b.recover(t, nil, Taken, 9, "from the management server")
	// The server is away now: what is here is enough.
	m.Stop()
	b.recover(t, nil, Run, 9, "connection refused")
	// The peer runs an older one than this member has had.
	b.recover(t, active, Run, 9, "refused, this member has had revision 9")
}

func TestPeerDiesInMidTransfer(t *testing.T) {
	m := managertest.Start(t)
	theirs := newStore(t)
	large := policy(t, 5, key, strings.Repeat("# "+strings.Repeat("x", 97)+"\n", 10000)) // 1 MB
	force(t, theirs, large, true)
	addr := peer(t, theirs)
	// A line that breaks every 300 kB: resumed where it was, and each part comes once.
	flaky, connections := relay(t, addr, 300_000, 0)
	newBox(t, newStore(t), flaky, nil).recover(t, active, Taken, 5, "from member 2")
	if n := connections.Load(); n < 8 || n > 9 {
		t.Errorf("%d connections for head, manifest, signatures, payload, and 1 MB in parts of 300 kB", n)
	}
	// A peer that dies after the second connection. The server has it too.
	dead, _ := relay(t, addr, 300_000, 2)
	if err := m.Registry("policies/office", m.Operator).Push(t.Context(), large); err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	b := newBox(t, s, dead, m.Registry("policies/office", m.Gateway))
	b.recover(t, active, Taken, 5, "member 2: ")
	// Without a server and a local policy: closed.
	dead, _ = relay(t, addr, 300_000, 2)
	b = newBox(t, newStore(t), dead, nil)
	b.recover(t, active, Closed, 0, "no usable policy")
	if b.applied != "" {
		t.Error("something was applied")
	}
}

func TestServer(t *testing.T) {
	m := managertest.Start(t)
	operator := m.Registry("policies/office", m.Operator)
	s := newStore(t)
	b := newBox(t, s, "", m.Registry("policies/office", m.Gateway))
	push := func(a *artifact.Artifact) {
		t.Helper()
		if err := operator.Push(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	b.recover(t, nil, Closed, 0, "the management server has no policy")
	push(policy(t, 3, rogue, ""))
	b.recover(t, nil, Closed, 0, "no valid signature of a pinned key")
	push(policy(t, 3, key, "nonsense: 1\n"))
	b.recover(t, nil, Closed, 0, "unknown key nonsense")
	push(policy(t, 3, key, "# good\n"))
	b.recover(t, nil, Taken, 3, "")
	push(policy(t, 2, key, "")) // replayed
	b.recover(t, nil, Run, 3, "older revision 2")
	push(policy(t, 3, key, "# another\n"))
	b.recover(t, nil, Run, 3, "another revision 3")
	push(policy(t, 4, rogue, ""))
	b.recover(t, nil, Run, 3, "no valid signature")
	wrong := policy(t, 4, key, "")
	branch, err := artifact.New(artifact.Meta{Name: "branch", Revision: 4}, wrong.Document)
	if err != nil {
		t.Fatal(err)
	}
	if err := sign.Sign(branch, key); err != nil {
		t.Fatal(err)
	}
	push(branch)
	b.recover(t, nil, Run, 3, `is for "branch"`)
	// A rollback: old content as a new revision.
	push(policy(t, 5, key, "# good\n"))
	b.recover(t, nil, Taken, 5, "")
	// A gateway's token cannot publish, a wrong one cannot read.
	if err := m.Registry("policies/office", m.Gateway).Push(t.Context(), policy(t, 6, key, "")); err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("a gateway published: %v", err)
	}
	b.Server = m.Registry("policies/office", "tkm_wrong")
	b.recover(t, nil, Run, 5, "does not accept the token")
	// A server that is not the pinned one.
	c := m.Config("policies/office", m.Gateway)
	c.CA = managertest.Start(t).CA
	stranger, err := registry.New(c)
	if err != nil {
		t.Fatal(err)
	}
	b.Server = stranger
	b.recover(t, nil, Run, 5, "certificate signed by unknown authority")
}

// TestKeyRotation: a policy counts as long as one pinned key has signed it, the local one too.
func TestKeyRotation(t *testing.T) {
	s := newStore(t)
	a := policy(t, 3, key, "")
	force(t, s, a, true)
	b := newBox(t, s, "", nil)
	b.Keys = sign.Keyring{{ID: "new", Name: "new", Public: rogue.Public()}}
	b.recover(t, nil, Closed, 0, "the local policy is not usable")
	if err := sign.Sign(a, rogue); err != nil { // signed with both: the same manifest
		t.Fatal(err)
	}
	if err := s.Update([]*artifact.Artifact{a}, nil); err != nil {
		t.Fatal(err)
	}
	b.recover(t, nil, Run, 3, "")
}

func TestUnsynced(t *testing.T) {
	theirs, s := newStore(t), newStore(t)
	common, lost := policy(t, 5, key, ""), policy(t, 6, key, "# lost\n")
	force(t, theirs, common, true)
	force(t, s, common, true)
	force(t, s, lost, false)
	b := newBox(t, s, peer(t, theirs), nil)
	o := b.recover(t, active, Hold, 5, "never reached it")
	if len(o.Unsynced) != 1 || o.Unsynced[0] != lost.Ref() || b.applied != "" {
		t.Errorf("unsynced %v, applied %q", o.Unsynced, b.applied)
	}
	st := s.State()
	if st.Ref() != lost.Ref() || !st.Entry(lost.Digest()).Pinned {
		t.Errorf("in the store: %v, %+v", st.Ref(), st.Entry(lost.Digest()))
	}
	// The operator gives it up: the cluster's goes in, the lost one stays retrievable.
	if o, err := b.Recover(t.Context(), active, true); err != nil || o.Kind != Taken || o.Ref != common.Ref() {
		t.Fatalf("%v, %v", o, err)
	}
	if got, err := s.Load(lost.Digest()); err != nil || string(got.Document) != string(lost.Document) {
		t.Errorf("the lost commit: %v", err)
	}
	// The cluster's next revision has the number of the lost one.
	next := policy(t, 6, key, "# next\n")
	force(t, theirs, next, true)
	b.recover(t, active, Taken, 6, "from member 2")
	if st := s.State(); len(Commits(st)) != 0 || !st.Entry(lost.Digest()).Abandoned {
		t.Errorf("commits %v, the lost one %+v", Commits(st), st.Entry(lost.Digest()))
	}
}

// TestRecoveryWithAFullDisk: what does not fit does not come into force, and what is there stays.
func TestRecoveryWithAFullDisk(t *testing.T) {
	theirs := newStore(t)
	force(t, theirs, policy(t, 6, key, ""), true)
	addr := peer(t, theirs)
	d := powercut.New()
	s, err := store.Open(d, 0)
	if err != nil {
		t.Fatal(err)
	}
	force(t, s, policy(t, 5, key, ""), true)
	b := newBox(t, s, addr, nil)
	for room := 0; room < 3000; room += 500 {
		d.Room(room)
		b.recover(t, active, Run, 5, syscall.ENOSPC.Error())
	}
	d.Room(-1)
	b.recover(t, active, Taken, 6, "from member 2")
}

// TestRecoveryWithPowerCuts cuts the power at many places of a recovery. The member that boots then has the old revision
// or the new one, and the next recovery ends with the new one.
func TestRecoveryWithPowerCuts(t *testing.T) {
	theirs := newStore(t)
	force(t, theirs, policy(t, 6, key, ""), true)
	addr := peer(t, theirs)
	before := policy(t, 5, key, "")
	run := func(d *powercut.Disk, cut int) *box {
		s, err := store.Open(d, 0)
		if err != nil {
			t.Fatal(err)
		}
		if s.State().Current == "" {
			force(t, s, before, true)
		}
		if cut >= 0 {
			d.CutAfter(cut)
		}
		return newBox(t, s, addr, nil)
	}
	whole := powercut.New()
	run(whole, 1<<30).recover(t, active, Taken, 6, "")
	for _, n := range whole.Cuts(997) {
		d := powercut.New()
		b := run(d, n)
		o, err := b.Recover(t.Context(), active, false)
		if err != nil {
			t.Fatal(err)
		}
		after := d.After(powercut.LostAll, nil)
		s, err := store.Open(after, 0)
		if err != nil || len(s.Damage()) > 0 {
			t.Fatalf("cut after %d steps: %v, %v", n, err, s.Damage())
		}
		st := s.State()
		if r := st.Ref().Revision; r != 6 && (r != 5 || o.Kind == Taken) {
			t.Fatalf("cut after %d steps: %v, stored %v", n, o, st.Ref())
		}
		b = newBox(t, s, addr, nil)
		if o, err := b.Recover(t.Context(), active, false); err != nil || o.Ref.Revision != 6 {
			t.Fatalf("cut after %d steps, next boot: %v, %v", n, o, err)
		}
	}
}

// TestKeepRetries: with nothing, the member stays closed, says why, and comes up when a source does.
func TestKeepRetries(t *testing.T) {
	m := managertest.Start(t)
	if err := m.Registry("policies/office", m.Operator).Push(t.Context(), policy(t, 3, key, "")); err != nil {
		t.Fatal(err)
	}
	m.Stop()
	b := newBox(t, newStore(t), "", m.Registry("policies/office", m.Gateway))
	var closed []Outcome
	try := func(ctx context.Context) (Outcome, error) { return b.Recover(ctx, nil, false) }
	o, err := Keep(t.Context(), try, func(int) time.Duration { return 10 * time.Millisecond }, nil, func(o Outcome, _ time.Duration) {
		if o.Kind == Closed {
			if closed = append(closed, o); len(closed) == 2 {
				m.Restart()
			}
		}
	})
	if err != nil || o.Kind != Taken || o.Ref.Revision != 3 || len(closed) < 2 {
		t.Fatalf("%v, %v after %v", o, err, closed)
	}
	if !strings.Contains(closed[0].String(), "closed, without a policy") || !strings.Contains(closed[0].String(), "refused") {
		t.Errorf("the console reads: %s", closed[0])
	}
}

// TestKeepWakes: news end a wait.
func TestKeepWakes(t *testing.T) {
	wake := make(chan struct{}, 1)
	tries := 0
	try := func(context.Context) (Outcome, error) {
		if tries++; tries < 3 {
			return Outcome{Kind: Closed}, nil
		}
		return Outcome{Kind: Run}, nil
	}
	o, err := Keep(t.Context(), try, func(attempt int) time.Duration {
		if attempt != 1 {
			t.Errorf("attempt %d after news", attempt)
		}
		return time.Hour
	}, wake, func(Outcome, time.Duration) { wake <- struct{}{} })
	if err != nil || o.Kind != Run || tries != 3 {
		t.Errorf("%v, %v after %d tries", o, err, tries)
	}
}

func FuzzHead(f *testing.F) {
	f.Add([]byte(`{"revision":1,"digest":"` + string(digest.FromString("x")) + `"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var h Head
		if peerapi.Decode(bytes.NewReader(data), &h) != nil || h.check() != nil {
			return
		}
		var m Machine
		m.Start(local(3), []uint8{2}, false)
		if act := m.Answered(h, nil); act.Kind == Take && act.Ref.Revision <= 3 {
			t.Errorf("%+v would be taken", h)
		}
	})
}
