package upgraded

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/firmware/upgrade/bundle"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp/esptest"
	"github.com/twinkeep/twinkeep/firmware/upgrade/rollout"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

const nodeFile = `version: 1
hostname: gw-a
cluster:
  id: 7
  name: test
  member: 1
  key: dGVzdCBrZXkgb2YgdGhlIG5hbWVzcGFjZSBsYWIgMTI=
  members:
    - {id: 1, name: gw-a, priority: 120}
    - {id: 2, name: gw-b, priority: 100}
interfaces:
  - {name: lan, zone: lan, address: 10.1.0.2/24}
`

// member1 is member 1 on a box that is a folder, with a had that says what the test wants.
type member1 struct {
	*driver
	box     *esptest.Box
	state   atomic.Value // of had
	reboots atomic.Int32
}

func newMember1(t *testing.T) *member1 {
	dir := t.TempDir()
	m := &member1{box: esptest.New(t, filepath.Join(dir, "slots"), esptest.Release(100))}
	m.state.Store("STANDBY")
	o := Options{ConfigDir: dir, StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run"), Place: m.box.Place(), Log: slog.New(slog.DiscardHandler)}
	for _, d := range []string{o.StateDir, o.RunDir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "node.yaml"), []byte(nodeFile), 0o600); err != nil {
		t.Fatal(err)
	}
	had, pid1 := http.NewServeMux(), http.NewServeMux()
	had.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		api.Reply(w, member.Status{Member: 1, State: m.state.Load().(string), InSync: true}, nil)
	})
	pid1.HandleFunc("POST /v1/shutdown", func(w http.ResponseWriter, _ *http.Request) {
		m.reboots.Add(1)
		w.WriteHeader(http.StatusAccepted)
	})
	for socket, h := range map[string]http.Handler{api.HadSocket: had, api.InitSocket: pid1} {
		ln, err := unixhttp.Listen(filepath.Join(o.RunDir, socket))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); unixhttp.Serve(ctx, ln, h) }()
		t.Cleanup(func() { cancel(); <-done })
	}
	client := api.NewClient(o.RunDir)
	own := newParticipant(o, client)
	p := &peers{dir: o.ConfigDir, run: o.RunDir, client: client, last: make(map[uint8]string)}
	own.peers = p
	m.driver = newDriver(o, own, p)
	t.Cleanup(own.stop)
	return m
}

func file(t *testing.T, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file.twk")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// refused waits for the end of the fetching, and wants it refused for this reason, with nothing left.
func (m *member1) refused(t *testing.T, name, reason string) {
	t.Helper()
	s := m.status()
	for s.Fetching != nil {
		time.Sleep(time.Millisecond)
		s = m.status()
	}
	if !strings.Contains(s.Error, reason) || s.Plan != nil {
		t.Errorf("%s: %q, want %q", name, s.Error, reason)
	}
	if left, _ := filepath.Glob(filepath.Join(m.dir(), "*")); len(left) > 0 {
		t.Errorf("%s left %v", name, left)
	}
}

// TestBadFiles: what is wrong with a file is said, and leaves nothing behind, on the data partition nor in a slot.
func TestBadFiles(t *testing.T) {
	m := newMember1(t)
	good := esptest.Bundle(t, esptest.Release(200), 1000)
	forged := append([]byte(nil), good...)
	forged[30] ^= 1
	changed := append([]byte(nil), good...)
	changed[len(changed)-1] ^= 1
	before := m.box.List()
	for name, tt := range map[string]struct {
		file string
		want string
	}{
		"forged":    {file(t, forged), bundle.ErrSignature.Error()},
		"changed":   {file(t, changed), bundle.ErrImage.Error()},
		"cut short": {file(t, good[:len(good)-1]), bundle.ErrTruncated.Error()},
		"not ours":  {file(t, []byte("PK\x03\x04 something else entirely")), bundle.ErrFormat.Error()},
		"oversized": {file(t, esptest.Bundle(t, esptest.Release(200), upgrade.MaxImage)), "KiB are allowed"},
		"foreign":   {file(t, esptest.Bundle(t, upgrade.Release{Board: "apu2", Version: "x", Revision: 200}, 0)), `for board "apu2"`},
		"older":     {file(t, esptest.Bundle(t, esptest.Release(1), 0)), "older than the running image"},
		"no file":   {"/nonexistent", "no such file"},
		"peer away": {file(t, good), "gw-b would not take the image: member 2: unreachable"},
	} {
		if err := m.begin(t.Context(), api.UpgradeOrder{Source: tt.file}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m.refused(t, name, tt.want)
	}
	if after := m.box.List(); after != before {
		t.Errorf("the slots changed:\n%s\n%s", before, after)
	}
}

// TestObedience: one driver at a time, and none makes a member restart that holds the role, or that was restarted already.
func TestObedience(t *testing.T) {
	m := newMember1(t)
	p := m.own
	boot, err := m.box.Place().BootID()
	if err != nil {
		t.Fatal(err)
	}
	if s, err := p.seen(t.Context(), "one", 2); err != nil || s.Boot != boot || s.Release != esptest.Release(100) || s.Trial {
		t.Fatalf("%+v, %v", s, err)
	}
	act := func(plan string, a rollout.Action) error {
		return p.act(t.Context(), actRequest{Plan: plan, Image: upgrade.Candidate{Release: esptest.Release(200)}, Action: a}, 2)
	}
	for plan, want := range map[string]string{"two": "drives another upgrade", "": "no proper name", "../x": "no proper name", strings.Repeat("x", 65): "no proper name"} {
		if err := act(plan, rollout.Action{Verb: rollout.Restart, Boot: boot}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", plan, err, want)
		}
	}
	for _, state := range []string{"ACTIVE", "ACTIVE!"} {
		m.state.Store(state)
		for _, v := range []rollout.Verb{rollout.Restart, rollout.Return} {
			if err := act("one", rollout.Action{Verb: v, Boot: boot}); err == nil || !strings.Contains(err.Error(), "while it holds the role") {
				t.Errorf("%s as %s: %v", v, state, err)
			}
		}
	}
	m.state.Store("STANDBY")
	if err := act("one", rollout.Action{Verb: rollout.Restart, Boot: "an earlier one"}); err != nil || m.reboots.Load() != 0 {
		t.Errorf("an order of the last boot: %v, %d restarts", err, m.reboots.Load())
	}
	if err := act("one", rollout.Action{Verb: "dance"}); err == nil {
		t.Error("an order that is not known is taken")
	}
	if err := act("one", rollout.Action{Verb: rollout.Restart, Boot: boot}); err != nil || m.reboots.Load() != 1 {
		t.Errorf("%v, %d restarts", err, m.reboots.Load())
	}
}

// TestResume: a driver goes on with the plan that is on disk; one that makes no sense is left.
func TestResume(t *testing.T) {
	m := newMember1(t)
	plan := rollout.Plan{ID: "p", Driver: 1, Phase: rollout.Forward, Members: []rollout.Member{{ID: 1, Step: rollout.Waiting}, {ID: 2, Step: rollout.Restarting}}}
	if err := m.save(plan); err != nil {
		t.Fatal(err)
	}
	again := newDriver(m.Options, m.own, m.peers)
	if s := again.status(); s.Plan == nil || s.Plan.Members[1].Step != rollout.Restarting {
		t.Fatalf("%+v", s)
	}
	if err := again.begin(t.Context(), api.UpgradeOrder{Source: "/x"}); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Error(err)
	}
	if _, err := again.open("another"); err == nil {
		t.Error("the file of another plan is served")
	}
	if err := again.abort("the operator"); err != nil || again.status().Plan.Phase != rollout.Back {
		t.Errorf("%v, %+v", err, again.status().Plan)
	}
	if err := os.WriteFile(m.planFile(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := newDriver(m.Options, m.own, m.peers).status(); s.Plan != nil {
		t.Errorf("%+v", s.Plan)
	}
}
