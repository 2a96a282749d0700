package kernel

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeMakefile stands for the kernel's: it takes every option but one, and its
// image says what it was built with.
const fakeMakefile = `
allnoconfig:
	grep -v CONFIG_DROPPED $(KCONFIG_ALLCONFIG) > $(O)/.config
bzImage:
	echo "once more" >> $(COUNT)
	echo "CC a.o"; echo "CC b.o"
	mkdir -p $(O)/arch/x86/boot $(O)/include/config
	echo "$(KBUILD_BUILD_TIMESTAMP) $(KBUILD_BUILD_USER) $$KCFLAGS$$LANG $(WHERE)" > $(O)/arch/x86/boot/bzImage
	echo kernel/drivers/net/veth.ko > $(O)/modules.builtin
	echo 6.1.192-twinkeep > $(O)/include/config/kernel.release
`

// fake makes an Own whose sources are a Makefile; where goes into the image.
func fake(t *testing.T, where string, options ...Option) (o *Own, count string) {
	t.Helper()
	cache := t.TempDir()
	count = filepath.Join(cache, "count")
	src := filepath.Join(t.TempDir(), "linux-source-6.1")
	text := "COUNT=" + count + "\nWHERE=" + where + "\n" + fakeMakefile
	root := filepath.Join(cache, "package")
	for name, data := range map[string]string{
		filepath.Join(src, "Makefile"): text, filepath.Join(src, "Kconfig"): "", filepath.Join(src, "scripts/config"): "",
		filepath.Join(root, "usr/src/.keep"): "",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	archive := filepath.Join(root, "usr/src", Source+".tar.xz")
	if out, err := exec.CommandContext(t.Context(), "tar", "-C", filepath.Dir(src), "-cJf", archive, filepath.Base(src)).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return &Own{
		Cache: cache, Fragment: "kernel.config", Progress: t.Logf, options: options, tools: "gcc 12",
		source: &Package{Name: Source, Version: "6.1.192-2", Root: root}, date: time.Unix(1790000000, 0),
	}, count
}

func TestOwn(t *testing.T) {
	t.Setenv("KCFLAGS", "-O0") // must not arrive
	t.Setenv("LANG", "de_DE")
	o, count := fake(t, "", Option{"CONFIG_VETH", "y"}, Option{"CONFIG_MODULES", "n"})
	var got *Tree
	for range 2 { // the second time it is in the cache
		var err error
		if got, err = o.Build(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if got.Package != "linux-source-6.1" || got.Version != "6.1.192-2" || got.Release != "6.1.192-twinkeep" || !strings.Contains(got.Built, "gcc 12") {
		t.Errorf("%+v", got)
	}
	for name, want := range map[string]string{
		got.Vmlinuz(): "Mon Sep 21 14:13:20 UTC 2026 twinkeep  \n",
		got.Config():  "CONFIG_VETH=y\nCONFIG_MODULES=n\n",
	} {
		text, err := os.ReadFile(name)
		if diff := cmp.Diff(want, string(text)); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	builtin, err := readBuiltin(got.Modules())
	if diff := cmp.Diff(map[string]bool{"veth": true}, builtin); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if err := o.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	built, err := os.ReadFile(count)
	if n := bytes.Count(built, []byte("\n")); err != nil || n != 2 {
		t.Errorf("built %d times (%v), want once, and once to verify", n, err)
	}
}

func TestOwnRefuses(t *testing.T) {
	o, count := fake(t, "", Option{"CONFIG_VETH", "y"}, Option{"CONFIG_DROPPED", "y"})
	_, err := o.Build(t.Context())
	for _, err := range []error{err, o.Check(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), "does not keep CONFIG_DROPPED=y (is n)") {
			t.Errorf("error %v, want the option in it", err)
		}
	}
	if _, err := os.Stat(count); err == nil {
		t.Error("it was compiled all the same")
	}
	// An image that depends on the folder it was built in.
	o, _ = fake(t, "$(O)", Option{"CONFIG_VETH", "y"})
	if err := o.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), "not reproducible") {
		t.Errorf("error %v, want not reproducible", err)
	}
}

func TestChangelogDate(t *testing.T) {
	dir := tree(t, map[string][]byte{
		"c.gz": gz([]byte("linux (6.1.192-2) bookworm; urgency=high\n\n  * x <y>  z\n\n -- A B <a@b>  Mon, 16 Nov 2026 11:17:40 +0100\n\n -- older <a@b>  Mon, 02 Nov 2026 11:17:40 +0100\n")),
		"e.gz": gz([]byte("nothing\n")),
	})
	got, err := changelogDate(filepath.Join(dir, "c.gz"))
	if want := time.Date(2026, 11, 16, 10, 17, 40, 0, time.UTC); err != nil || !got.Equal(want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if _, err := changelogDate(filepath.Join(dir, "e.gz")); err == nil {
		t.Error("a changelog without an entry was taken")
	}
}
