package store

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/internal/disk"
	"github.com/twinkeep/twinkeep/firmware/policy/internal/powercut"
)

// newPolicy has a signature that only looks like one: the store checks none.
func newPolicy(t testing.TB, revision uint64) *artifact.Artifact {
	t.Helper()
	a, err := artifact.New(artifact.Meta{Name: "office", Revision: revision}, fmt.Appendf(nil, "version: 1\nrevision: %d\n", revision))
	if err != nil {
		t.Fatal(err)
	}
	a.Signatures = []artifact.Signature{{Payload: artifact.Payload(a.Digest(), "office"), Signature: []byte("signature")}}
	return a
}

// install puts a policy in force.
func install(s *Store, a *artifact.Artifact) error {
	return s.Update([]*artifact.Artifact{a}, func(st *State) error {
		st.Current, st.Floor = a.Digest(), a.Meta.Revision
		return nil
	})
}

func TestHistory(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenDir(dir, 3)
	if err != nil {
		t.Fatal(err)
	}
	var all []*artifact.Artifact
	for r := uint64(1); r <= 6; r++ {
		a := newPolicy(t, r)
		all = append(all, a)
		if err := install(s, a); err != nil {
			t.Fatal(err)
		}
		if r == 1 {
			if err := s.Update(nil, func(st *State) error { st.Entry(a.Digest()).Pinned = true; return nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 { // as it is, and opened again
		var revisions []uint64
		for _, e := range s.State().Entries {
			revisions = append(revisions, e.Revision)
		}
		if diff := cmp.Diff([]uint64{1, 4, 5, 6}, revisions); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
		st := s.State()
		if ref := st.Ref(); ref != all[5].Ref() {
			t.Errorf("in force: %v", ref)
		}
		got, err := s.Load(all[3].Digest())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(all[3], got); diff != "" {
			t.Errorf("revision 4 (-want +got):\n%s", diff)
		}
		if _, err := s.Load(all[2].Digest()); err == nil {
			t.Error("revision 3 is still there")
		}
		if s, err = OpenDir(dir, 3); err != nil || len(s.Damage()) > 0 {
			t.Fatal(err, s.Damage())
		}
	}
	// Four policies of manifest, document, signatures, their config and payload; and one config for all.
	names, err := os.ReadDir(filepath.Join(dir, "blobs/sha256"))
	if err != nil || len(names) != 4*5+1 {
		t.Errorf("%d blobs, %v", len(names), err)
	}
}

func TestUpdateRefused(t *testing.T) {
	s, err := OpenDir(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	a := newPolicy(t, 1)
	if err := s.Update([]*artifact.Artifact{a}, func(*State) error { return no }); err != no {
		t.Errorf("the change's error: %v", err)
	}
	if err := s.Update(nil, func(st *State) error { st.Current = a.Digest(); return nil }); err == nil {
		t.Error("a policy that is not stored came into force")
	}
	unsigned := newPolicy(t, 1)
	unsigned.Signatures = nil
	if err := install(s, unsigned); err == nil {
		t.Error("a policy without a signature was stored")
	}
	if st := s.State(); len(st.Entries) != 0 || st.Current != "" {
		t.Errorf("something changed: %+v", st)
	}
	if _, err := s.Blob(digest.FromString("x")); err == nil {
		t.Error("a blob that is not there")
	}
	if _, err := s.Blob("sha256:../../../../etc/passwd"); err == nil {
		t.Error("a blob outside")
	}
}

// check opens the store that a cut left and wants one of the given policies in force, whole. It gives that one's index.
func check(t *testing.T, d disk.FS, keep int, what string, allowed ...*artifact.Artifact) {
	t.Helper()
	s, err := Open(d, keep)
	if err != nil {
		t.Fatalf("%s: open: %v", what, err)
	}
	if len(s.Damage()) > 0 {
		t.Fatalf("%s: damaged: %v", what, s.Damage())
	}
	st := s.State()
	for _, a := range allowed {
		if a == nil && st.Current == "" {
			return
		}
		if a == nil || st.Current != a.Digest() {
			continue
		}
		got, err := s.Load(st.Current)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if diff := cmp.Diff(a, got); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", what, diff)
		}
		// What was left works on: the next revision can be installed.
		if err := install(s, newPolicy(t, 100)); err != nil {
			t.Fatalf("%s: install the next one: %v", what, err)
		}
		return
	}
	t.Fatalf("%s: in force is %v", what, st.Ref())
}

var stride = flag.Int("stride", 41, "cut the power, or end the room, at every so many bytes; 1: at each")

// installAll installs one policy after the other until an error, and gives the number of those that were acknowledged.
func installAll(d disk.FS, keep int, policies []*artifact.Artifact) (acked int, err error) {
	s, err := Open(d, keep)
	for err == nil && acked < len(policies) {
		if err = install(s, policies[acked]); err == nil {
			acked++
		}
	}
	return acked, err
}

// TestPowerCut installs policies on a disk that loses its power around every operation and within every file, and opens
// what the cut can have left: the revision that was acknowledged last is there, or the one that was being written.
func TestPowerCut(t *testing.T) {
	const keep = 2 // old revisions are swept on the way
	var policies []*artifact.Artifact
	for r := uint64(1); r <= 4; r++ {
		policies = append(policies, newPolicy(t, r))
	}
	whole := powercut.New()
	if _, err := installAll(whole, keep, policies); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	cuts := whole.Cuts(*stride)
	for _, n := range cuts {
		d := powercut.New()
		d.CutAfter(n)
		acked, err := installAll(d, keep, policies)
		if err != nil && !errors.Is(err, powercut.ErrCut) {
			t.Fatalf("cut after %d steps: %v", n, err)
		}
		allowed := append([]*artifact.Artifact{nil}, policies...)[acked:]
		for _, loss := range powercut.Losses() {
			check(t, d.After(loss, rng), keep, fmt.Sprintf("cut after %d steps, loss %d, revision %d acknowledged", n, loss, acked),
				allowed[:min(2, len(allowed))]...)
		}
	}
	t.Logf("%d cuts in %d steps, %d media", len(cuts), whole.Steps(), len(cuts)*len(powercut.Losses()))
}

// TestDiskFull: nothing is acknowledged that is not there, and what was stays.
func TestDiskFull(t *testing.T) {
	first, second := newPolicy(t, 1), newPolicy(t, 2)
	for n, done := 0, false; !done; n += *stride {
		d := powercut.New()
		s, err := Open(d, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := install(s, first); err != nil {
			t.Fatal(err)
		}
		d.Room(n)
		err = install(s, second)
		if done = err == nil; !done && !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%d bytes of room: %v", n, err)
		}
		want := first
		if done {
			want = second
		}
		if st := s.State(); st.Current != want.Digest() {
			t.Fatalf("%d bytes of room: in force %v", n, st.Ref())
		}
		if _, err := s.Load(want.Digest()); err != nil {
			t.Fatalf("%d bytes of room: %v", n, err)
		}
		d.Room(-1)
		check(t, d.After(powercut.LostAll, nil), 0, fmt.Sprintf("%d bytes of room", n), want)
		if err := install(s, newPolicy(t, 3)); err != nil {
			t.Fatalf("%d bytes of room, then enough: %v", n, err)
		}
	}
}

// TestDamage: what rotted on the disk counts as not there, and nothing else suffers.
func TestDamage(t *testing.T) {
	a, b := newPolicy(t, 1), newPolicy(t, 2)
	document := digest.FromBytes(b.Document)
	for _, tt := range []struct {
		name, file, content, want string
		left                      int
	}{
		{"document of the current one", blobName(document), "version: 1\nrevision: 3\n", "damaged", 1},
		{"manifest cut short", blobName(b.Digest()), string(b.Manifest[:20]), "damaged", 1},
		{"index cut short", indexFile, `{"schemaVersion":2`, indexFile, 0},
		{"empty index", indexFile, "", indexFile, 0},
		{"index of another tool", indexFile, `{"schemaVersion":2,"manifests":[]}`, annotationState, 0},
	} {
		dir := t.TempDir()
		s, err := OpenDir(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(install(s, a), install(s, b)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, tt.file), []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err = OpenDir(dir, 0); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		st := s.State()
		if st.Current != "" || len(st.Entries) != tt.left || !strings.Contains(strings.Join(s.Damage(), "\n"), tt.want) {
			t.Errorf("%s: %d entries, in force %v, damage %q", tt.name, len(st.Entries), st.Ref(), s.Damage())
		}
		if err := install(s, b); err != nil {
			t.Errorf("%s: install again: %v", tt.name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	d := powercut.New()
	s, err := Open(d, 0)
	if err != nil {
		f.Fatal(err)
	}
	if err := install(s, newPolicy(f, 1)); err != nil {
		f.Fatal(err)
	}
	data, err := d.ReadFile(indexFile, maxIndex)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		st, err := decode(data)
		if err != nil {
			return
		}
		if _, err := st.encode(func(digest.Digest) int64 { return 1 }); err != nil && len(data) < maxIndex/4 {
			t.Errorf("what was read cannot be written: %v", err)
		}
		st.trim(1)
		if err := st.check(); err != nil {
			t.Errorf("trimmed: %v", err)
		}
	})
}

// hanging is a disk whose directories take their time once slow is set.
type hanging struct {
	disk.FS
	slow   chan struct{} // closed: it goes on
	inside chan struct{} // closed when it hangs
	once   sync.Once
}

func (h *hanging) SyncDir(dir string) error {
	if h.slow != nil {
		h.once.Do(func() { close(h.inside) })
		<-h.slow
	}
	return h.FS.SyncDir(dir)
}

// TestHangingDisk: what is in force can be asked while the disk hangs; the daemon must not look dead.
func TestHangingDisk(t *testing.T) {
	h := &hanging{FS: disk.OS(t.TempDir()), inside: make(chan struct{})}
	s, err := Open(h, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := install(s, newPolicy(t, 1)); err != nil {
		t.Fatal(err)
	}
	h.slow = make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- install(s, newPolicy(t, 2)) }()
	<-h.inside
	if st := s.State(); st.Ref().Revision != 1 {
		t.Errorf("revision %d before it is on the disk", st.Ref().Revision)
	}
	close(h.slow)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if st := s.State(); st.Ref().Revision != 2 {
		t.Errorf("revision %d", st.Ref().Revision)
	}
}
