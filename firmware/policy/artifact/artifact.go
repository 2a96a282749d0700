// Package artifact is a policy as an OCI artifact: bytes to values and back, nothing else.
//
// The artifact is an image manifest (OCI image specification 1.1) with a config of our own media type, one layer (the
// policy document), and annotations. Signatures cover the digest of the manifest, and through it the document and the
// annotations: revision, previous revision and the name of the policy cannot be changed without the key.
//
// A signature is stored as cosign does (cosign's signature specification, "simple signing"): a second manifest, tagged
// sha256-<digest of the first>.sig, with one layer for each signature.
package artifact

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types.
const (
	TypeConfig   = "application/vnd.twinkeep.policy.config.v1+json"
	TypeDocument = "application/vnd.twinkeep.policy.v1+yaml"
)

// Annotations of the manifest.
const (
	AnnotationName     = "dev.twinkeep.policy.name"
	AnnotationRevision = "dev.twinkeep.policy.revision"
	AnnotationPrevious = "dev.twinkeep.policy.previous"
	AnnotationRestores = "dev.twinkeep.policy.restores"
	AnnotationAuthor   = "dev.twinkeep.policy.created-by"
)

// Limits. Whatever comes from a peer, a server or a disk is refused beyond them.
const (
	MaxDocument   = 16 << 20 // bytes of a policy document
	MaxManifest   = 64 << 10 // bytes of a manifest
	MaxPayload    = 16 << 10 // bytes of a signature's payload
	MaxSignatures = 16
	MaxText       = 256 // bytes of a name or an author
)

// Meta is what a manifest says of its policy.
type Meta struct {
	Name     string        `json:"name"`               // of the policy; a gateway takes only that of its own cluster
	Revision uint64        `json:"revision"`           // from 1, greater than that of every earlier policy of this name
	Previous digest.Digest `json:"previous,omitempty"` // manifest of the revision that this one was made to follow; empty for the first
	Restores uint64        `json:"restores,omitempty"` // the older revision whose document this one brings back; 0: none
	Author   string        `json:"author,omitempty"`
	Created  time.Time     `json:"created,omitzero"` // for people only: nothing is decided by it
}

// Ref names a policy.
type Ref struct {
	Revision uint64        `json:"revision"`
	Digest   digest.Digest `json:"digest"` // of the manifest
}

// String is what log lines say.
func (r Ref) String() string {
	if r.Digest == "" {
		return "no policy"
	}
	return fmt.Sprintf("revision %d (%s)", r.Revision, Short(r.Digest))
}

// IsZero reports whether there is no policy.
func (r Ref) IsZero() bool { return r.Digest == "" }

// Word is the digest as heartbeats carry it: its first eight bytes; 0 when there is no policy.
func (r Ref) Word() uint64 {
	_, hex, _ := strings.Cut(string(r.Digest), ":") // Digest.Encoded panics without a colon
	if len(hex) < 16 {
		return 0
	}
	word, _ := strconv.ParseUint(hex[:16], 16, 64)
	return word
}

// Short is a digest for people.
func Short(d digest.Digest) string {
	if len(d) < 19 {
		return string(d)
	}
	return string(d[7:19])
}

// Artifact is one policy, whole.
type Artifact struct {
	Meta       Meta
	Manifest   []byte
	Document   []byte
	Signatures []Signature
}

// Digest of the manifest.
func (a *Artifact) Digest() digest.Digest { return digest.FromBytes(a.Manifest) }

// Ref names the policy.
func (a *Artifact) Ref() Ref { return Ref{Revision: a.Meta.Revision, Digest: a.Digest()} }

// config is the content of the config blob: all that there is to say is in the annotations.
var config = []byte("{}")

// Config is the descriptor and the content of the config blob, the same in every artifact.
func Config() (ocispec.Descriptor, []byte) { return describe(TypeConfig, config), bytes.Clone(config) }

func describe(mediaType string, content []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
}

// namePattern is that of a registry's repository component, so that a name can be one.
var namePattern = regexp.MustCompile(`^[a-z0-9]+(?:[._-][a-z0-9]+)*$`)

// CheckName says what is wrong with the name of a policy.
func CheckName(name string) error {
	if len(name) > 64 || !namePattern.MatchString(name) {
		return fmt.Errorf("policy name %q: want at most 64 of a-z, 0-9 and single . _ - between them", name)
	}
	return nil
}

func (m Meta) check() error {
	if err := CheckName(m.Name); err != nil {
		return err
	}
	if m.Revision == 0 {
		return errors.New("revision 0: the first is 1")
	}
	if m.Previous != "" {
		if err := CheckDigest(m.Previous); err != nil {
			return fmt.Errorf("digest of the previous revision: %w", err)
		}
	}
	if m.Restores >= m.Revision {
		return fmt.Errorf("revision %d cannot restore revision %d", m.Revision, m.Restores)
	}
	if len(m.Author) > MaxText || !printable(m.Author) {
		return fmt.Errorf("author %.40q: want at most %d bytes of printable text", m.Author, MaxText)
	}
	return nil
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// CheckDigest accepts what the store can address: SHA-256.
func CheckDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %.90q: %w", string(d), err)
	}
	if d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %.90q: want sha256", string(d))
	}
	return nil
}

// New packs a document. It is unsigned.
func New(m Meta, document []byte) (*Artifact, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	if len(document) == 0 || len(document) > MaxDocument {
		return nil, fmt.Errorf("policy document of %d bytes: want 1 to %d", len(document), MaxDocument)
	}
	annotations := map[string]string{
		AnnotationName:     m.Name,
		AnnotationRevision: strconv.FormatUint(m.Revision, 10),
	}
	if m.Previous != "" {
		annotations[AnnotationPrevious] = string(m.Previous)
	}
	if m.Restores != 0 {
		annotations[AnnotationRestores] = strconv.FormatUint(m.Restores, 10)
	}
	if m.Author != "" {
		annotations[AnnotationAuthor] = m.Author
	}
	m.Created = m.Created.UTC().Truncate(time.Second)
	if !m.Created.IsZero() {
		annotations[ocispec.AnnotationCreated] = m.Created.Format(time.RFC3339)
	}
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: TypeConfig,
		Config:       describe(TypeConfig, config),
		Layers:       []ocispec.Descriptor{describe(TypeDocument, document)},
		Annotations:  annotations,
	})
	if err != nil {
		return nil, fmt.Errorf("pack the policy: %w", err)
	}
	return &Artifact{Meta: m, Manifest: manifest, Document: document}, nil
}

// ParseManifest reads what a manifest says, and the descriptor of its document. Nothing in it is trusted before a
// signature of its digest was checked.
func ParseManifest(data []byte) (Meta, ocispec.Descriptor, error) {
	m, err := parseManifest(data)
	if err != nil {
		return Meta{}, ocispec.Descriptor{}, fmt.Errorf("policy manifest: %w", err)
	}
	fail := func(err error) (Meta, ocispec.Descriptor, error) {
		return Meta{}, ocispec.Descriptor{}, fmt.Errorf("policy manifest: %w", err)
	}
	if m.Config.MediaType != TypeConfig {
		return fail(fmt.Errorf("config of type %.80q: this is no Twinkeep policy", m.Config.MediaType))
	}
	if len(m.Layers) != 1 || m.Layers[0].MediaType != TypeDocument {
		return fail(fmt.Errorf("%d layers: want one of type %s", len(m.Layers), TypeDocument))
	}
	document := m.Layers[0]
	if err := CheckDigest(document.Digest); err != nil {
		return fail(err)
	}
	if document.Size <= 0 || document.Size > MaxDocument {
		return fail(fmt.Errorf("document of %d bytes: want 1 to %d", document.Size, MaxDocument))
	}
	meta := Meta{
		Name:     m.Annotations[AnnotationName],
		Previous: digest.Digest(m.Annotations[AnnotationPrevious]),
		Author:   m.Annotations[AnnotationAuthor],
	}
	if meta.Revision, err = number(m.Annotations[AnnotationRevision]); err != nil {
		return fail(fmt.Errorf("annotation %s: %w", AnnotationRevision, err))
	}
	if s, ok := m.Annotations[AnnotationRestores]; ok {
		if meta.Restores, err = number(s); err != nil {
			return fail(fmt.Errorf("annotation %s: %w", AnnotationRestores, err))
		}
	}
	if s, ok := m.Annotations[ocispec.AnnotationCreated]; ok {
		if meta.Created, err = time.Parse(time.RFC3339, s); err != nil {
			return fail(fmt.Errorf("annotation %s: %w", ocispec.AnnotationCreated, err))
		}
		meta.Created = meta.Created.UTC()
	}
	if err := meta.check(); err != nil {
		return fail(err)
	}
	return meta, ocispec.Descriptor{MediaType: document.MediaType, Digest: document.Digest, Size: document.Size}, nil
}

func parseManifest(data []byte) (m ocispec.Manifest, err error) {
	if len(data) > MaxManifest {
		return m, fmt.Errorf("%d bytes, the most is %d", len(data), MaxManifest)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, err
	}
	if m.SchemaVersion != 2 || m.MediaType != ocispec.MediaTypeImageManifest {
		return m, fmt.Errorf("schema %d, type %.80q: want 2, %s", m.SchemaVersion, m.MediaType, ocispec.MediaTypeImageManifest)
	}
	return m, nil
}

// References are the blobs that a manifest names, that of a policy or that of signatures.
func References(manifest []byte) ([]digest.Digest, error) {
	m, err := parseManifest(manifest)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	refs := []digest.Digest{m.Config.Digest}
	for _, l := range m.Layers {
		refs = append(refs, l.Digest)
	}
	return refs, nil
}

// number accepts a decimal number in the one form that New writes.
func number(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("%.40q is not a decimal number", s)
	}
	return n, nil
}
