package fetch

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/twinkeep/twinkeep/firmware/peerapi"
	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/store"
)

// Paths of the peer API.
const (
	pathHead       = "/v1/policy/head"
	pathBlob       = "/v1/policy/blobs/"
	pathSignatures = "/v1/policy/signatures/"
)

// Limits of what a peer may tell.
const maxKnown = 1024

// Blobs are what a member hands to its peers.
type Blobs interface {
	Blob(d digest.Digest) ([]byte, error)
	Signatures(policy digest.Digest) ([]byte, error)
}

var _ Blobs = (*store.Store)(nil)

// Handle serves policies to peers. head says what this member runs.
func Handle(mux *http.ServeMux, b Blobs, head func() Head) {
	serve := func(get func(digest.Digest) ([]byte, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			data, err := get(digest.Digest(r.PathValue("digest")))
			if err != nil {
				peerapi.Refuse(w, &peerapi.Error{Message: err.Error(), Status: http.StatusNotFound})
				return
			}
			w.Header().Set("Content-Type", "application/octet-stream")
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		}
	}
	mux.HandleFunc("GET "+pathHead, func(w http.ResponseWriter, _ *http.Request) { peerapi.Reply(w, head()) })
	mux.HandleFunc("GET "+pathBlob+"{digest}", serve(b.Blob))
	mux.HandleFunc("GET "+pathSignatures+"{digest}", serve(b.Signatures))
}

// HeadOf is what a member with this state tells its peers; an install that awaits its confirmation is not in it.
func HeadOf(st store.State) Head {
	h := Head{Ref: st.Ref()}
	for _, e := range st.Entries {
		h.Known = append(h.Known, e.Ref)
		if e.Refused != "" {
			h.Refused = append(h.Refused, e.Digest)
		}
	}
	return h
}

// check bounds what a peer told.
func (h Head) check() error {
	if len(h.Known) > maxKnown || len(h.Refused) > maxKnown {
		return fmt.Errorf("a history of %d policies: the most is %d", max(len(h.Known), len(h.Refused)), maxKnown)
	}
	if h.IsZero() {
		return nil
	}
	if h.Revision == 0 {
		return fmt.Errorf("revision 0 is none")
	}
	return artifact.CheckDigest(h.Digest)
}

// Peer is another member's store.
type Peer struct{ *peerapi.Peer }

var _ Remote = Peer{}

// Head asks what the peer runs.
func (p Peer) Head(ctx context.Context) (h Head, err error) {
	if err := p.Call(ctx, http.MethodGet, pathHead, nil, &h); err != nil {
		return Head{}, err
	}
	if err := h.check(); err != nil {
		return Head{}, fmt.Errorf("its answer is bad: %w", err)
	}
	return h, nil
}

func (p Peer) read(ctx context.Context, path string) ([]byte, error) {
	rc, err := p.Open(ctx, path, 0)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	data, err := io.ReadAll(io.LimitReader(rc, artifact.MaxManifest+1))
	if err == nil && len(data) > artifact.MaxManifest {
		err = permanent{fmt.Errorf("%s: more than %d bytes", path, artifact.MaxManifest)}
	}
	return data, err
}

// Manifest implements [Remote].
func (p Peer) Manifest(ctx context.Context, d digest.Digest) ([]byte, error) {
	return p.read(ctx, pathBlob+string(d))
}

// Signatures implements [Remote].
func (p Peer) Signatures(ctx context.Context, d digest.Digest) ([]byte, error) {
	return p.read(ctx, pathSignatures+string(d))
}

// Blob implements [Remote].
func (p Peer) Blob(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	return p.Open(ctx, pathBlob+string(d.Digest), offset)
}
