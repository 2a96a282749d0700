// Package sbom writes the list of everything an image is made of, as an SPDX
// 2.3 document in JSON (ISO/IEC 5962 is its version 2.2.1).
package sbom

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// Document collects packages. The same content gives the same bytes.
type Document struct {
	Name, Version string
	Created       uint64 // seconds since 1970
	packages      []pkg
}

type pkg struct {
	ID       string `json:"SPDXID"`
	Name     string `json:"name"`
	Version  string `json:"versionInfo"`
	Location string `json:"downloadLocation"`
	Analyzed bool   `json:"filesAnalyzed"`
	License  string `json:"licenseConcluded"`
	Declared string `json:"licenseDeclared"`
	Comment  string `json:"comment,omitempty"`
	Refs     []ref  `json:"externalRefs,omitempty"`
}

type ref struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

// Debian adds a Debian package.
func (d *Document) Debian(name, version, license string) {
	d.add(name, version, license, "", fmt.Sprintf("pkg:deb/debian/%s@%s?arch=amd64", name, version))
}

// DebianSource adds a Debian package of sources that something was built from;
// built says how.
func (d *Document) DebianSource(name, version, license, built string) {
	d.add(name, version, license, built, fmt.Sprintf("pkg:deb/debian/%s@%s?arch=all", name, version))
}

// Go adds a program's modules and the Go that built it.
func (d *Document) Go(info *debug.BuildInfo) {
	d.add("go", strings.TrimPrefix(info.GoVersion, "go"), "BSD-3-Clause", "", "pkg:golang/stdlib@"+strings.TrimPrefix(info.GoVersion, "go"))
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		d.add(m.Path, m.Version, "NOASSERTION", "", fmt.Sprintf("pkg:golang/%s@%s", m.Path, m.Version))
	}
}

var unfit = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

func (d *Document) add(name, version, license, comment, purl string) {
	p := pkg{
		ID: "SPDXRef-" + unfit.ReplaceAllString(name+"-"+version, "-"), Name: name, Version: version, Location: "NOASSERTION",
		License: license, Declared: license, Comment: comment, Refs: []ref{{"PACKAGE-MANAGER", "purl", purl}},
	}
	if !slices.ContainsFunc(d.packages, func(q pkg) bool { return q.ID == p.ID }) {
		d.packages = append(d.packages, p)
	}
}

type relationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

// Marshal writes the document.
func (d *Document) Marshal() ([]byte, error) {
	const root = "SPDXRef-image"
	all := []pkg{{ID: root, Name: d.Name, Version: d.Version, Location: "NOASSERTION", License: "NOASSERTION", Declared: "Apache-2.0"}}
	rest := slices.Clone(d.packages)
	slices.SortFunc(rest, func(a, b pkg) int { return strings.Compare(a.ID, b.ID) })
	all = append(all, rest...)
	relations := []relationship{{"SPDXRef-DOCUMENT", "DESCRIBES", root}}
	for _, p := range rest {
		relations = append(relations, relationship{root, "CONTAINS", p.ID})
	}
	list, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	doc := struct {
		ID        string `json:"SPDXID"`
		Version   string `json:"spdxVersion"`
		License   string `json:"dataLicense"`
		Name      string `json:"name"`
		Namespace string `json:"documentNamespace"`
		Creation  struct {
			Created  string   `json:"created"`
			Creators []string `json:"creators"`
		} `json:"creationInfo"`
		Packages  []pkg          `json:"packages"`
		Relations []relationship `json:"relationships"`
	}{
		ID: "SPDXRef-DOCUMENT", Version: "SPDX-2.3", License: "CC0-1.0", Name: d.Name,
		Namespace: fmt.Sprintf("https://twinkeep.github.io/spdx/%s-%x", d.Name, sha256.Sum256(append([]byte(d.Version), list...))),
		Packages:  all, Relations: relations,
	}
	doc.Creation.Created = time.Unix(int64(d.Created), 0).UTC().Format(time.RFC3339)
	doc.Creation.Creators = []string{"Tool: twinkeep-image"}
	text, err := json.MarshalIndent(doc, "", " ")
	return append(text, '\n'), err
}
