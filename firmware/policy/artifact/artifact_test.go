package artifact

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/twinkeep/twinkeep/tools/golden"
)

var meta = Meta{
	Name: "office", Revision: 42, Previous: digest.FromString("41"), Restores: 40, Author: "admin@ws",
	Created: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC),
}

func signed(t *testing.T) *Artifact {
	t.Helper()
	a, err := New(meta, []byte("version: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	a.Signatures = []Signature{{Payload: Payload(a.Digest(), a.Meta.Name), Signature: []byte("not a real one")}}
	return a
}

func TestGolden(t *testing.T) {
	a := signed(t)
	b, err := a.SignatureBundle()
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "testdata/manifest.json", a.Manifest)
	golden.Check(t, "testdata/payload.json", a.Signatures[0].Payload)
	golden.Check(t, "testdata/signature.json", b.Manifest)
	golden.Check(t, "testdata/signature-config.json", b.Config)
	got, document, err := ParseManifest(a.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(meta, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	if document.Digest != digest.FromBytes(a.Document) {
		t.Errorf("document %v", document)
	}
	refs, err := ParseSignatures(b.Manifest)
	if err != nil || len(refs) != 1 || string(refs[0].Signature) != "not a real one" || refs[0].Payload.Digest != digest.FromBytes(b.Payloads[0]) {
		t.Errorf("signatures read back: %+v, %v", refs, err)
	}
	if d, err := ParsePayload(b.Payloads[0]); err != nil || d != a.Digest() {
		t.Errorf("payload read back: %v, %v", d, err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		change     func(*Meta)
		document   string
	}{
		{"no name", "policy name", func(m *Meta) { m.Name = "" }, "x"},
		{"name with a slash", "policy name", func(m *Meta) { m.Name = "a/b" }, "x"},
		{"revision 0", "the first is 1", func(m *Meta) { m.Revision = 0 }, "x"},
		{"previous of another algorithm", "unsupported digest", func(m *Meta) { m.Previous = digest.Digest("sha512:" + strings.Repeat("0", 128)) }, "x"},
		{"restores itself", "cannot restore", func(m *Meta) { m.Restores = 42 }, "x"},
		{"control characters", "printable", func(m *Meta) { m.Author = "a\x1b[2J" }, "x"},
		{"no document", "0 bytes", func(*Meta) {}, ""},
		{"large document", "want 1 to", func(*Meta) {}, strings.Repeat("x", MaxDocument+1)},
	} {
		m := meta
		tt.change(&m)
		if _, err := New(m, []byte(tt.document)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q in it", tt.name, err, tt.want)
		}
	}
}

// edited gives the golden manifest with one thing changed in it.
func edited(t *testing.T, data []byte, change func(m map[string]any)) []byte {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestParseManifestRefuses(t *testing.T) {
	a := signed(t)
	annotation := func(key, value string) func(map[string]any) {
		return func(m map[string]any) { m["annotations"].(map[string]any)[key] = value }
	}
	layer := func(m map[string]any) map[string]any { return m["layers"].([]any)[0].(map[string]any) }
	for _, tt := range []struct {
		name, want string
		change     func(map[string]any)
	}{
		{"an image", "no Twinkeep policy", func(m map[string]any) { m["config"].(map[string]any)["mediaType"] = "x" }},
		{"schema 1", "schema 1", func(m map[string]any) { m["schemaVersion"] = 1 }},
		{"two layers", "2 layers", func(m map[string]any) { m["layers"] = append(m["layers"].([]any), layer(m)) }},
		{"digest with a path", "digest", func(m map[string]any) { layer(m)["digest"] = "sha256:../../../etc/passwd" }},
		{"large document", "want 1 to", func(m map[string]any) { layer(m)["size"] = MaxDocument + 1 }},
		{"negative size", "want 1 to", func(m map[string]any) { layer(m)["size"] = -1 }},
		{"no revision", "not a decimal", annotation(AnnotationRevision, "")},
		{"revision with a sign", "not a decimal", annotation(AnnotationRevision, "+42")},
		{"revision beyond 64 bits", "not a decimal", annotation(AnnotationRevision, "18446744073709551616")},
		{"name", "policy name", annotation(AnnotationName, "../x")},
		{"time", "created", annotation("org.opencontainers.image.created", "yesterday")},
	} {
		if _, _, err := ParseManifest(edited(t, a.Manifest, tt.change)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q in it", tt.name, err, tt.want)
		}
	}
	if _, _, err := ParseManifest(make([]byte, MaxManifest+1)); err == nil {
		t.Error("a manifest beyond the limit was read")
	}
}

func FuzzParseManifest(f *testing.F) {
	a, _ := New(meta, []byte("version: 1\n"))
	f.Add(a.Manifest)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, d, err := ParseManifest(data)
		if err != nil {
			return
		}
		if m.check() != nil || CheckDigest(d.Digest) != nil || d.Size <= 0 || d.Size > MaxDocument {
			t.Errorf("accepted %+v, %+v", m, d)
		}
	})
}

func FuzzParseSignatures(f *testing.F) {
	a, _ := New(meta, []byte("version: 1\n"))
	a.Signatures = []Signature{{Payload: Payload(a.Digest(), "x"), Signature: []byte("y")}}
	b, _ := a.SignatureBundle()
	f.Add(b.Manifest)
	f.Fuzz(func(t *testing.T, data []byte) {
		refs, err := ParseSignatures(data)
		if err == nil && (len(refs) == 0 || len(refs) > MaxSignatures) {
			t.Errorf("%d signatures", len(refs))
		}
		for _, r := range refs {
			if r.Payload.Size > MaxPayload || CheckDigest(r.Payload.Digest) != nil || len(r.Signature) == 0 {
				t.Errorf("accepted %+v", r)
			}
		}
	})
}

func FuzzParsePayload(f *testing.F) {
	f.Add(Payload(digest.FromString("x"), "office"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if d, err := ParsePayload(data); err == nil && CheckDigest(d) != nil {
			t.Errorf("accepted %q", d)
		}
	})
}

func TestBundle(t *testing.T) {
	a := signed(t)
	var file bytes.Buffer
	if err := WriteBundle(&file, a); err != nil {
		t.Fatal(err)
	}
	data := file.Bytes()
	got, err := ReadBundle(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	for n := 0; n < len(data); n += 211 {
		if n >= len(data)-1024-512 {
			break // the end of an archive is padding
		}
		if _, err := ReadBundle(bytes.NewReader(data[:n])); err == nil {
			t.Errorf("the first %d of %d bytes were read as a policy", n, len(data))
		}
	}
	unsigned := *a
	unsigned.Signatures = nil
	if err := WriteBundle(io.Discard, &unsigned); err == nil {
		t.Error("an unsigned policy was written")
	}
}

func FuzzReadBundle(f *testing.F) {
	a, _ := New(meta, []byte("version: 1\n"))
	a.Signatures = []Signature{{Payload: Payload(a.Digest(), "x"), Signature: []byte("y")}}
	var file bytes.Buffer
	if err := WriteBundle(&file, a); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := ReadBundle(bytes.NewReader(data))
		if err != nil {
			return
		}
		if len(a.Document) == 0 || len(a.Signatures) == 0 || a.Meta.check() != nil {
			t.Errorf("accepted %+v", a)
		}
	})
}

func TestRef(t *testing.T) {
	d := digest.Digest("sha256:00000000000000ff" + strings.Repeat("a", 48))
	r := Ref{Revision: 7, Digest: d}
	if r.Word() != 0xff || (Ref{}).Word() != 0 || r.IsZero() || !(Ref{}).IsZero() {
		t.Errorf("%x", r.Word())
	}
	if r.String() != "revision 7 (000000000000)" || (Ref{}).String() != "no policy" {
		t.Errorf("%s, %s", r, Ref{})
	}
}
