package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/board"
	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/init/module"
	"github.com/twinkeep/twinkeep/tools/image/initramfs"
	"github.com/twinkeep/twinkeep/tools/image/kernel"
)

// build is one run of the image builder.
type build struct {
	board, out, cache, buildroot string
	kernel, twinkeep             string
	jobs                         int
	verify                       bool
	begin                        time.Time
	date                         time.Time // of the sources; zero when unknown
	release                      upgrade.Release
	disk                         diskOptions
	target                       target
	overrides                    map[string][]byte // content of files of buildroot, by their name there
}

// required are kernel options that the product cannot do without; where a
// module is enough the value is "m".
var required = map[string]string{
	"CONFIG_NETFILTER_INGRESS":   "y", // the gate's two hooks
	"CONFIG_NETFILTER_EGRESS":    "y",
	"CONFIG_NF_TABLES_NETDEV":    "y", // the family they are in
	"CONFIG_NF_TABLES_INET":      "y",
	"CONFIG_NF_CONNTRACK_EVENTS": "y", // state sync
	"CONFIG_NF_CONNTRACK":        "m",
	"CONFIG_MACVLAN":             "m", // the shared MAC
	"CONFIG_PACKET":              "m", // heartbeats
	"CONFIG_DEVTMPFS":            "y",
	"CONFIG_RD_ZSTD":             "y", // the initramfs
}

// Manifest says what an image is made of; it is manifest.json beside it.
type Manifest struct {
	Board         string   `json:"board"`
	KernelPackage string   `json:"kernel_package"`
	KernelVersion string   `json:"kernel_version"`
	KernelRelease string   `json:"kernel_release"`
	Go            string   `json:"go"`
	Modules       []string `json:"modules"`
	Commands      []string `json:"commands"`
	Files         []Piece  `json:"files"`
}

// Piece is one file of the result.
type Piece struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func (b *build) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "[%5.1fs] %s\n", time.Since(b.begin).Seconds(), fmt.Sprintf(format, args...))
}

// kernelOwn is --kernel for a kernel that is built here.
const kernelOwn = "own"

func (b *build) own() *kernel.Own {
	return &kernel.Own{Cache: b.cache, Fragment: filepath.Join(b.buildroot, "kernel.config"), Jobs: b.jobs, Progress: b.progress}
}

// ownKernel builds our own kernel into the cache.
func (b *build) ownKernel(ctx context.Context) error {
	own := b.own()
	tree, err := own.Build(ctx)
	if err != nil {
		return err
	}
	if b.verify {
		b.progress("building it a second time from nothing")
		if err := own.Verify(ctx); err != nil {
			return err
		}
		b.progress("both builds are the same")
	}
	b.progress("done: %s, %s", tree.Vmlinuz(), tree.Built)
	return nil
}

// kernelTree finds the kernel and checks that it has what the product needs.
func (b *build) kernelTree(ctx context.Context) (*kernel.Tree, []byte, error) {
	// One image serves every board of its architecture, PID 1 finds out which
	// it is on; the name is recorded, and must be one that exists.
	if err := b.chooseTarget(ctx); err != nil {
		return nil, nil, err
	}
	var tree *kernel.Tree
	var err error
	if b.kernel == kernelOwn && b.target.uname != "x86_64" {
		return nil, nil, fmt.Errorf("our own kernel is for x86_64: for %s leave out --kernel", b.target.uname)
	}
	if b.kernel == kernelOwn {
		if b.target.uname != "x86_64" {
			return nil, nil, fmt.Errorf("our own kernel is for x86_64, board %s is %s: leave KERNEL out", b.board, b.target.uname)
		}
		tree, err = b.own().Build(ctx)
	} else {
		tree, err = kernel.Fetch(ctx, b.cache, b.kernel, b.progress)
	}
	if err != nil {
		return nil, nil, err
	}
	missing, err := kernel.Options(tree.Config(), required)
	if err != nil {
		return nil, nil, err
	}
	if len(missing) > 0 {
		return nil, nil, fmt.Errorf("kernel %s lacks %s: take another with --kernel", tree.Package, strings.Join(missing, ", "))
	}
	vmlinuz, err := os.ReadFile(tree.Vmlinuz())
	if err != nil {
		return nil, nil, fmt.Errorf("read the kernel: %w", err)
	}
	b.progress("kernel %s %s", tree.Package, tree.Version)
	return tree, vmlinuz, nil
}

// pieces builds kernel and initramfs into b.out.
func (b *build) pieces(ctx context.Context) error {
	tree, vmlinuz, err := b.kernelTree(ctx)
	if err != nil {
		return err
	}
	vmlinux, err := b.vmlinux(ctx, tree, vmlinuz)
	if err != nil {
		return err
	}

	fs, err := b.rootfs(ctx, tree, nil)
	if err != nil {
		return err
	}
	b.progress("compressing %.1f MB", mb(fs.archive.Size()))
	var raw bytes.Buffer
	if err := fs.archive.WriteCPIO(&raw); err != nil {
		return err
	}
	packed, err := initramfs.Compress(raw.Bytes())
	if err != nil {
		return err
	}
	if b.verify {
		b.progress("building a second time with an empty build cache")
		again, err := b.fromNothing(ctx, tree)
		if err != nil {
			return err
		}
		second, err := again.archive.Pack()
		if err != nil {
			return err
		}
		if !bytes.Equal(packed, second) {
			return fmt.Errorf("not reproducible: %s differ between two builds; were sources edited meanwhile? then build again", strings.Join(fs.archive.Differences(&again.archive), ", "))
		}
		b.progress("both builds are the same: sha256 %x", sha256.Sum256(packed))
	}

	m := Manifest{
		Board: b.board, KernelPackage: tree.Package, KernelVersion: tree.Version, KernelRelease: tree.Release,
		Go: runtime.Version(), Modules: fs.modules, Commands: fs.commands,
	}
	if err := b.writePieces(m, []content{
		{"vmlinuz", vmlinuz}, {"initramfs.cpio.zst", packed}, // what ships
		{"vmlinux", vmlinux}, {"initramfs.cpio", raw.Bytes()}, // the same for QEMU: nothing to decompress under emulation
	}); err != nil {
		return err
	}
	sizes := fs.sizes(int64(len(vmlinuz)), int64(len(packed)), int64(len(vmlinux)))
	if err := os.WriteFile(filepath.Join(b.out, "sizes.txt"), []byte(sizes), 0o644); err != nil {
		return err
	}
	fmt.Print(sizes)
	b.progress("done: %s", b.out)
	return nil
}

// content is a file that is written.
type content struct {
	name string
	data []byte
}

// writePieces writes them into b.out, and the manifest with their checksums.
func (b *build) writePieces(m Manifest, pieces []content) error {
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	for _, f := range pieces {
		if err := os.WriteFile(filepath.Join(b.out, f.name), f.data, 0o644); err != nil {
			return err
		}
		sum := sha256.Sum256(f.data)
		m.Files = append(m.Files, Piece{Name: f.name, Size: int64(len(f.data)), SHA256: hex.EncodeToString(sum[:])})
	}
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.out, "manifest.json"), append(manifest, '\n'), 0o644)
}

// vmlinux returns the uncompressed kernel, from the cache if it is there.
func (b *build) vmlinux(ctx context.Context, tree *kernel.Tree, vmlinuz []byte) ([]byte, error) {
	if b.target.uname != "x86_64" {
		return vmlinuz, nil // QEMU's other machines have no faster way in
	}
	sum := sha256.Sum256(vmlinuz)
	cached := filepath.Join(b.cache, fmt.Sprintf("vmlinux-%x", sum[:8]))
	if data, err := os.ReadFile(cached); err == nil {
		return data, nil
	}
	b.progress("decompressing the kernel for virtual machines")
	data, err := kernel.Vmlinux(ctx, vmlinuz)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tree.Vmlinuz(), err)
	}
	return data, writeWhole(cached, data, 0o644)
}

// rootfs is the content of an initramfs and what the manifest says about it.
type rootfs struct {
	archive           initramfs.Archive
	modules, commands []string
	size              map[string]int64
}

// rootfs puts the file system together. With an environment for the Go tool
// nothing that is cached is used.
func (b *build) rootfs(ctx context.Context, tree *kernel.Tree, env []string) (*rootfs, error) {
	fs := &rootfs{size: make(map[string]int64)}
	if err := b.addLayout(&fs.archive); err != nil {
		return nil, err
	}
	if err := b.addModules(ctx, fs, tree); err != nil {
		return nil, err
	}
	if err := b.addCommands(ctx, fs, env); err != nil {
		return nil, err
	}
	for _, f := range b.disk.files {
		if err := fs.archive.File(f.path, f.mode, f.data); err != nil {
			return nil, err
		}
		fs.size[filepath.Base(f.path)] = int64(len(f.data))
	}
	return fs, b.addPrograms(ctx, fs, env)
}

// fromNothing builds the file system without anything that is left of earlier
// builds.
func (b *build) fromNothing(ctx context.Context, tree *kernel.Tree) (*rootfs, error) {
	dir, err := os.MkdirTemp("", "twinkeep-gocache-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return b.rootfs(ctx, tree, []string{"GOCACHE=" + dir})
}

func (b *build) addModules(ctx context.Context, fs *rootfs, tree *kernel.Tree) error {
	list := filepath.Join(b.buildroot, "modules.txt")
	f, err := os.Open(list)
	if err != nil {
		return err
	}
	defer f.Close()
	wanted, err := kernel.ParseWanted(f)
	if err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	boards, err := b.boardModules(wanted)
	if err != nil {
		return err
	}
	if wanted, err = b.present(tree.Modules(), wanted, boards); err != nil {
		return err
	}
	sel, err := kernel.Select(ctx, tree.Modules(), wanted)
	if err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	dir := filepath.Dir(module.IndexPath)
	for _, m := range sel.Files {
		if err := fs.archive.File(filepath.Join(dir, m.Name), 0o644, m.Data); err != nil {
			return err
		}
		fs.size["modules"] += int64(len(m.Data))
	}
	for _, m := range sel.Index {
		fs.modules = append(fs.modules, m.Name)
	}
	for _, name := range sel.Builtin {
		sel.Index = append(sel.Index, module.Module{Name: name, Kind: module.Builtin, File: "-"})
	}
	var index bytes.Buffer
	if _, err := sel.Index.WriteTo(&index); err != nil {
		return err
	}
	b.progress("%d modules, %.1f MB; built into the kernel: %s", len(sel.Files), mb(fs.size["modules"]), strings.Join(sel.Builtin, " "))
	return fs.archive.File(module.IndexPath, 0o644, index.Bytes())
}

// boardModules gives what the board files of this architecture name besides the list: one image serves them all.
func (b *build) boardModules(wanted []kernel.Wanted) (out []kernel.Wanted, err error) {
	boards, err := board.All()
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool)
	for _, w := range wanted {
		known[w.Name] = true
	}
	for _, o := range boards {
		if o.Arch != b.target.uname {
			continue
		}
		for _, m := range slices.Concat(o.Modules, o.Watchdog) {
			if name := module.Normal(m); !known[name] {
				known[name] = true
				out = append(out, kernel.Wanted{Kind: module.Demand, Name: name})
			}
		}
	}
	return out, nil
}

// sizes is the table for people.
func (fs *rootfs) sizes(vmlinuz, packed, vmlinux int64) string {
	var s strings.Builder
	row := func(name string, n int64) { fmt.Fprintf(&s, "%-28s %8.2f MB\n", name, mb(n)) }
	row("kernel (vmlinuz)", vmlinuz)
	row("initramfs (zstd)", packed)
	row("image: kernel + initramfs", vmlinuz+packed)
	s.WriteString("in the initramfs, before compression:\n")
	for _, k := range []string{"modules", "bb", "init", "twinkeep"} {
		row("  "+k, fs.size[k])
	}
	row("  all", fs.archive.Size())
	if vmlinux > 0 {
		s.WriteString("for QEMU, without compression:\n")
		row("  vmlinux (PVH)", vmlinux)
	}
	return s.String()
}

func mb(n int64) float64 { return float64(n) / 1e6 }

// writeWhole writes a file so that nobody ever sees half of it.
func writeWhole(name string, data []byte, mode os.FileMode) error {
	tmp := name + ".part"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
