// Package store keeps a member's policies in an OCI image layout (OCI image specification 1.1, image-layout.md) on the
// data partition. oras, crane and cosign can read it.
//
// What is acknowledged is durable: when [Store.Update] returns nil, a power cut at any later moment leaves this state or
// a newer one. A cut during it leaves the old state or the new one, whole. The rename of index.json is the one step that
// switches between them: blobs are on the medium before it and are removed after it.
package store

import (
	"errors"
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/internal/disk"
)

const (
	indexFile  = "index.json"
	layoutFile = "oci-layout"
	blobDir    = "blobs/sha256"
	layout     = `{"imageLayoutVersion":"1.0.0"}`
	// damagedFile keeps an index that could not be read, for whoever wants to look into it.
	damagedFile = "index.json.damaged"
)

// DefaultKeep is how many revisions the history keeps.
const DefaultKeep = 20

// Store is an open layout. One process may have it open. Its methods may be called from any goroutine.
type Store struct {
	fs   disk.FS
	keep int

	mu sync.Mutex // held while the disk is at work
	// view guards state against readers that must not wait for the disk; state changes with both held.
	view   sync.Mutex
	state  State
	damage []string
	// unsure: a write of the index failed, and the medium may have the old one or the new one. Nothing that either needs
	// is swept until a write works.
	unsure bool
}

// OpenDir opens the layout in a directory of the real disk, and makes it when there is none.
func OpenDir(dir string, keep int) (*Store, error) { return Open(disk.OS(dir), keep) }

// Open opens the layout at the root of fs. keep is the length of the history; 0 means DefaultKeep.
//
// Damage does not keep it from opening: what is damaged counts as not there, [Store.Damage] names it, and the recovery
// order finds another copy.
func Open(fs disk.FS, keep int) (*Store, error) {
	if keep <= 0 {
		keep = DefaultKeep
	}
	s := &Store{fs: fs, keep: keep}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open the policy store: %w", err)
	}
	return s, nil
}

func (s *Store) open() error {
	if err := s.fs.MkdirAll(blobDir); err != nil {
		return err
	}
	if text, err := s.fs.ReadFile(layoutFile, 1024); err != nil || string(text) != layout {
		if err := disk.WriteFile(s.fs, layoutFile, []byte(layout)); err != nil {
			return err
		}
	}
	data, err := s.fs.ReadFile(indexFile, maxIndex)
	if err == nil {
		s.state, err = decode(data)
		if err != nil {
			s.damage = append(s.damage, fmt.Sprintf("%s: %v", indexFile, err))
			s.state = State{}
			if err := s.fs.Rename(indexFile, damagedFile); err != nil {
				return err
			}
		}
	} else if !disk.NotExist(err) {
		return err
	}
	s.dropDamaged()
	// A program that died here may have renamed without syncing. What is swept below must not come back into use.
	if err := errors.Join(s.fs.SyncDir("."), s.fs.SyncDir(blobDir)); err != nil {
		return err
	}
	s.sweep()
	return nil
}

// dropDamaged takes entries with missing or changed blobs off the state.
func (s *Store) dropDamaged() {
	var good []Entry
	for _, e := range s.state.Entries {
		if _, err := s.load(e); err != nil {
			s.damage = append(s.damage, err.Error())
			if s.state.Current == e.Digest {
				s.state.Current = ""
			}
			if s.state.Candidate == e.Digest {
				s.state.Candidate = ""
			}
			continue
		}
		good = append(good, e)
	}
	s.state.Entries = good
}

// Damage names what was found damaged when the store was opened.
func (s *Store) Damage() []string { return s.damage }

// State is a copy of what is on the disk. It does not wait for a disk that is slow or hangs.
func (s *Store) State() State {
	s.view.Lock()
	defer s.view.Unlock()
	return s.state.clone()
}

// Load reads a stored policy and checks its digests, not its signature.
func (s *Store) Load(d digest.Digest) (*artifact.Artifact, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.state.Entry(d)
	if e == nil {
		return nil, fmt.Errorf("policy %s is not stored here", artifact.Short(d))
	}
	return s.load(*e)
}

func (s *Store) load(e Entry) (*artifact.Artifact, error) {
	fail := func(err error) (*artifact.Artifact, error) {
		return nil, fmt.Errorf("stored policy %s: %w", e.Ref, err)
	}
	manifest, err := s.blob(e.Digest, artifact.MaxManifest)
	if err != nil {
		return fail(err)
	}
	meta, document, err := artifact.ParseManifest(manifest)
	if err != nil {
		return fail(err)
	}
	if meta != e.Meta {
		return fail(errors.New("its manifest does not say what the index says"))
	}
	a := &artifact.Artifact{Meta: meta, Manifest: manifest}
	if a.Document, err = s.blob(document.Digest, artifact.MaxDocument); err != nil {
		return fail(err)
	}
	signatures, err := s.blob(e.Signatures, artifact.MaxManifest)
	if err != nil {
		return fail(err)
	}
	refs, err := artifact.ParseSignatures(signatures)
	if err != nil {
		return fail(err)
	}
	for _, r := range refs {
		payload, err := s.blob(r.Payload.Digest, artifact.MaxPayload)
		if err != nil {
			return fail(err)
		}
		a.Signatures = append(a.Signatures, artifact.Signature{Payload: payload, Signature: r.Signature})
	}
	return a, nil
}

// Blob reads a blob of a stored policy, to hand it to a peer.
func (s *Store) Blob(d digest.Digest) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := artifact.CheckDigest(d); err != nil {
		return nil, err
	}
	used, err := s.used()
	if err != nil {
		return nil, err
	}
	if !used[d] {
		return nil, fmt.Errorf("blob %s is not stored here", artifact.Short(d))
	}
	return s.blob(d, artifact.MaxDocument)
}

// Signatures reads the signature manifest of a stored policy.
func (s *Store) Signatures(d digest.Digest) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.state.Entry(d)
	if e == nil {
		return nil, fmt.Errorf("policy %s is not stored here", artifact.Short(d))
	}
	return s.blob(e.Signatures, artifact.MaxManifest)
}

func blobName(d digest.Digest) string { return blobDir + "/" + d.Encoded() }

func (s *Store) blob(d digest.Digest, limit int64) ([]byte, error) {
	if err := artifact.CheckDigest(d); err != nil {
		return nil, err
	}
	data, err := s.fs.ReadFile(blobName(d), limit)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", artifact.Short(d), err)
	}
	if digest.FromBytes(data) != d {
		return nil, fmt.Errorf("blob %s is damaged", artifact.Short(d))
	}
	return data, nil
}

// Update stores the policies and then changes the state, both durably or neither. Policies that the changed state has no
// entry for are entered, with all of Entry's flags false; change may be nil, and sees the entries already. When it gives an
// error, that is the result and nothing changes.
func (s *Store) Update(add []*artifact.Artifact, change func(*State) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.state.clone()
	blobs := map[digest.Digest][]byte{}
	for _, a := range add {
		e, err := pack(a, blobs)
		if err != nil {
			return fmt.Errorf("store the policy: %w", err)
		}
		if old := next.Entry(e.Digest); old != nil {
			old.Signatures = e.Signatures
		} else {
			next.Entries = append(next.Entries, e)
		}
	}
	if change != nil {
		if err := change(&next); err != nil {
			return err
		}
	}
	next.trim(s.keep)
	if err := next.check(); err != nil {
		return fmt.Errorf("store the policy: %w", err)
	}
	if err := s.commit(next, blobs); err != nil {
		return fmt.Errorf("store the policy: %w", err)
	}
	return nil
}

// pack gives the entry of a policy, and adds its blobs.
func pack(a *artifact.Artifact, blobs map[digest.Digest][]byte) (Entry, error) {
	meta, document, err := artifact.ParseManifest(a.Manifest)
	if err != nil {
		return Entry{}, err
	}
	if digest.FromBytes(a.Document) != document.Digest {
		return Entry{}, fmt.Errorf("%s: the document is not the one that the manifest names", a.Ref())
	}
	b, err := a.SignatureBundle()
	if err != nil {
		return Entry{}, err
	}
	configDescriptor, config := artifact.Config()
	blobs[configDescriptor.Digest] = config
	blobs[a.Digest()] = a.Manifest
	blobs[document.Digest] = a.Document
	blobs[digest.FromBytes(b.Manifest)] = b.Manifest
	blobs[digest.FromBytes(b.Config)] = b.Config
	for _, p := range b.Payloads {
		blobs[digest.FromBytes(p)] = p
	}
	return Entry{Ref: artifact.Ref{Revision: meta.Revision, Digest: a.Digest()}, Signatures: digest.FromBytes(b.Manifest), Meta: meta}, nil
}

func (s *Store) commit(next State, blobs map[digest.Digest][]byte) error {
	for d, data := range blobs {
		if _, err := s.blob(d, artifact.MaxDocument); err == nil {
			continue
		}
		if err := disk.WriteFile(s.fs, blobName(d), data); err != nil {
			s.sweep() // a full disk gets its room back
			return err
		}
	}
	// Also for blobs that an update before this one wrote, and failed.
	if len(blobs) > 0 {
		if err := s.fs.SyncDir(blobDir); err != nil {
			return err
		}
	}
	index, err := next.encode(func(d digest.Digest) int64 {
		if data, ok := blobs[d]; ok {
			return int64(len(data))
		}
		data, _ := s.fs.ReadFile(blobName(d), artifact.MaxManifest)
		return int64(len(data))
	})
	if err != nil {
		return err
	}
	if err := disk.WriteFile(s.fs, indexFile, index); err != nil {
		s.unsure = true
		return err
	}
	s.view.Lock()
	s.state, s.unsure = next, false
	s.view.Unlock()
	s.sweep()
	return nil
}

// used are the blobs that the state needs. It is an error when one cannot be read.
func (s *Store) used() (map[digest.Digest]bool, error) {
	used := map[digest.Digest]bool{}
	for _, e := range s.state.Entries {
		for _, d := range []digest.Digest{e.Digest, e.Signatures} {
			manifest, err := s.blob(d, artifact.MaxManifest)
			if err != nil {
				return nil, err
			}
			blobs, err := artifact.References(manifest)
			if err != nil {
				return nil, err
			}
			used[d] = true
			for _, b := range blobs {
				used[b] = true
			}
		}
	}
	return used, nil
}

// sweep removes what nothing needs. It fails without harm: what stays is swept at the next time.
func (s *Store) sweep() {
	if s.unsure {
		return
	}
	used, err := s.used()
	if err != nil {
		return
	}
	names, err := s.fs.List(blobDir)
	if err != nil {
		return
	}
	for _, n := range names {
		if !used[digest.NewDigestFromEncoded(digest.SHA256, n)] {
			s.fs.Remove(blobDir + "/" + n)
		}
	}
	for _, n := range []string{indexFile, layoutFile} {
		s.fs.Remove(n + disk.TempSuffix)
	}
}
