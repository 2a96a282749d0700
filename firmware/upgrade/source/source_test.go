package source_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/twinkeep/twinkeep/firmware/policy/registry"
	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/firmware/upgrade/bundle"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp/esptest"
	"github.com/twinkeep/twinkeep/firmware/upgrade/source"
	"github.com/twinkeep/twinkeep/tools/managertest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	managertest.Cleanup()
	os.Exit(code)
}

// TestRegistry installs from the management server, and from nowhere else with its token.
func TestRegistry(t *testing.T) {
	m := managertest.Start(t)
	m.Publish("firmware/twinkeep", "v2", source.MediaType, map[string][]byte{
		source.FileName("generic-x86_64"): esptest.Bundle(t, esptest.Release(2), 3<<20),
		source.FileName("apu2"):           esptest.Bundle(t, upgrade.Release{Board: "apu2", Version: "x", Revision: 2}, 0),
	})
	dir := t.TempDir()
	text, err := yaml.Marshal(m.Config("policies/x", m.Gateway))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, registry.FileName), text, 0o600); err != nil {
		t.Fatal(err)
	}
	ref := "oci://" + m.Address + "/firmware/twinkeep"
	b := esptest.New(t, t.TempDir(), esptest.Release(1))
	src, err := source.Open(t.Context(), ref+":v2", source.Options{ConfigDir: dir, Board: "generic-x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	sys, err := b.Place().Open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sys.Install(src, false, nil); err != nil {
		t.Fatal(err)
	}
	sys.Close()
	if r := b.Start(); r != esptest.Release(2) {
		t.Errorf("started %v", r)
	}
	for want, o := range map[string]struct {
		ref string
		o   source.Options
	}{
		"not found":                     {ref + ":v3", source.Options{ConfigDir: dir}},
		"upgrade files for several":     {ref + ":v2", source.Options{ConfigDir: dir, Board: "none"}},
		"certificate":                   {ref + ":v2", source.Options{}}, // a stranger's authority
		"names no tag":                  {ref, source.Options{ConfigDir: dir}},
		"is none of http, https, oci":   {"ftp://x/y", source.Options{}},
		"invalid reference":             {"oci://x:x:x/UP", source.Options{}},
		"no such file":                  {"/nonexistent", source.Options{}},
		"is a folder, not an upgrade":   {dir, source.Options{}},
		"connection refused":            {"http://127.0.0.1:1/x", source.Options{}},
		"dial tcp 127.0.0.1:1: connect": {"oci+http://127.0.0.1:1/x:y", source.Options{}},
	} {
		if s, err := source.Open(t.Context(), o.ref, o.o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", o.ref, err, want)
			if err == nil {
				s.Close()
			}
		}
	}
}

// TestRefusedBeforeAByte: a bad file on a web server leaves the partition as it was.
func TestRefusedBeforeAByte(t *testing.T) {
	good := esptest.Bundle(t, esptest.Release(2), 100_000)
	foreign := esptest.Bundle(t, upgrade.Release{Board: "apu2", Version: "x", Revision: 2}, 0)
	forged := bytes.Clone(good)
	forged[40] ^= 1
	files := map[string][]byte{
		"/good": good, "/older": esptest.Bundle(t, esptest.Release(0), 0), "/foreign": foreign, "/forged": forged, "/cut": good[:len(good)-1], "/long": append(bytes.Clone(good), 0),
		"/huge": esptest.Bundle(t, esptest.Release(2), upgrade.MaxImage),
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b, ok := files[r.URL.Path]; ok {
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
			w.Write(b)
			return
		}
		http.NotFound(w, r)
	}))
	srv.Start()
	defer srv.Close()
	b := esptest.New(t, t.TempDir(), esptest.Release(1))
	install := func(path string) error {
		src, err := source.Open(context.Background(), srv.URL+path, source.Options{})
		if err != nil {
			return err
		}
		defer src.Close()
		sys, err := b.Place().Open()
		if err != nil {
			t.Fatal(err)
		}
		defer sys.Close()
		_, err = sys.Install(src, false, nil)
		return err
	}
	before := b.List()
	for path, want := range map[string]string{
		"/older": "older than the running image", "/foreign": `for board "apu2"`, "/forged": bundle.ErrSignature.Error(), "/cut": "1 are missing",
		"/long": "1 bytes behind its end", "/huge": "the image is", "/none": "404",
	} {
		if err := install(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
		if after := b.List(); after != before {
			t.Errorf("%s left\n%s\nbefore\n%s", path, after, before)
		}
	}
	if err := install("/good"); err != nil {
		t.Error(err)
	}
}
