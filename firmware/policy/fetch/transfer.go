package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/twinkeep/twinkeep/firmware/peerapi"
	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/registry"
)

// Remote has policies: a peer or a registry.
type Remote interface {
	Manifest(ctx context.Context, d digest.Digest) ([]byte, error)
	Signatures(ctx context.Context, d digest.Digest) ([]byte, error)
	Blob(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error)
}

var _ Remote = (*registry.Registry)(nil)

// Transfer says how patient Get is. The zero value means the defaults.
type Transfer struct {
	Attempts int           // for each piece; 5
	Pause    time.Duration // before the second attempt, then doubled; 500 ms
	Stall    time.Duration // without a byte, after which an attempt is given up; 15 s
}

func (t Transfer) orDefault() Transfer {
	if t.Attempts == 0 {
		t.Attempts = 5
	}
	if t.Pause == 0 {
		t.Pause = 500 * time.Millisecond
	}
	if t.Stall == 0 {
		t.Stall = 15 * time.Second
	}
	return t
}

// Get transfers a policy with its signatures. The pieces have the digests that d leads to; the signatures are not checked.
// A connection that breaks or stalls is resumed where it was.
func (t Transfer) Get(ctx context.Context, r Remote, d digest.Digest) (*artifact.Artifact, error) {
	t = t.orDefault()
	if err := artifact.CheckDigest(d); err != nil {
		return nil, err
	}
	var a artifact.Artifact
	err := t.retry(ctx, func(ctx context.Context) (err error) {
		if a.Manifest, err = r.Manifest(ctx, d); err == nil && digest.FromBytes(a.Manifest) != d {
			err = permanent{errors.New("the manifest that came is another one")}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	meta, document, err := artifact.ParseManifest(a.Manifest)
	if err != nil {
		return nil, err
	}
	a.Meta = meta
	var signatures []byte
	if err := t.retry(ctx, func(ctx context.Context) (err error) { signatures, err = r.Signatures(ctx, d); return err }); err != nil {
		return nil, fmt.Errorf("signatures of %s: %w", a.Ref(), err)
	}
	refs, err := artifact.ParseSignatures(signatures)
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		payload, err := t.blob(ctx, r, ref.Payload)
		if err != nil {
			return nil, err
		}
		a.Signatures = append(a.Signatures, artifact.Signature{Payload: payload, Signature: ref.Signature})
	}
	if a.Document, err = t.blob(ctx, r, document); err != nil {
		return nil, err
	}
	return &a, nil
}

// permanent errors are not tried again.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

func final(err error) bool {
	var p permanent
	var e *peerapi.Error
	return errors.As(err, &p) || errors.Is(err, registry.ErrNone) || errors.As(err, &e) && e.Status < http.StatusInternalServerError
}

// retry calls f until it works, the error is final, the attempts are used up or ctx ends.
func (t Transfer) retry(ctx context.Context, f func(context.Context) error) error {
	pause := t.Pause
	for attempt := 1; ; attempt++ {
		limit, cancel := context.WithTimeout(ctx, t.Stall)
		err := f(limit)
		cancel()
		if err == nil || attempt == t.Attempts || final(err) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		}
		pause *= 2
	}
}

// blob transfers one blob, with as many attempts as it takes while each brings something.
func (t Transfer) blob(ctx context.Context, r Remote, d ocispec.Descriptor) ([]byte, error) {
	data := make([]byte, 0, min(d.Size, 1<<20)) // what is claimed is not allocated before it comes
	for {
		had := len(data)
		err := t.retry(ctx, func(context.Context) (err error) {
			before := len(data)
			data, err = t.part(ctx, r, d, data)
			if err != nil && len(data) > before {
				return nil // there is progress: the count of attempts starts again
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%d of %d bytes: %w", len(data), d.Size, err)
		}
		if int64(len(data)) == d.Size {
			break
		}
		if len(data) == had {
			return nil, fmt.Errorf("%d of %d bytes: the transfer does not go on", len(data), d.Size)
		}
	}
	if digest.FromBytes(data) != d.Digest {
		return nil, fmt.Errorf("blob %s: what came has another digest", artifact.Short(d.Digest))
	}
	return data, nil
}

// part appends what one connection brings.
func (t Transfer) part(ctx context.Context, r Remote, d ocispec.Descriptor, data []byte) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(t.Stall, func() { cancel(fmt.Errorf("no byte in %v", t.Stall)) })
	defer watchdog.Stop()
	rc, err := r.Blob(ctx, d, int64(len(data)))
	if err != nil {
		return data, err
	}
	defer rc.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := rc.Read(buf[:min(int64(len(buf)), d.Size+1-int64(len(data)))])
		if n > 0 {
			watchdog.Reset(t.Stall)
			data = append(data, buf[:n]...)
		}
		switch {
		case int64(len(data)) > d.Size:
			return data[:0], permanent{fmt.Errorf("blob %s has more than %d bytes", artifact.Short(d.Digest), d.Size)}
		case err == io.EOF && int64(len(data)) < d.Size:
			return data, io.ErrUnexpectedEOF
		case err == io.EOF:
			return data, nil
		case err != nil && ctx.Err() != nil:
			return data, context.Cause(ctx)
		case err != nil:
			return data, err
		}
	}
}
