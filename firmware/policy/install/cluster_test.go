package install

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
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
	"github.com/twinkeep/twinkeep/tools/manager/managertest"
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

func TestInstallEverywhere(t *testing.T) {
	c := newCluster(t, 3)
	// Through any member; the others get it from there, in several parts.
	if r := c.install(2, newPolicy(t, 1, strings.Repeat("# x\n", 50000)), nil); !r.Installed || len(r.Missed()) > 0 {
		t.Fatal(r)
	}
	c.all(1, "first install")
	if r := c.install(3, newPolicy(t, 2, ""), nil); !r.Installed || len(r.Missed()) > 0 {
		t.Fatal(r)
	}
	c.all(2, "second install")
	for _, m := range c.members {
		if st := m.store().State(); !st.Entry(st.Current).Synced || st.Floor != 2 || st.Candidate != "" || m.Record().Prepared != nil {
			t.Errorf("member %d: %+v", m.id, st)
		}
	}
	for _, revision := range []uint64{1, 2} {
		if r := c.install(1, newPolicy(t, revision, "# other\n"), nil); r.Installed || !strings.Contains(r.String(), "not newer") {
			t.Error(r)
		}
	}
	c.all(2, "older ones")
}

func TestMemberRejects(t *testing.T) {
	c := newCluster(t, 3)
	c.install(1, newPolicy(t, 1, ""), nil)
	two := c.members[2]
	two.rehearse = func() error { return errors.New("no interface G4 here") }
	r := c.install(1, newPolicy(t, 2, ""), nil)
	if r.Installed || !strings.Contains(r.String(), "member 2 rejected (") || !strings.Contains(r.String(), "no interface G4 here") {
		t.Error(r)
	}
	c.all(1, "one rejects")
	// The operator wants it on the others.
	r = c.install(1, newPolicy(t, 3, ""), func(r *Request) { r.Partial = true })
	if !r.Installed || !slices.Equal(r.Missed(), []string{"member 2"}) {
		t.Error(r)
	}
	c.members[1].runs(3, "partial")
	two.runs(1, "partial")
	c.members[3].runs(3, "partial")
	st := c.members[1].store().State()
	if e := st.Entry(st.Current); e.Synced || !slices.Equal(e.Missed, []string{"member 2"}) {
		t.Errorf("the coordinator notes %+v", e)
	}
	// It rehearses well, and does not apply: that member keeps the old one and says why, the others go on.
	two.rehearse = nil
	two.mu.Lock()
	two.apply = errors.New("the kernel has no flowtables")
	two.mu.Unlock()
	r = c.install(3, newPolicy(t, 4, ""), nil)
	if !r.Installed || !strings.Contains(r.String(), "flowtables") {
		t.Error(r)
	}
	two.runs(1, "does not apply")
	c.members[1].runs(4, "does not apply")
	if st := two.store().State(); !strings.Contains(st.Entries[len(st.Entries)-1].Refused, "flowtables") {
		t.Errorf("member 2 notes %+v", st.Entries)
	}
	// The recovery order brings it the cluster's policy.
	if o, err := two.Recover(t.Context(), []uint8{1}, false); err != nil || o.Kind != fetch.Taken {
		t.Fatal(o, err)
	}
	c.all(4, "after the recovery")
}

func TestMemberUnreachable(t *testing.T) {
	c := newCluster(t, 2)
	c.install(1, newPolicy(t, 1, ""), nil)
	c.members[2].stop()
	r := c.install(1, newPolicy(t, 2, ""), nil)
	if r.Installed || !strings.Contains(r.String(), "member 2 unreachable") {
		t.Error(r)
	}
	c.members[1].runs(1, "not without member 2")
	r = c.install(1, newPolicy(t, 3, ""), func(r *Request) { r.Partial = true })
	if !r.Installed {
		t.Error(r)
	}
	c.members[1].runs(3, "without member 2")
	// Member 1 crashes, member 2 comes back and is active with the old one: the commit never reached it.
	c.members[2].start()
	one := c.members[1]
	one.reboot(powercut.LostAll, nil)
	o, err := one.Recover(t.Context(), []uint8{2}, false)
	if err != nil || o.Kind != fetch.Hold || len(o.Unsynced) != 1 || o.Unsynced[0].Revision != 3 {
		t.Fatal(o, err)
	}
	// The operator keeps it: installed again, now on both.
	a, err := one.store().Load(o.Unsynced[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if r := c.install(1, a, nil); !r.Installed || len(r.Missed()) > 0 {
		t.Error(r)
	}
	c.all(3, "installed again")
	if o, err := one.Recover(t.Context(), []uint8{2}, false); err != nil || o.Kind != fetch.Run {
		t.Error(o, err)
	}
}

func TestTwoOperators(t *testing.T) {
	c := newCluster(t, 3)
	c.install(1, newPolicy(t, 1, ""), nil)
	for round := range 10 {
		both := [2]*artifact.Artifact{newPolicy(t, uint64(2+round), "# a\n"), newPolicy(t, uint64(2+round), "# b\n")}
		var reports [2]Report
		var wg sync.WaitGroup
		for i, id := range []uint8{2, 3} {
			wg.Go(func() { reports[i] = c.install(id, both[i], nil) })
		}
		wg.Wait()
		winner := 0
		if reports[1].Installed {
			winner = 1
		}
		if reports[0].Installed == reports[1].Installed {
			t.Fatalf("round %d:\n%v\n%v", round, reports[0], reports[1])
		}
		// Both began at once, or the second came when the first was through.
		if loser := reports[1-winner].String(); !strings.Contains(loser, "is under way") && !strings.Contains(loser, "not newer") {
			t.Errorf("the loser reads: %s", loser)
		}
		for _, m := range c.members {
			if st := m.store().State(); st.Current != both[winner].Digest() {
				t.Fatalf("round %d: member %d has %v", round, m.id, st.Ref())
			}
		}
	}
}

func TestConfirm(t *testing.T) {
	c := newCluster(t, 2)
	c.install(1, newPolicy(t, 1, ""), nil)
	// Confirmed at the other member.
	c.install(1, newPolicy(t, 2, ""), confirmIn(5*time.Minute))
	c.all(2, "unconfirmed")
	if r := c.install(2, newPolicy(t, 3, ""), nil); r.Installed || !strings.Contains(r.String(), "awaits its confirmation") {
		t.Error(r)
	}
	if err := c.members[2].End(t.Context(), true, "admin"); err != nil {
		t.Fatal(err)
	}
	c.pass(time.Hour)
	c.settle(false)
	c.all(2, "confirmed")
	// Not confirmed; one process is restarted meanwhile, on the same boot.
	c.install(2, newPolicy(t, 3, ""), confirmIn(5*time.Minute))
	c.pass(3 * time.Minute)
	c.members[1].restart()
	c.settle(true)
	c.all(3, "after a restart")
	c.pass(2 * time.Minute)
	c.settle(false)
	c.all(2, "not confirmed")
	if st := c.members[1].store().State(); st.Floor != 2 {
		t.Errorf("floor %d", st.Floor)
	}
	// It is not taken again by itself; an operator may want it.
	again := newPolicy(t, 3, "")
	st := c.members[1].store().State()
	if a, err := c.members[1].store().Load(st.Entries[len(st.Entries)-1].Digest); err == nil {
		again = a
	}
	if r := c.install(1, again, nil); r.Installed || !strings.Contains(r.String(), "not confirmed within 5m0s") {
		t.Error(r)
	}
	if r := c.install(1, again, func(r *Request) { r.Again, r.Confirm = true, time.Minute }); !r.Installed {
		t.Error(r)
	}
	c.all(3, "again")
	if err := c.members[1].End(t.Context(), false, "admin"); err != nil {
		t.Error(err)
	}
	c.all(2, "taken back")
	// The first policy of all goes back to none.
	c = newCluster(t, 2)
	c.install(1, newPolicy(t, 1, ""), confirmIn(time.Minute))
	c.all(1, "the first one")
	c.pass(time.Minute)
	c.settle(false)
	c.all(0, "the first one, not confirmed")
}

// TestConfirmWithAbsentMembers: who does not hear of the confirmation asks; who joins late takes the rest of the time over.
func TestConfirmWithAbsentMembers(t *testing.T) {
	c := newCluster(t, 2)
	one, two := c.members[1], c.members[2]
	c.install(1, newPolicy(t, 1, ""), nil)
	c.install(1, newPolicy(t, 2, ""), confirmIn(5*time.Minute))
	two.stop()
	if err := one.End(t.Context(), true, "admin"); err == nil || !strings.Contains(err.Error(), "member 2") {
		t.Error(err)
	}
	two.start()
	c.pass(5 * time.Minute)
	c.settle(false)
	c.all(2, "it asked")
	// Member 2 reboots in the time to confirm: it goes back, and takes the active member's with the time that is left.
	c.install(1, newPolicy(t, 3, ""), confirmIn(5*time.Minute))
	c.pass(time.Minute)
	two.reboot(powercut.LostAll, nil)
	c.settle(true)
	two.runs(2, "rebooted")
	if o, err := two.Recover(t.Context(), []uint8{1}, false); err != nil || o.Kind != fetch.Taken || o.Ref.Revision != 3 {
		t.Fatal(o, err)
	}
	if p := two.Record().Pending; p == nil || p.Until.left(two.Now()) != 4*time.Minute || p.Previous.Revision != 2 {
		t.Errorf("%+v", p)
	}
	c.pass(4 * time.Minute)
	c.settle(false)
	c.all(2, "not confirmed")
}

var every = flag.Int("every", 5, "crash at every so-many-th of the places; 1: at each")

// TestCrash cuts the power of one member around every operation on its disk and within its files, at each phase of an
// install. When it is back, all members run the same, and what was reported as installed is.
func TestCrash(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, victim := range []uint8{1, 2} {
		for _, coordinator := range []uint8{1, 2} {
			for _, confirm := range []time.Duration{0, 5 * time.Minute} {
				name := fmt.Sprintf("member %d crashes, member %d coordinates, confirm %v", victim, coordinator, confirm)
				begin := func() *cluster {
					c := newCluster(t, 2)
					c.install(1, newPolicy(t, 1, ""), nil)
					return c
				}
				two := newPolicy(t, 2, "")
				c := begin()
				c.members[victim].disk.CutAfter(1 << 30)
				c.install(coordinator, two, confirmIn(confirm))
				cuts := c.members[victim].disk.Cuts(2003)
				ends := map[uint64]int{}
				for i, n := range cuts {
					if i%*every != 0 {
						continue
					}
					c := begin()
					v := c.members[victim]
					v.disk.CutAfter(n)
					report := c.install(coordinator, two, confirmIn(confirm))
					v.reboot(powercut.Losses()[i / *every % 4], rng)
					c.settle(true)
					a, b := c.members[1].revision(), c.members[2].revision()
					what := fmt.Sprintf("%s, cut after %d steps, report %v", name, n, report)
					if confirm == 0 {
						ends[a]++
						if a != b || report.Installed && a != 2 {
							t.Fatalf("%s: members have %d and %d", what, a, b)
						}
						if r := c.install(1, newPolicy(t, 3, ""), nil); !r.Installed || len(r.Missed()) > 0 {
							t.Fatalf("%s: the next install: %v", what, r)
						}
					} else {
						c.pass(confirm)
						c.settle(true)
						c.members[3-victim].runs(1, what)
						if got := v.revision(); got != 1 {
							t.Fatalf("%s: revision %d at the end", what, got)
						}
					}
					for _, m := range c.members {
						m.stop()
					}
					if t.Failed() {
						return
					}
				}
				t.Logf("%s: %d cuts; ended with revision 1: %d, 2: %d", name, len(cuts), ends[1], ends[2])
			}
		}
	}
}

// TestPoll: what is published at the server is installed on all members by the active one.
func TestPoll(t *testing.T) {
	m := managertest.Start(t)
	operator := m.Registry("policies/office", m.Operator)
	c := newCluster(t, 2)
	one, two := c.members[1], c.members[2]
	one.Fetcher.Server = m.Registry("policies/office", m.Gateway)
	poll := func(want bool) Report {
		t.Helper()
		r, done, err := one.Poll(t.Context(), nil, false)
		if err != nil || done != want {
			t.Fatalf("done %v, %v, %v", done, r, err)
		}
		return r
	}
	poll(false)
	push := func(a *artifact.Artifact) {
		t.Helper()
		if err := operator.Push(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	push(newPolicy(t, 1, ""))
	poll(true)
	c.all(1, "published")
	poll(false)
	two.rehearse = func() error { return errors.New("no interface G4 here") }
	push(newPolicy(t, 2, ""))
	if r := poll(true); r.Installed || !strings.Contains(r.String(), "no interface G4") {
		t.Error(r)
	}
	c.all(1, "rejected")
	// Follow reports it once, leaves it alone, and takes the next one.
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { one.Follow(ctx, 20*time.Millisecond, func() bool { return true }, false) })
	eventually(t, func() bool { return one.said("no interface G4") > 1 })
	before := one.said("no interface G4")
	time.Sleep(200 * time.Millisecond)
	if now := one.said("no interface G4"); now != before {
		t.Errorf("it tried %d times", now)
	}
	two.mu.Lock()
	two.rehearse = nil
	two.mu.Unlock()
	push(newPolicy(t, 3, ""))
	eventually(t, func() bool { return one.revision() == 3 && two.revision() == 3 })
	cancel()
	done.Wait()
	c.all(3, "the next one")
}

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
