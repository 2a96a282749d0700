package artifact

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxBundle bounds the blobs of a bundle, in bytes.
const maxBundle = MaxDocument + 1<<20

const layoutVersion = `{"imageLayoutVersion":"1.0.0"}`

// WriteBundle writes a signed policy as one file: an OCI image layout in a tar archive, as oras and skopeo read it. The
// same policy gives the same bytes.
func WriteBundle(w io.Writer, a *Artifact) error {
	b, err := a.SignatureBundle()
	if err != nil {
		return err
	}
	tagged := func(data []byte, artifactType, tag string) ocispec.Descriptor {
		d := describe(ocispec.MediaTypeImageManifest, data)
		d.ArtifactType = artifactType
		d.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
		return d
	}
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{
			tagged(a.Manifest, TypeConfig, fmt.Sprintf("r%d", a.Meta.Revision)),
			tagged(b.Manifest, "", SignatureTag(a.Digest())),
		},
	})
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	write := func(name string, data []byte) {
		if err != nil {
			return
		}
		err = t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(0, 0)})
		if err == nil {
			_, err = t.Write(data)
		}
	}
	write(ocispec.ImageLayoutFile, []byte(layoutVersion))
	write(ocispec.ImageIndexFile, index)
	written := map[digest.Digest]bool{}
	for _, data := range append([][]byte{a.Manifest, config, a.Document, b.Manifest, b.Config}, b.Payloads...) {
		if d := digest.FromBytes(data); !written[d] {
			written[d] = true
			write(ocispec.ImageBlobsDir+"/sha256/"+d.Encoded(), data)
		}
	}
	if err == nil {
		err = t.Close()
	}
	if err != nil {
		return fmt.Errorf("write the policy file: %w", err)
	}
	return nil
}

// ReadBundle reads what WriteBundle wrote. Digests are checked, signatures are not.
func ReadBundle(r io.Reader) (*Artifact, error) {
	a, err := readBundle(r)
	if err != nil {
		return nil, fmt.Errorf("policy file: %w", err)
	}
	return a, nil
}

func readBundle(r io.Reader) (*Artifact, error) {
	blobs, index, err := readTar(r)
	if err != nil {
		return nil, err
	}
	var ix ocispec.Index
	if err := json.Unmarshal(index, &ix); err != nil {
		return nil, fmt.Errorf("%s: %w", ocispec.ImageIndexFile, err)
	}
	find := func(match func(ocispec.Descriptor) bool) []byte {
		for _, d := range ix.Manifests {
			if match(d) {
				return blobs[d.Digest]
			}
		}
		return nil
	}
	a := &Artifact{Manifest: find(func(d ocispec.Descriptor) bool { return d.ArtifactType == TypeConfig })}
	if a.Manifest == nil {
		return nil, errors.New("there is no policy in it")
	}
	meta, document, err := ParseManifest(a.Manifest)
	if err != nil {
		return nil, err
	}
	a.Meta, a.Document = meta, blobs[document.Digest]
	if int64(len(a.Document)) != document.Size {
		return nil, errors.New("the document is missing")
	}
	signatures := find(func(d ocispec.Descriptor) bool {
		return d.Annotations[ocispec.AnnotationRefName] == SignatureTag(a.Digest())
	})
	if signatures == nil {
		return nil, errors.New("it is not signed")
	}
	refs, err := ParseSignatures(signatures)
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		payload, ok := blobs[ref.Payload.Digest]
		if !ok || int64(len(payload)) != ref.Payload.Size {
			return nil, errors.New("the payload of a signature is missing")
		}
		a.Signatures = append(a.Signatures, Signature{Payload: payload, Signature: ref.Signature})
	}
	return a, nil
}

// readTar gives the blobs that have the digest of their name, and the index.
func readTar(r io.Reader) (map[digest.Digest][]byte, []byte, error) {
	t := tar.NewReader(io.LimitReader(r, 2*maxBundle))
	blobs := map[digest.Digest][]byte{}
	var index []byte
	left := int64(maxBundle)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return blobs, index, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("not a tar archive of a policy: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if left -= h.Size; left < 0 {
			return nil, nil, fmt.Errorf("more than %d bytes", maxBundle)
		}
		data, err := io.ReadAll(t)
		if err != nil {
			return nil, nil, err
		}
		name := strings.TrimPrefix(h.Name, "./")
		if name == ocispec.ImageIndexFile {
			index = data
		}
		if hex, ok := strings.CutPrefix(name, ocispec.ImageBlobsDir+"/sha256/"); ok {
			if d := digest.FromBytes(data); d.Encoded() == hex {
				blobs[d] = data
			} else {
				return nil, nil, fmt.Errorf("blob %.64s is damaged", hex)
			}
		}
	}
}
