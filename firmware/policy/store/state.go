package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
)

// State is what a member knows about its policies. It changes as a whole, in [Store.Update].
type State struct {
	Current   digest.Digest `json:"current,omitempty"`   // in force; empty: none
	Candidate digest.Digest `json:"candidate,omitempty"` // prepared for an install, not in force
	// Floor is the highest revision that was ever in force for good. Nothing at or below it is taken from anywhere but
	// the history.
	Floor   uint64  `json:"floor,omitempty"`
	Entries []Entry `json:"entries,omitempty"` // oldest revision first
	// Install is what the install of package install has to remember.
	Install json.RawMessage `json:"install,omitempty"`
}

// Entry is one stored policy.
type Entry struct {
	artifact.Ref
	Signatures digest.Digest `json:"signatures"` // their manifest
	Meta       artifact.Meta `json:"meta"`
	// Synced: every member has it, or it came from another one or from the server. One that is not synced is only here.
	Synced bool `json:"synced,omitempty"`
	// Missed are the members that did not get it when it was installed from here.
	Missed []string `json:"missed,omitempty"`
	// Refused says why it is not taken again unless an operator installs it: it was rolled back, or did not apply.
	Refused string `json:"refused,omitempty"`
	// Pinned entries are kept however old they become: commits that never reached the peer.
	Pinned bool `json:"pinned,omitempty"`
	// Abandoned commits were given up by the operator for the cluster's policy. They are kept and listed.
	Abandoned bool `json:"abandoned,omitempty"`
}

// Entry finds an entry, nil when there is none.
func (s *State) Entry(d digest.Digest) *Entry {
	for i := range s.Entries {
		if s.Entries[i].Digest == d {
			return &s.Entries[i]
		}
	}
	return nil
}

// Ref is the policy in force; zero when there is none.
func (s *State) Ref() artifact.Ref {
	if e := s.Entry(s.Current); e != nil {
		return e.Ref
	}
	return artifact.Ref{}
}

func (s *State) clone() State {
	out := *s
	out.Entries = slices.Clone(s.Entries)
	for i := range out.Entries {
		out.Entries[i].Missed = slices.Clone(out.Entries[i].Missed)
	}
	out.Install = slices.Clone(s.Install)
	return out
}

// trim forgets old entries: what is left is in use, pinned, or among the newest keep.
func (s *State) trim(keep int) {
	slices.SortStableFunc(s.Entries, func(a, b Entry) int {
		switch {
		case a.Revision < b.Revision:
			return -1
		case a.Revision > b.Revision:
			return 1
		}
		return 0
	})
	oldest := len(s.Entries) - keep
	var kept []Entry
	for i, e := range s.Entries {
		if i >= oldest || e.Pinned || e.Digest == s.Current || e.Digest == s.Candidate {
			kept = append(kept, e)
		}
	}
	s.Entries = kept
}

const (
	annotationState = "dev.twinkeep.policy.state"
	maxIndex        = 1 << 20 // bytes
	// tags of the layout; every revision is r<number> too
	tagCurrent   = "current"
	tagCandidate = "candidate"
)

// encode writes the layout's index. The state is one annotation of it; the descriptors say the same to oras, crane and
// cosign.
func (s *State) encode(size func(digest.Digest) int64) ([]byte, error) {
	state, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	ix := ocispec.Index{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispec.MediaTypeImageIndex,
		Annotations: map[string]string{annotationState: string(state)},
		Manifests:   []ocispec.Descriptor{},
	}
	add := func(d digest.Digest, artifactType, tag string) {
		ix.Manifests = append(ix.Manifests, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType, Digest: d, Size: size(d),
			Annotations: map[string]string{ocispec.AnnotationRefName: tag},
		})
	}
	for _, e := range s.Entries {
		add(e.Digest, artifact.TypeConfig, "r"+strconv.FormatUint(e.Revision, 10))
		add(e.Signatures, "", artifact.SignatureTag(e.Digest))
		if e.Digest == s.Current {
			add(e.Digest, artifact.TypeConfig, tagCurrent)
		}
		if e.Digest == s.Candidate {
			add(e.Digest, artifact.TypeConfig, tagCandidate)
		}
	}
	data, err := json.Marshal(ix)
	if err == nil && len(data) > maxIndex {
		err = fmt.Errorf("%d bytes, the most is %d", len(data), maxIndex)
	}
	return data, err
}

func decode(data []byte) (s State, err error) {
	var ix ocispec.Index
	if err := json.Unmarshal(data, &ix); err != nil {
		return s, err
	}
	text, ok := ix.Annotations[annotationState]
	if !ok {
		return s, fmt.Errorf("it has no annotation %s", annotationState)
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return s, fmt.Errorf("annotation %s: %w", annotationState, err)
	}
	return s, s.check()
}

func (s *State) check() error {
	seen := map[digest.Digest]bool{}
	for _, e := range s.Entries {
		if err := errors.Join(artifact.CheckDigest(e.Digest), artifact.CheckDigest(e.Signatures)); err != nil {
			return err
		}
		if seen[e.Digest] {
			return fmt.Errorf("%s is in it twice", e.Ref)
		}
		if e.Revision == 0 || e.Revision != e.Meta.Revision {
			return fmt.Errorf("%s is entered as revision %d", e.Ref, e.Meta.Revision)
		}
		seen[e.Digest] = true
	}
	for _, d := range []digest.Digest{s.Current, s.Candidate} {
		if d != "" && !seen[d] {
			return fmt.Errorf("%s is in use and not entered", artifact.Short(d))
		}
	}
	return nil
}
