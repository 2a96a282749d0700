package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// MediaType is of the layer that is an upgrade file. Its title (org.opencontainers.image.title) is the file's name, as
// `oras push` sets it.
const MediaType = "application/vnd.twinkeep.upgrade.v1"

const (
	maxManifest = 64 << 10
	maxLayers   = 64
)

// FileName is what an upgrade file for a board is called.
func FileName(board string) string { return "twinkeep-" + board + ".twk" }

func artifact(ctx context.Context, name string, plain bool, o Options) (*Source, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, fmt.Errorf("oci://%s: %w", name, err)
	}
	if ref.Reference == "" {
		return nil, fmt.Errorf("oci://%s names no tag and no digest: add :TAG", name)
	}
	client := &auth.Client{Cache: auth.NewCache()}
	client.SetUserAgent("twinkeep")
	transport := anonymous()
	if c, ours := settings(o.ConfigDir, ref.Registry); ours && !plain {
		if transport, err = c.Transport(); err != nil {
			return nil, err
		}
		if c.Token != "" {
			user := c.Username
			if user == "" {
				user = "gateway"
			}
			client.Credential = auth.StaticCredential(ref.Host(), auth.Credential{Username: user, Password: c.Token})
		}
	}
	client.Client = &http.Client{Transport: transport}
	repo := &remote.Repository{Client: client, Reference: ref, PlainHTTP: plain, MaxMetadataBytes: maxManifest}
	layer, err := find(ctx, repo, o.Board)
	if err != nil {
		return nil, fmt.Errorf("oci://%s: %w", name, err)
	}
	rc, err := repo.Blobs().Fetch(ctx, layer)
	if err != nil {
		return nil, fmt.Errorf("oci://%s: %w", name, err)
	}
	return &Source{watched(rc), layer.Size}, nil
}

// find reads the manifest and chooses the layer.
func find(ctx context.Context, repo *remote.Repository, board string) (ocispec.Descriptor, error) {
	_, rc, err := repo.Manifests().FetchReference(ctx, repo.Reference.Reference)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer rc.Close()
	data, err := io.ReadAll(io.LimitReader(rc, maxManifest+1))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if len(data) > maxManifest {
		return ocispec.Descriptor{}, fmt.Errorf("a manifest of more than %d bytes", maxManifest)
	}
	return choose(data, board)
}

// choose finds the upgrade file in a manifest: the only one, or the one with the board's name.
func choose(manifest []byte, board string) (ocispec.Descriptor, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("manifest: %w", err)
	}
	if len(m.Layers) > maxLayers {
		return ocispec.Descriptor{}, fmt.Errorf("manifest: %d layers, at most %d", len(m.Layers), maxLayers)
	}
	var files []ocispec.Descriptor
	var names []string
	for _, l := range m.Layers {
		if l.MediaType != MediaType || l.Digest.Validate() != nil || l.Size <= 0 {
			continue
		}
		title := l.Annotations[ocispec.AnnotationTitle]
		if board != "" && title == FileName(board) {
			return l, nil
		}
		files, names = append(files, l), append(names, title)
	}
	switch len(files) {
	case 0:
		return ocispec.Descriptor{}, errors.New("it has no upgrade file: no layer is " + MediaType)
	case 1:
		return files[0], nil
	}
	return ocispec.Descriptor{}, fmt.Errorf("it has upgrade files for several boards and none is %s: %s", FileName(board), strings.Join(names, ", "))
}
