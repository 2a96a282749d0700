package kernel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/klauspost/compress/gzip"
)

// Source is Debian's package with the sources of the kernel that Debian ships
// as binary, patches applied.
const Source = "linux-source-6.1"

// Own builds a kernel of our own. What was asked for once is not built again,
// and a build that was interrupted goes on where it was.
type Own struct {
	Cache    string // folder for sources, objects and results
	Fragment string // file with the options, see ParseFragment
	Jobs     int    // compilers at a time; 0: one per processor
	Progress func(format string, args ...any)

	source  *Package
	options []Option
	tools   string // compiler and linker
	date    time.Time
}

// Check configures the kernel without building it: every option of the fragment
// must be in the final configuration.
func (o *Own) Check(ctx context.Context) error {
	if err := o.prepare(ctx); err != nil {
		return err
	}
	ok := o.path("config-" + o.key())
	if _, err := os.Stat(ok); err == nil {
		return nil
	}
	dir, err := filepath.Abs(o.Cache)
	if err != nil {
		return err
	}
	if dir, err = os.MkdirTemp(dir, "kernel-config-"); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	source, objects := filepath.Join(dir, "source"), filepath.Join(dir, "objects")
	if err := os.MkdirAll(objects, 0o755); err != nil {
		return err
	}
	o.Progress("configuring %s %s", Source, o.source.Version)
	if err := o.unpack(ctx, source, "*/Kconfig*", "*/Makefile*", "*/scripts/*"); err != nil {
		return err
	}
	config, err := o.configure(ctx, source, objects)
	if err != nil {
		return err
	}
	return writeWhole(ok, config)
}

// Build returns the kernel, from the cache if it is there.
func (o *Own) Build(ctx context.Context) (*Tree, error) {
	if err := o.prepare(ctx); err != nil {
		return nil, err
	}
	root := o.path("kernel-" + o.key())
	if t, err := o.tree(root); err == nil {
		return t, nil
	}
	// The objects stay: after a change of the fragment only what it touches is
	// compiled again.
	if err := o.compile(ctx, o.path("objects"), root); err != nil {
		return nil, err
	}
	return o.tree(root)
}

// Verify builds the kernel a second time, from nothing and in another folder,
// and compares.
func (o *Own) Verify(ctx context.Context) error {
	first, err := o.Build(ctx)
	if err != nil {
		return err
	}
	objects, root := o.path("verify-objects"), o.path("verify-"+o.key())
	if err := o.compile(ctx, objects, root); err != nil {
		return err
	}
	second, err := o.tree(root)
	if err != nil {
		return err
	}
	for _, names := range [][2]string{
		{first.Vmlinuz(), second.Vmlinuz()}, {first.Config(), second.Config()},
		{filepath.Join(first.Modules(), builtinFile), filepath.Join(second.Modules(), builtinFile)},
	} {
		var content [2][]byte
		for i, name := range names {
			if content[i], err = os.ReadFile(name); err != nil {
				return err
			}
		}
		if !bytes.Equal(content[0], content[1]) {
			return fmt.Errorf("not reproducible: %s and %s differ", names[0], names[1])
		}
	}
	return errors.Join(os.RemoveAll(objects), os.RemoveAll(root))
}

// prepare finds out everything that decides what the kernel will be.
func (o *Own) prepare(ctx context.Context) error {
	if o.source != nil {
		return nil
	}
	text, err := os.ReadFile(o.Fragment)
	if err != nil {
		return err
	}
	if o.options, err = ParseFragment(text); err != nil {
		return fmt.Errorf("%s: %w", o.Fragment, err)
	}
	for _, tool := range []string{"gcc", "ld"} {
		out, err := run(ctx, "", tool, "--version")
		if err != nil {
			return err
		}
		line, _, _ := strings.Cut(out, "\n")
		o.tools += line + "; "
	}
	o.tools = strings.TrimSuffix(o.tools, "; ")
	source, err := FetchPackage(ctx, o.Cache, Source, o.Progress)
	if err != nil {
		return err
	}
	if o.date, err = changelogDate(filepath.Join(source.Root, "usr/share/doc", Source, "changelog.Debian.gz")); err != nil {
		return err
	}
	o.source = source
	return nil
}

// path is a file or folder in the cache that belongs to the sources.
func (o *Own) path(name string) string {
	return filepath.Join(o.Cache, fmt.Sprintf("%s_%s.%s", Source, o.source.Version, name))
}

// recipe changes when compile does something else with the same options.
const recipe = "1"

func (o *Own) key() string {
	h := sha256.New()
	fmt.Fprintln(h, recipe, o.source.Version, o.tools)
	for _, opt := range o.options {
		fmt.Fprintln(h, opt)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// tree describes a kernel that was built into root.
func (o *Own) tree(root string) (*Tree, error) {
	found, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("%s holds no kernel", root)
	}
	return &Tree{
		Package: Source, Version: o.source.Version, Root: root,
		Release: strings.TrimPrefix(filepath.Base(found[0]), "vmlinuz-"),
		Built:   fmt.Sprintf("built from source with %s; options %s", o.tools, o.key()),
	}, nil
}

// unpackSource unpacks the sources, unless they are there.
func (o *Own) unpackSource(ctx context.Context) (string, error) {
	dir := o.path("source")
	if _, err := os.Stat(dir); err == nil {
		return filepath.Abs(dir)
	}
	o.Progress("unpacking %s %s, 1.3 GB", Source, o.source.Version)
	tmp := dir + ".part"
	if err := o.unpack(ctx, tmp); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

// unpack unpacks the sources, or only what the patterns name, into a new folder.
func (o *Own) unpack(ctx context.Context, dir string, patterns ...string) error {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	args := []string{"-C", dir, "--strip-components=1", "-xf", filepath.Join(o.source.Root, "usr/src", Source+".tar.xz"), "--wildcards"}
	_, err := run(ctx, "", "tar", append(args, patterns...)...)
	return err
}

// configure makes the configuration of the options and returns it.
func (o *Own) configure(ctx context.Context, source, objects string) ([]byte, error) {
	var fragment bytes.Buffer
	for _, opt := range o.options {
		fmt.Fprintln(&fragment, opt)
	}
	name, err := filepath.Abs(filepath.Join(objects, "fragment"))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(name, fragment.Bytes(), 0o644); err != nil {
		return nil, err
	}
	if out, err := o.make(ctx, source, objects, nil, "KCONFIG_ALLCONFIG="+name, "allnoconfig"); err != nil {
		return nil, fmt.Errorf("configure the kernel: %w\n%s", err, out)
	}
	config, err := os.ReadFile(filepath.Join(objects, ".config"))
	if err != nil {
		return nil, err
	}
	if lost := Lost(config, o.options); len(lost) > 0 {
		return nil, fmt.Errorf("%s: the kernel's configuration does not keep %s: an option that does not exist there, or one that depends on another that is off",
			o.Fragment, strings.Join(lost, ", "))
	}
	return config, nil
}

const builtinFile = "modules.builtin"

// compile builds the kernel in the folder objects and puts the result into root.
func (o *Own) compile(ctx context.Context, objects, root string) error {
	source, err := o.unpackSource(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(objects, 0o755); err != nil {
		return err
	}
	config, err := o.configure(ctx, source, objects)
	if err != nil {
		return err
	}
	logfile := filepath.Join(objects, "build.log")
	o.Progress("compiling the kernel, about 20 minutes of processor time; it goes on when it is interrupted and started again; log: %s", logfile)
	log, err := os.Create(logfile)
	if err != nil {
		return err
	}
	defer log.Close()
	lines := &counter{Writer: log}
	stop := o.tick(lines)
	out, err := o.make(ctx, source, objects, lines, "bzImage")
	stop()
	if err != nil {
		return fmt.Errorf("compile the kernel: %w; %s ends with\n%s", err, logfile, out)
	}
	release, err := os.ReadFile(filepath.Join(objects, "include/config/kernel.release"))
	if err != nil {
		return err
	}
	return install(root, objects, strings.TrimSpace(string(release)), config)
}

// install copies what an image needs, as a package has it.
func install(root, objects, release string, config []byte) error {
	tmp := root + ".part"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	t := Tree{Root: tmp, Release: release}
	for _, dir := range []string{filepath.Dir(t.Vmlinuz()), t.Modules()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	builtin, err := os.ReadFile(filepath.Join(objects, builtinFile))
	if err != nil {
		return err
	}
	image, err := os.ReadFile(filepath.Join(objects, "arch/x86/boot/bzImage"))
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{t.Vmlinuz(): image, t.Config(): config, filepath.Join(t.Modules(), builtinFile): builtin} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return err
		}
	}
	return os.Rename(tmp, root)
}

// make runs the kernel's make. What it says goes to w, or with w nil is
// returned; the end of it is returned with an error.
func (o *Own) make(ctx context.Context, source, objects string, w io.Writer, args ...string) (string, error) {
	objects, err := filepath.Abs(objects)
	if err != nil {
		return "", err
	}
	jobs := o.Jobs
	if jobs == 0 {
		jobs = runtime.NumCPU()
	}
	cmd := exec.CommandContext(ctx, "make", slices.Concat([]string{"-C", source, "O=" + objects, "ARCH=x86_64", "-j" + strconv.Itoa(jobs)}, args)...)
	// Nothing of the caller's settings: KCFLAGS or a LANG would be in the result.
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir(), "LC_ALL=C", "TZ=UTC",
		"KBUILD_BUILD_TIMESTAMP=" + o.date.UTC().Format("Mon Jan _2 15:04:05 UTC 2006"),
		"KBUILD_BUILD_USER=twinkeep", "KBUILD_BUILD_HOST=twinkeep", "KBUILD_BUILD_VERSION=1",
		"SOURCE_DATE_EPOCH=" + strconv.FormatInt(o.date.Unix(), 10),
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // so that make ends its compilers
	cmd.WaitDelay = 10 * time.Second
	tail := &lastBytes{max: 4000}
	cmd.Stdout = tail
	if w != nil {
		cmd.Stdout = io.MultiWriter(w, tail)
	}
	cmd.Stderr = cmd.Stdout
	err = cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("make is not installed: tools/need.sh kernel installs what building a kernel needs")
	}
	return string(tail.data), err
}

// tick says from time to time how far it is.
func (o *Own) tick(lines *counter) (stop func()) {
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(time.Minute)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				o.Progress("%d steps done", lines.n.Load())
			}
		}
	}()
	return func() { close(done); <-ended }
}

// counter counts lines on their way.
type counter struct {
	io.Writer
	n atomic.Int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n.Add(int64(bytes.Count(p, []byte("\n"))))
	return c.Writer.Write(p)
}

// lastBytes keeps the end of what is written to it.
type lastBytes struct {
	max  int
	data []byte
}

func (l *lastBytes) Write(p []byte) (int, error) {
	l.data = append(l.data, p...)
	if len(l.data) > l.max {
		l.data = slices.Clone(l.data[len(l.data)-l.max:])
	}
	return len(p), nil
}

// changelogDate is the date of the newest entry of a Debian changelog, the line
// " -- Name <address>  date" (deb-changelog(5)).
func changelogDate(name string) (time.Time, error) {
	f, err := os.Open(name)
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", name, err)
	}
	text, err := io.ReadAll(io.LimitReader(z, 4<<20))
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", name, err)
	}
	for line := range strings.Lines(string(text)) {
		if _, date, ok := strings.Cut(line, ">  "); ok && strings.HasPrefix(line, " -- ") {
			return time.Parse(time.RFC1123Z, strings.TrimSpace(date))
		}
	}
	return time.Time{}, fmt.Errorf("%s has no entry with a date", name)
}

// writeWhole writes a file so that nobody ever sees half of it.
func writeWhole(name string, data []byte) error {
	if err := os.WriteFile(name+".part", data, 0o644); err != nil {
		return err
	}
	return os.Rename(name+".part", name)
}
