package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Tree is an unpacked kernel package.
type Tree struct {
	// Package is the concrete package, e.g. "linux-image-6.1.0-56-amd64", and
	// Version its version in the archive.
	Package, Version string
	// Release is what uname -r says, e.g. "6.1.0-56-amd64".
	Release string
	// Root is the folder it was unpacked into.
	Root string
	// Built says how a kernel of our own was built; empty for one from a package.
	Built string
}

// Vmlinuz is the kernel's boot image.
func (t *Tree) Vmlinuz() string { return filepath.Join(t.Root, "boot", "vmlinuz-"+t.Release) }

// Config is the configuration the kernel was built with.
func (t *Tree) Config() string { return filepath.Join(t.Root, "boot", "config-"+t.Release) }

// Modules is the folder of the modules.
func (t *Tree) Modules() string {
	for _, lib := range []string{"lib", "usr/lib"} {
		d := filepath.Join(t.Root, lib, "modules", t.Release)
		if _, err := os.Stat(d); err == nil {
			return d
		}
	}
	return filepath.Join(t.Root, "lib", "modules", t.Release)
}

// image matches the name of a concrete kernel package, as opposed to a meta
// package such as linux-image-amd64 or linux-image-generic.
var image = regexp.MustCompile(`^linux-image-(?:unsigned-)?(\d+\.\d+\.\d+.*)$`)

// Fetch downloads the package (a meta package is followed to the concrete one)
// and unpacks it into cache, unless it is there already.
//
// Debian has everything in linux-image-V. Ubuntu has the modules in
// linux-modules-V and linux-modules-extra-V: they are taken when apt knows
// them. The Ubuntu path follows its package layout but has not been run.
func Fetch(ctx context.Context, cache, pkg string, progress func(format string, args ...any)) (*Tree, error) {
	concrete, err := resolve(ctx, pkg)
	if err != nil {
		return nil, err
	}
	t := &Tree{Package: concrete, Release: image.FindStringSubmatch(concrete)[1]}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	names := []string{concrete}
	for _, extra := range []string{"linux-modules-" + t.Release, "linux-modules-extra-" + t.Release} {
		if candidate(ctx, extra) != "" {
			names = append(names, extra)
		}
	}
	var debs []string
	for _, name := range names {
		deb, err := download(ctx, cache, name, progress)
		if err != nil {
			return nil, err
		}
		debs = append(debs, deb)
	}
	t.Version = version(debs[0])
	t.Root = filepath.Join(cache, strings.TrimSuffix(filepath.Base(debs[0]), ".deb"))
	if _, err := os.Stat(t.Root); err == nil {
		return t, nil
	}
	return t, unpack(ctx, t.Root, debs, progress)
}

// unpack unpacks packages beside root and renames the result, so that a build
// that was interrupted does not leave half of it behind.
func unpack(ctx context.Context, root string, debs []string, progress func(string, ...any)) error {
	tmp := root + ".part"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	for _, deb := range debs {
		progress("unpacking %s", filepath.Base(deb))
		if _, err := run(ctx, "", "dpkg", "-x", deb, tmp); err != nil {
			return err
		}
	}
	return os.Rename(tmp, root)
}

// Package is any other unpacked package.
type Package struct{ Name, Version, Root string }

// FetchPackage downloads a package of programs for the image and unpacks it
// into cache, unless it is there already. It is not installed.
func FetchPackage(ctx context.Context, cache, name string, progress func(format string, args ...any)) (*Package, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	deb, err := download(ctx, cache, name, progress)
	if err != nil {
		return nil, err
	}
	p := &Package{Name: name, Version: version(deb), Root: filepath.Join(cache, strings.TrimSuffix(filepath.Base(deb), ".deb"))}
	if _, err := os.Stat(p.Root); err == nil {
		return p, nil
	}
	return p, unpack(ctx, p.Root, []string{deb}, progress)
}

// version is in the name of a package: name_version_arch.deb; a colon in the
// version is written %3a.
func version(deb string) string {
	return strings.ReplaceAll(strings.Split(filepath.Base(deb), "_")[1], "%3a", ":")
}

// resolve follows Depends of meta packages to a concrete kernel.
func resolve(ctx context.Context, pkg string) (string, error) {
	for name, hops := pkg, 0; hops < 5; hops++ {
		if image.MatchString(name) {
			return name, nil
		}
		out, err := run(ctx, "", "apt-cache", "depends", "--no-recommends", "--no-suggests", name)
		if err != nil {
			return "", fmt.Errorf("find the kernel that %s stands for: %w", pkg, err)
		}
		next := ""
		for line := range strings.Lines(out) {
			dep, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: ")
			if ok && strings.HasPrefix(dep, "linux-image-") {
				next = dep
				break
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	return "", fmt.Errorf("package %s leads to no kernel: name one with --kernel (apt-cache search ^linux-image- lists them; apt-get update first if the list is empty)", pkg)
}

// candidate is the version of a package that apt would download, or "".
func candidate(ctx context.Context, pkg string) string {
	out, err := run(ctx, "", "apt-cache", "policy", pkg)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(out) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "Candidate: "); ok && v != "(none)" {
			return v
		}
	}
	return ""
}

// download returns the path of the newest .deb of a package in the cache.
func download(ctx context.Context, cache, pkg string, progress func(string, ...any)) (string, error) {
	pattern := filepath.Join(cache, pkg+"_*.deb")
	if v := candidate(ctx, pkg); v != "" {
		pattern = filepath.Join(cache, pkg+"_"+strings.ReplaceAll(v, ":", "%3a")+"_*.deb")
	}
	arch, err := architecture(ctx)
	if err != nil {
		return "", err
	}
	if found := packages(pattern, arch); len(found) > 0 {
		return found[len(found)-1], nil
	}
	progress("downloading %s", pkg)
	args := []string{"download", "-q", pkg}
	if os.Geteuid() == 0 {
		// The sandbox user could not write to the cache.
		args = append([]string{"-o", "APT::Sandbox::User=root"}, args...)
	}
	if _, err := run(ctx, cache, "apt-get", args...); err != nil {
		return "", fmt.Errorf("download %s: %w", pkg, err)
	}
	found := packages(pattern, arch)
	if len(found) == 0 {
		return "", fmt.Errorf("download %s: apt-get left no %s for %s", pkg, pattern, arch)
	}
	return found[len(found)-1], nil
}

// packages are the files of a pattern that hold packages of an architecture or of all.
func packages(pattern, arch string) (out []string) {
	found, _ := filepath.Glob(pattern)
	for _, name := range found {
		if strings.HasSuffix(name, "_"+arch+".deb") || strings.HasSuffix(name, "_all.deb") {
			out = append(out, name)
		}
	}
	return out
}

// architecture is the one that apt serves, as Debian calls it.
func architecture(ctx context.Context) (string, error) {
	out, err := run(ctx, "", "apt-config", "shell", "ARCH", "APT::Architecture") // ARCH='amd64'
	if err != nil {
		return "", err
	}
	_, arch, _ := strings.Cut(strings.TrimSpace(out), "=")
	if arch = strings.Trim(arch, "'"); arch == "" {
		return "", fmt.Errorf("apt-config does not say which architecture apt serves: %q", out)
	}
	return arch, nil
}

// run executes a tool and returns its output; an error carries what it said.
func run(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%s is not installed: the image builder needs a Debian or Ubuntu machine with apt, dpkg and xz-utils", name)
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
