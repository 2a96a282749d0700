// Package registry is a client of the management server, which is any OCI registry: the policy's repository has the
// newest policy as tag "current", every one as tag "r<revision>", and signatures as cosign tags them.
//
// Everything read is bounded before it is read. Nothing of it is trusted here: digests are checked by whoever puts the
// pieces together, signatures by package sign.
package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
)

// TagCurrent is the tag of the newest policy.
const TagCurrent = "current"

// TagRevision is the tag of one revision.
func TagRevision(revision uint64) string { return "r" + strconv.FormatUint(revision, 10) }

// maxTags bounds what a server can list.
const maxTags = 100_000

// Registry is one repository. Its methods may be called from any goroutine.
type Registry struct {
	repo      *remote.Repository
	transport *http.Transport

	mu       sync.Mutex
	last     artifact.Ref // what TagCurrent was at the last Head
	manifest []byte       // of last
}

// New makes a client. It connects when asked for something.
func New(c Config) (*Registry, error) {
	ref, err := c.reference()
	if err != nil {
		return nil, fmt.Errorf("management server: %w", err)
	}
	t, err := c.transport()
	if err != nil {
		return nil, fmt.Errorf("management server: %w", err)
	}
	client := &auth.Client{Client: &http.Client{Transport: t}, Cache: auth.NewCache()}
	client.SetUserAgent("twinkeep")
	if c.Token != "" {
		user := c.Username
		if user == "" {
			user = "gateway"
		}
		client.Credential = auth.StaticCredential(ref.Host(), auth.Credential{Username: user, Password: c.Token})
	}
	return &Registry{repo: &remote.Repository{Client: client, Reference: ref, MaxMetadataBytes: artifact.MaxManifest}, transport: t}, nil
}

// Close closes idle connections.
func (r *Registry) Close() { r.transport.CloseIdleConnections() }

// String is the repository's name.
func (r *Registry) String() string {
	return r.repo.Reference.Registry + "/" + r.repo.Reference.Repository
}

// ErrNone is matched by the errors of a server that answers and has no such policy.
var ErrNone = errors.New("the server has no such policy")

func (r *Registry) explain(what string, err error) error {
	var resp *errcode.ErrorResponse
	switch {
	case errors.Is(err, errdef.ErrNotFound):
		err = ErrNone
	case errors.As(err, &resp) && (resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden):
		err = fmt.Errorf("%w: it does not accept the token in %s for this", err, FileName)
	}
	return fmt.Errorf("%s: %s: %w", r, what, err)
}

// Head names the newest policy. It costs one HEAD request, and the manifest when that is another one than the last time.
func (r *Registry) Head(ctx context.Context) (artifact.Ref, error) {
	return r.resolve(ctx, TagCurrent)
}

// Revision names one revision.
func (r *Registry) Revision(ctx context.Context, revision uint64) (artifact.Ref, error) {
	return r.resolve(ctx, TagRevision(revision))
}

func (r *Registry) resolve(ctx context.Context, tag string) (artifact.Ref, error) {
	desc, err := r.repo.Manifests().Resolve(ctx, tag)
	if err != nil {
		return artifact.Ref{}, r.explain("look up "+tag, err)
	}
	r.mu.Lock()
	last := r.last
	r.mu.Unlock()
	if last.Digest == desc.Digest {
		return last, nil
	}
	data, err := r.Manifest(ctx, desc.Digest)
	if err != nil {
		return artifact.Ref{}, err
	}
	meta, _, err := artifact.ParseManifest(data)
	if err != nil {
		return artifact.Ref{}, r.explain("read "+tag, err)
	}
	ref := artifact.Ref{Revision: meta.Revision, Digest: desc.Digest}
	if tag == TagCurrent {
		r.mu.Lock()
		r.last, r.manifest = ref, data
		r.mu.Unlock()
	}
	return ref, nil
}

// Manifest reads a manifest. The one that Head read is not read again.
func (r *Registry) Manifest(ctx context.Context, d digest.Digest) ([]byte, error) {
	r.mu.Lock()
	last, data := r.last, r.manifest
	r.mu.Unlock()
	if d == last.Digest && data != nil {
		return data, nil
	}
	return r.read(ctx, string(d))
}

// Signatures reads the signature manifest of a policy.
func (r *Registry) Signatures(ctx context.Context, d digest.Digest) ([]byte, error) {
	return r.read(ctx, artifact.SignatureTag(d))
}

func (r *Registry) read(ctx context.Context, reference string) ([]byte, error) {
	desc, rc, err := r.repo.Manifests().FetchReference(ctx, reference)
	if err != nil {
		return nil, r.explain("read "+reference, err)
	}
	defer rc.Close()
	data, err := io.ReadAll(io.LimitReader(rc, artifact.MaxManifest+1))
	if err == nil && len(data) > artifact.MaxManifest {
		err = fmt.Errorf("more than %d bytes", artifact.MaxManifest)
	}
	if err == nil && digest.FromBytes(data) != desc.Digest {
		err = fmt.Errorf("what came has another digest than %s", artifact.Short(desc.Digest))
	}
	if err != nil {
		return nil, r.explain("read "+reference, err)
	}
	return data, nil
}

// Blob reads a blob from offset on.
func (r *Registry) Blob(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	rc, err := r.repo.Blobs().Fetch(ctx, d)
	if err != nil {
		return nil, r.explain("read blob "+artifact.Short(d.Digest), err)
	}
	if offset == 0 {
		return rc, nil
	}
	s, ok := rc.(io.Seeker)
	if ok {
		_, err = s.Seek(offset, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, rc, offset) // the server cannot: what is there already comes again
	}
	if err != nil {
		rc.Close()
		return nil, r.explain("read blob "+artifact.Short(d.Digest), err)
	}
	return rc, nil
}

// Push publishes a signed policy. A gateway that sees the tag "current" finds everything else there: it moves last.
func (r *Registry) Push(ctx context.Context, a *artifact.Artifact) error {
	b, err := a.SignatureBundle()
	if err != nil {
		return err
	}
	_, config := artifact.Config()
	for _, blob := range append([][]byte{config, a.Document, b.Config}, b.Payloads...) {
		if err := r.pushBlob(ctx, blob); err != nil {
			return err
		}
	}
	for _, m := range []struct {
		data []byte
		tag  string
	}{
		{b.Manifest, artifact.SignatureTag(a.Digest())},
		{a.Manifest, TagRevision(a.Meta.Revision)},
		{a.Manifest, TagCurrent},
	} {
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(m.data), Size: int64(len(m.data))}
		if err := r.repo.Manifests().PushReference(ctx, desc, bytes.NewReader(m.data), m.tag); err != nil {
			return r.explain("publish "+m.tag, err)
		}
	}
	return nil
}

func (r *Registry) pushBlob(ctx context.Context, data []byte) error {
	desc := ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(data), Size: int64(len(data))}
	ok, err := r.repo.Blobs().Exists(ctx, desc)
	if err == nil && !ok {
		err = r.repo.Blobs().Push(ctx, desc, bytes.NewReader(data))
	}
	if err != nil {
		return r.explain("send blob "+artifact.Short(desc.Digest), err)
	}
	return nil
}

// Revisions lists the numbers of the revisions that the server has, newest first.
func (r *Registry) Revisions(ctx context.Context) ([]uint64, error) {
	var out []uint64
	seen := 0
	err := r.repo.Tags(ctx, "", func(tags []string) error {
		if seen += len(tags); seen > maxTags {
			return fmt.Errorf("more than %d tags", maxTags)
		}
		for _, t := range tags {
			if n, ok := strings.CutPrefix(t, "r"); ok {
				if revision, err := strconv.ParseUint(n, 10, 64); err == nil {
					out = append(out, revision)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, r.explain("list the revisions", err)
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out, nil
}
