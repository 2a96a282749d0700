package managertest

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// operator gives a client the operator's token.
func (s *Server) operator() *auth.Client {
	s.t.Helper()
	c := s.Config("any", s.Operator)
	transport, err := c.Transport()
	if err != nil {
		s.t.Fatal(err)
	}
	return &auth.Client{Client: &http.Client{Transport: transport}, Cache: auth.NewCache(),
		Credential: auth.StaticCredential(s.Address, auth.Credential{Username: "operator", Password: s.Operator})}
}

// Publish puts files into a repository as `oras push` does, under their names and all of one media type, which is the artifact's too.
func (s *Server) Publish(repository, tag, mediaType string, files map[string][]byte) {
	s.t.Helper()
	repo, err := remote.NewRepository(s.Address + "/" + repository)
	if err != nil {
		s.t.Fatal(err)
	}
	repo.Client = s.operator()
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: mediaType, Config: ocispec.DescriptorEmptyJSON}
	push := func(mediaType string, data []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		if err := repo.Blobs().Push(s.t.Context(), d, bytes.NewReader(data)); err != nil {
			s.t.Fatal(err)
		}
		return d
	}
	push(ocispec.MediaTypeEmptyJSON, []byte("{}"))
	for name, data := range files {
		d := push(mediaType, data)
		d.Annotations = map[string]string{ocispec.AnnotationTitle: name}
		m.Layers = append(m.Layers, d)
	}
	text, err := json.Marshal(m)
	if err != nil {
		s.t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(text), Size: int64(len(text))}
	if err := repo.Manifests().PushReference(s.t.Context(), d, bytes.NewReader(text), tag); err != nil {
		s.t.Fatal(err)
	}
}
