package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/tools/image/initramfs"
)

const (
	// buildDate is the variable that a licence is compared with.
	buildDate       = "github.com/twinkeep/twinkeep/firmware/license.BuildDate"
	initPackage     = "github.com/twinkeep/twinkeep/init"
	twinkeepPackage = "github.com/twinkeep/twinkeep/firmware/twinkeep"
	urootCommands   = "github.com/u-root/u-root/cmds/"
	makebbPackage   = "github.com/u-root/gobusybox/src/cmd/makebb"
	// buildTags of the rescue commands. goshsmall: the shell reads lines from
	// the terminal as they are. Its line editor asks the terminal for colours
	// first, and on a serial line where nothing answers that takes ten seconds.
	buildTags = "goshsmall"
)

// addPrograms adds PID 1 and the product: two plain static binaries. They are
// not merged into the busybox, whose every command's init() would then run in
// PID 1 and in the real-time process.
func (b *build) addPrograms(ctx context.Context, fs *rootfs, env []string) error {
	init, err := b.goBuild(ctx, env, initPackage)
	if err != nil {
		return err
	}
	var twinkeep []byte
	if b.twinkeep != "" {
		twinkeep, err = os.ReadFile(b.twinkeep)
	} else {
		twinkeep, err = b.goBuild(ctx, env, twinkeepPackage)
	}
	if err != nil {
		return err
	}
	fs.size["init"], fs.size["twinkeep"] = int64(len(init)), int64(len(twinkeep))
	if err := fs.archive.File("/init", 0o755, init); err != nil {
		return err
	}
	return fs.archive.File("/bin/twinkeep", 0o755, twinkeep)
}

// goBuild compiles a main package as the image wants it: static, stripped,
// without paths or build ID, so that the bytes depend on the source only.
func (b *build) goBuild(ctx context.Context, env []string, pkg string) ([]byte, error) {
	b.progress("compiling %s", pkg)
	dir, err := os.MkdirTemp("", "twinkeep-image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "program")
	if err := b.goTool(ctx, "", env, "build", "-trimpath", "-buildvcs=false", "-ldflags="+b.ldflags(), "-o", out, pkg); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

// ldflags name the release and the day of its sources.
func (b *build) ldflags() string {
	flags := "-s -w -buildid= -X main.version=" + b.release.Version
	if !b.date.IsZero() {
		flags += " -X " + buildDate + "=" + b.date.Format(time.DateOnly)
	}
	return flags
}

// goTool runs the go command for the target, in dir, with more environment.
func (b *build) goTool(ctx context.Context, dir string, env []string, args ...string) error {
	return runFor(ctx, b.target.golang, dir, env, "go", args...)
}

// runFor runs a program in the environment in which Go builds for an architecture.
func runFor(ctx context.Context, arch, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOWORK=off"), env...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args[:min(2, len(args))], " "), err, said.Bytes())
	}
	return nil
}

// addCommands builds u-root's commands into one program and links their names
// to it. It takes half a minute, so the result is kept under a hash of what it
// is made from.
func (b *build) addCommands(ctx context.Context, fs *rootfs, env []string) error {
	list := filepath.Join(b.buildroot, "commands.txt")
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	var paths []string
	for _, c := range fields(text) {
		if len(c) != 1 || strings.Count(c[0], "/") != 1 {
			return fmt.Errorf("%s: %q is not one command such as core/ls", list, strings.Join(c, " "))
		}
		paths = append(paths, urootCommands+c[0])
		fs.commands = append(fs.commands, path.Base(c[0]))
	}
	slices.Sort(fs.commands)

	key := sha256.New()
	fmt.Fprintln(key, runtime.Version(), buildTags)
	if b.target.golang != "amd64" {
		fmt.Fprintln(key, b.target.golang)
	}
	for _, name := range []string{"commands.txt", "go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(b.buildroot, name))
		if err != nil {
			return err
		}
		key.Write(data)
	}
	cached := filepath.Join(b.cache, fmt.Sprintf("bb-%x", key.Sum(nil)[:8]))
	data, err := os.ReadFile(cached)
	if err != nil || env != nil {
		b.progress("building %d rescue commands", len(paths))
		if data, err = b.makebb(ctx, env, paths); err != nil {
			return fmt.Errorf("%w\n(a command that is new in %s needs its tool line: in %s, go get -tool %sCOMMAND)", err, list, b.buildroot, urootCommands)
		}
		if err := writeWhole(cached, data, 0o755); err != nil {
			return err
		}
	}
	fs.size["bb"] = int64(len(data))
	if err := fs.archive.File("/bbin/bb", 0o755, data); err != nil {
		return err
	}
	for _, c := range fs.commands {
		if err := fs.archive.Symlink("/bin/"+c, "/bbin/bb"); err != nil {
			return err
		}
	}
	return nil
}

// makebb runs gobusybox's makebb, a tool of the buildroot module.
func (b *build) makebb(ctx context.Context, env, paths []string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "twinkeep-bb-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "bb")
	// Built first: go tool would build makebb itself for the target.
	makebb := filepath.Join(dir, "makebb")
	if err := runFor(ctx, runtime.GOARCH, b.buildroot, env, "go", "build", "-o", makebb, makebbPackage); err != nil {
		return nil, err
	}
	args := append([]string{"-go-build-tags", buildTags, "-o", out}, paths...)
	if err := runFor(ctx, b.target.golang, b.buildroot, env, makebb, args...); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

// addLayout adds what buildroot/layout.txt lists.
func (b *build) addLayout(a *initramfs.Archive) error {
	list := filepath.Join(b.buildroot, "layout.txt")
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	for _, f := range fields(text) {
		if err := b.addLine(a, f); err != nil {
			return fmt.Errorf("%s: %q: %w", list, strings.Join(f, " "), err)
		}
	}
	return nil
}

func (b *build) addLine(a *initramfs.Archive, f []string) error {
	number := func(i, base int) (uint64, error) {
		if i >= len(f) {
			return 0, io.ErrUnexpectedEOF
		}
		return strconv.ParseUint(f[i], base, 32)
	}
	want := map[string]int{"dir": 3, "char": 5, "link": 3, "file": 4}[f[0]]
	if want != len(f) {
		return fmt.Errorf("want dir PATH MODE, char PATH MODE MAJOR MINOR, link PATH TARGET or file PATH MODE SOURCE")
	}
	if f[0] == "link" {
		return a.Symlink(f[1], f[2])
	}
	mode, err := number(2, 8)
	if err != nil {
		return fmt.Errorf("mode: %w", err)
	}
	switch f[0] {
	case "dir":
		return a.Dir(f[1], mode)
	case "char":
		major, err := number(3, 10)
		if err != nil {
			return fmt.Errorf("major: %w", err)
		}
		minor, err := number(4, 10)
		if err != nil {
			return fmt.Errorf("minor: %w", err)
		}
		return a.Char(f[1], mode, major, minor)
	default:
		if data, ok := b.overrides[f[3]]; ok {
			return a.File(f[1], mode, data)
		}
		data, err := os.ReadFile(filepath.Join(b.buildroot, f[3]))
		if err != nil {
			return err
		}
		return a.File(f[1], mode, data)
	}
}

// fields splits a list file into lines of words, without comments.
func fields(text []byte) [][]string {
	var out [][]string
	sc := bufio.NewScanner(bytes.NewReader(text))
	for sc.Scan() {
		line, _, _ := strings.Cut(sc.Text(), "#")
		if f := strings.Fields(line); len(f) > 0 {
			out = append(out, f)
		}
	}
	return out
}
