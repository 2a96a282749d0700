// Package esptest is a box made of a folder: slots, images that nothing can run, and a boot loader that counts as systemd-boot
// does. For tests of members as ordinary processes.
package esptest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/firmware/upgrade/bundle"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp"
	"github.com/twinkeep/twinkeep/tools/image/uki"
	"github.com/twinkeep/twinkeep/tools/image/uki/ukitest"
)

// Key signs upgrade files of tests.
var Key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x54}, ed25519.SeedSize))

// Release is one of generic-x86_64.
func Release(revision uint64) upgrade.Release {
	return upgrade.Release{Board: "generic-x86_64", Version: fmt.Sprintf("test-%d", revision), Revision: revision}
}

// Image is an EFI executable with the sections of a slot. pad makes it larger.
func Image(t testing.TB, r upgrade.Release, pad int) []byte {
	t.Helper()
	b, err := uki.Build(uki.Parts{Stub: ukitest.Stub(0x400), OSRelease: r.Marshal(nil), Cmdline: "quiet", Linux: []byte("kernel"), Initrd: make([]byte, 1+pad)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Bundle is an upgrade file.
func Bundle(t testing.TB, r upgrade.Release, pad int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := bundle.Write(&b, r, Image(t, r, pad), Key); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Box is a folder with slot A filled.
type Box struct {
	esp.Volume
	t     testing.TB
	boots int
}

// New makes one below dir that has been started from slot A.
func New(t testing.TB, dir string, r upgrade.Release) *Box {
	t.Helper()
	b := &Box{Volume: esp.Volume{Root: dir}, t: t}
	image := Image(t, r, 0)
	e := upgrade.Entry{Slot: upgrade.A, Generation: 1, Release: r, Size: int64(len(image)), SHA256: sha256.Sum256(image)}
	b.put("upgrade.pub", []byte(base64.StdEncoding.EncodeToString(Key.Public().(ed25519.PublicKey))+"\n"))
	b.put(upgrade.A.Image(), image)
	b.put(upgrade.EntriesDir+"/"+e.Name(), e.Content())
	b.Start()
	return b
}

func (b *Box) put(name string, text []byte) {
	b.t.Helper()
	name = filepath.Join(b.Root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// Start plays the boot loader, and tells what it started.
func (b *Box) Start() upgrade.Release {
	b.t.Helper()
	table, err := b.Table()
	if err != nil || len(table) == 0 {
		b.t.Fatalf("boot loader: %v, %+v", err, table)
	}
	e := table.Order()[0]
	b.put("started", []byte(e.Name()))
	if e.Counted && e.Left > 0 {
		counted := e
		counted.Left--
		counted.Done++
		dir := filepath.Join(b.Root, upgrade.EntriesDir)
		if err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(dir, counted.Name())); err != nil {
			b.t.Fatal(err)
		}
	}
	b.boots++
	b.put("boot-id", fmt.Appendf(nil, "%d-%s", b.boots, rand.Text()))
	r, err := b.Release(e.Slot)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// Place is for the programs.
func (b *Box) Place() esp.Place { return esp.Place{Root: b.Root} }

// List is all files with their sizes, a line each.
func (b *Box) List() string {
	b.t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(b.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && d.Name() != "lock" {
			fmt.Fprintln(&out, path, info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return out.String()
}
