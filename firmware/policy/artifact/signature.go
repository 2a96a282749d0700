package artifact

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media type and annotation of cosign's signatures, and the type field of its payload
// (github.com/sigstore/cosign, specs/SIGNATURE_SPEC.md).
const (
	TypePayload         = "application/vnd.dev.cosign.simplesigning.v1+json"
	AnnotationSignature = "dev.cosignproject.cosign/signature"
	payloadType         = "cosign container image signature"
)

// Signature of a manifest's digest.
type Signature struct {
	Payload   []byte // the bytes that were signed: simple signing's JSON, which names the digest
	Signature []byte // ECDSA: ASN.1, over the payload's SHA-256; ed25519: over the payload
}

// payload is simple signing's JSON (github.com/containers/image, docs/containers-signature.5.md).
type payload struct {
	Critical struct {
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]any `json:"optional"`
}

// Payload makes the bytes to sign for a manifest. name is told to whoever reads the signature; what a gateway checks
// is the name in the manifest.
func Payload(manifest digest.Digest, name string) []byte {
	var p payload
	p.Critical.Identity.Reference = name
	p.Critical.Image.Digest = string(manifest)
	p.Critical.Type = payloadType
	data, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings only
	}
	return data
}

// ParsePayload gives the digest that a payload is about.
func ParsePayload(data []byte) (digest.Digest, error) {
	if len(data) > MaxPayload {
		return "", fmt.Errorf("signature payload: %d bytes, the most is %d", len(data), MaxPayload)
	}
	var p payload
	if err := json.Unmarshal(data, &p); err != nil {
		return "", fmt.Errorf("signature payload: %w", err)
	}
	if p.Critical.Type != payloadType {
		return "", fmt.Errorf("signature payload: type %.60q, want %q", p.Critical.Type, payloadType)
	}
	d := digest.Digest(p.Critical.Image.Digest)
	if err := CheckDigest(d); err != nil {
		return "", fmt.Errorf("signature payload: %w", err)
	}
	return d, nil
}

// SignatureTag is where a registry has the signatures of a manifest.
func SignatureTag(manifest digest.Digest) string {
	return manifest.Algorithm().String() + "-" + manifest.Encoded() + ".sig"
}

// Bundle is the signature manifest of an artifact with the blobs it names.
type Bundle struct {
	Manifest []byte
	Config   []byte
	Payloads [][]byte
}

// imageConfig is the config of a signature manifest: cosign wants an image's.
type imageConfig struct {
	Architecture string         `json:"architecture"`
	OS           string         `json:"os"`
	Config       struct{}       `json:"config"`
	RootFS       ocispec.RootFS `json:"rootfs"`
}

// SignatureBundle packs the signatures. The same signatures give the same bytes.
func (a *Artifact) SignatureBundle() (Bundle, error) {
	if len(a.Signatures) == 0 {
		return Bundle{}, errors.New("the policy is not signed: sign it with: twinkeep policy sign")
	}
	if len(a.Signatures) > MaxSignatures {
		return Bundle{}, fmt.Errorf("%d signatures, the most is %d", len(a.Signatures), MaxSignatures)
	}
	var b Bundle
	c := imageConfig{RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, s := range a.Signatures {
		layer := describe(TypePayload, s.Payload)
		layer.Annotations = map[string]string{AnnotationSignature: base64.StdEncoding.EncodeToString(s.Signature)}
		m.Layers = append(m.Layers, layer)
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, layer.Digest)
		b.Payloads = append(b.Payloads, s.Payload)
	}
	var err error
	if b.Config, err = json.Marshal(c); err != nil {
		return Bundle{}, fmt.Errorf("pack the signatures: %w", err)
	}
	m.Config = describe(ocispec.MediaTypeImageConfig, b.Config)
	if b.Manifest, err = json.Marshal(m); err != nil {
		return Bundle{}, fmt.Errorf("pack the signatures: %w", err)
	}
	return b, nil
}

// SignatureRef is one layer of a signature manifest.
type SignatureRef struct {
	Payload   ocispec.Descriptor
	Signature []byte
}

// ParseSignatures reads a signature manifest. Layers of other types are passed over; certificates and transparency-log
// entries that cosign may have added are not used.
func ParseSignatures(data []byte) ([]SignatureRef, error) {
	m, err := parseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("signature manifest: %w", err)
	}
	if len(m.Layers) > MaxSignatures {
		return nil, fmt.Errorf("signature manifest: %d layers, the most is %d", len(m.Layers), MaxSignatures)
	}
	var refs []SignatureRef
	for i, l := range m.Layers {
		if l.MediaType != TypePayload {
			continue
		}
		if err := CheckDigest(l.Digest); err != nil {
			return nil, fmt.Errorf("signature manifest, layer %d: %w", i, err)
		}
		if l.Size <= 0 || l.Size > MaxPayload {
			return nil, fmt.Errorf("signature manifest, layer %d: payload of %d bytes, want 1 to %d", i, l.Size, MaxPayload)
		}
		sig, err := base64.StdEncoding.DecodeString(l.Annotations[AnnotationSignature])
		if err != nil || len(sig) == 0 {
			return nil, fmt.Errorf("signature manifest, layer %d: annotation %s is not base64", i, AnnotationSignature)
		}
		refs = append(refs, SignatureRef{
			Payload:   ocispec.Descriptor{MediaType: TypePayload, Digest: l.Digest, Size: l.Size},
			Signature: sig,
		})
	}
	if len(refs) == 0 {
		return nil, errors.New("signature manifest: no signature in it")
	}
	return refs, nil
}
