package sbom

import (
	"bytes"
	"encoding/json"
	"runtime/debug"
	"testing"
)

func TestMarshal(t *testing.T) {
	make := func(swap bool) []byte {
		d := Document{Name: "twinkeep-x", Version: "v1", Created: 1795360354}
		info := &debug.BuildInfo{GoVersion: "go1.26.8", Deps: []*debug.Module{{Path: "example.net/a", Version: "v1.0.0"}, {Path: "example.net/b", Version: "v2.0.0", Replace: &debug.Module{Path: "example.net/c", Version: "v3.0.0"}}}}
		if swap {
			d.Go(info)
			d.Go(info)
			d.Debian("linux-image", "6.1", "GPL-2.0-only")
		} else {
			d.Debian("linux-image", "6.1", "GPL-2.0-only")
			d.Go(info)
		}
		b, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	a := make(false)
	if !bytes.Equal(a, make(true)) {
		t.Error("the order, or a module in two programs, changes the document")
	}
	var doc struct {
		SPDXVersion  string `json:"spdxVersion"`
		CreationInfo struct{ Created string }
		Packages     []struct {
			Name         string
			ExternalRefs []struct {
				ReferenceLocator string `json:"referenceLocator"`
			}
		}
		Relationships []struct{ RelationshipType string }
	}
	if err := json.Unmarshal(a, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.SPDXVersion != "SPDX-2.3" || doc.CreationInfo.Created != "2026-11-22T15:12:34Z" || len(doc.Packages) != 5 || len(doc.Relationships) != 5 {
		t.Errorf("%+v", doc)
	}
	seen := map[string]bool{}
	for _, p := range doc.Packages[1:] {
		seen[p.ExternalRefs[0].ReferenceLocator] = true
	}
	for _, want := range []string{"pkg:golang/example.net/c@v3.0.0", "pkg:golang/stdlib@1.26.8", "pkg:deb/debian/linux-image@6.1?arch=amd64"} {
		if !seen[want] {
			t.Errorf("%s is missing in %v", want, seen)
		}
	}
}

func TestDebianSource(t *testing.T) {
	d := Document{Name: "twinkeep-x", Version: "v1"}
	d.DebianSource("linux-source-6.1", "6.1.192-2", "GPL-2.0-only", "built from source with gcc 12")
	b, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"comment": "built from source with gcc 12"`, `"pkg:deb/debian/linux-source-6.1@6.1.192-2?arch=all"`} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("%s is missing in %s", want, b)
		}
	}
}
