package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twinkeep/twinkeep/board"
	"github.com/twinkeep/twinkeep/init/module"
	"github.com/twinkeep/twinkeep/tools/image/disk"
	"github.com/twinkeep/twinkeep/tools/image/kernel"
)

// target is an architecture that images can be built for.
type target struct {
	uname  string // as board files write it
	golang string // GOARCH
	debian string // of packages
	kernel string // meta package of the kernel
	efi    string // in names of EFI executables (UEFI 2.10, 3.5.1.1)
	serial string // console of the kernel
	slot   int    // budget of the image of a slot in bytes
	esp    int64  // size of the EFI system partition: two slots, and a third image while it is written
}

// Debian compresses its kernel for x86_64 only: the one for aarch64 has 33 MB. Compare upgrade.MaxImage.
var targets = []target{
	{"x86_64", "amd64", "amd64", "linux-image-amd64", "x64", "ttyS0,115200", 24 << 20, disk.ESPSize},
	{"aarch64", "arm64", "arm64", "linux-image-arm64", "aa64", "ttyAMA0,115200", 48 << 20, 160 << 20},
}

// chooseTarget takes the architecture of the board, its kernel package when none is named, and makes apt serve it.
func (b *build) chooseTarget(ctx context.Context) error {
	own, err := board.Named(b.board)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if t.uname == own.Arch {
			b.target = t
		}
	}
	if b.target.uname == "" {
		return fmt.Errorf("board %s: no image can be built for %s", own.Name, own.Arch)
	}
	if b.kernel == "" {
		b.kernel = b.target.kernel
	}
	out, err := exec.CommandContext(ctx, "dpkg", "--print-architecture").Output()
	if err != nil {
		return fmt.Errorf("ask dpkg for this machine's architecture: %w", err)
	}
	if strings.TrimSpace(string(out)) == b.target.debian {
		return nil
	}
	return b.foreignApt(ctx)
}

// foreignApt lets apt-get and apt-cache work for another architecture, with lists of their own in the cache: nothing
// changes on this machine, and root is not needed.
func (b *build) foreignApt(ctx context.Context) error {
	dir, err := filepath.Abs(filepath.Join(b.cache, "apt-"+b.target.debian))
	if err != nil {
		return err
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	config := filepath.Join(dir, "apt.conf")
	text := fmt.Sprintf("APT::Architecture %q;\nAPT::Architectures { %q; };\nDir::State::lists %q;\nDir::State::status %q;\nDir::Cache %q;\nAPT::Sandbox::User \"root\";\n",
		b.target.debian, b.target.debian, filepath.Join(dir, "lists"), filepath.Join(dir, "status"), filepath.Join(dir, "cache"))
	for name, data := range map[string]string{config: text, filepath.Join(dir, "status"): ""} {
		if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
			return err
		}
	}
	// The tools that package kernel runs inherit it.
	if err := os.Setenv("APT_CONFIG", config); err != nil {
		return err
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "lists", "*Packages*")); len(found) > 0 {
		return nil
	}
	b.progress("reading the package lists of %s", b.target.debian)
	if out, err := exec.CommandContext(ctx, "apt-get", "update", "-q").CombinedOutput(); err != nil {
		return fmt.Errorf("read the package lists of %s: %w: %s", b.target.debian, err, out)
	}
	return nil
}

// present puts both lists together without what the kernel does not have: of the boards' modules whatever it is (a kernel
// of our own need not serve all boards), of the image's list, which is made for x86_64, on other architectures all but what
// is loaded at every boot. It says what it leaves out.
func (b *build) present(dir string, wanted, boards []kernel.Wanted) ([]kernel.Wanted, error) {
	there := make(map[string]bool)
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if name, _, ok := strings.Cut(filepath.Base(p), ".ko"); err == nil && ok {
			there[module.Normal(name)] = true
		}
		return err
	})
	builtin, berr := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err := errors.Join(err, berr); err != nil {
		return nil, fmt.Errorf("list kernel modules: %w", err)
	}
	for line := range strings.Lines(string(builtin)) {
		there[module.Normal(strings.TrimSuffix(filepath.Base(strings.TrimSpace(line)), ".ko"))] = true
	}
	var out []kernel.Wanted
	var gone []string
	for i, w := range slices.Concat(wanted, boards) {
		must := i < len(wanted) && (b.target.uname == "x86_64" || w.Kind == module.Boot)
		if there[w.Name] || must {
			out = append(out, w)
		} else {
			gone = append(gone, w.Name)
		}
	}
	if len(gone) > 0 {
		b.progress("not in the kernel of %s, left out: %s", b.target.uname, strings.Join(gone, " "))
	}
	return out, nil
}
