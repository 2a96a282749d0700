package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/firmware/upgrade/bundle"
	"github.com/twinkeep/twinkeep/init/data"
	"github.com/twinkeep/twinkeep/tools/image/disk"
	"github.com/twinkeep/twinkeep/tools/image/initramfs"
	"github.com/twinkeep/twinkeep/tools/image/kernel"
	"github.com/twinkeep/twinkeep/tools/image/sbom"
	"github.com/twinkeep/twinkeep/tools/image/trialloader"
	"github.com/twinkeep/twinkeep/tools/image/uki"
	"github.com/twinkeep/twinkeep/tools/sign/keyring"
)

// diskOptions are those of the image of a disk.
type diskOptions struct {
	keys    string
	sign    bool
	cmdline string
	files   []extra // that only an image with a disk has
}

// extra is a file in the root file system.
type extra struct {
	path string
	mode uint64
	data []byte
}

// cmdline of an image on a disk, behind its consoles. gpt: take the backup partition table when a
// power cut has left the primary one half written. A panic ends in a reset, so
// that a trial that panics comes back by itself. A watchdog that runs already, armed by the trial loader, is kept from firing by a driver in the kernel
// no longer than until PID 1 should have it.
const cmdline = "loglevel=4 panic=10 watchdog.open_timeout=60 gpt " + data.Word + "=1"

// Conf of the boot loader. No menu unless a key is held, and no editor in it.
const loaderConf = "timeout 0\neditor no\nauto-entries no\nauto-firmware no\nconsole-mode keep\nsecure-boot-enroll manual\n"

// identify finds out the version and revision that are built.
func (b *build) identify(ctx context.Context) error {
	if b.release.Version == "" {
		out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
		if err != nil {
			return fmt.Errorf("git describe: %w: outside a clone use --version and --revision", err)
		}
		b.release.Version = strings.TrimSpace(string(out))
	}
	if b.release.Revision == 0 {
		out, err := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct").Output()
		if err != nil {
			return fmt.Errorf("git log: %w: outside a clone use --version and --revision", err)
		}
		if b.release.Revision, err = strconv.ParseUint(strings.TrimSpace(string(out)), 10, 64); err != nil {
			return err
		}
	}
	if err := b.dateOfSources(ctx); err != nil {
		return err
	}
	b.release.Board = b.board
	const name = "etc/os-release"
	base, err := os.ReadFile(filepath.Join(b.buildroot, name))
	if err != nil {
		return err
	}
	b.overrides[name] = b.release.Marshal(base)
	return nil
}

// dateOfSources is SOURCE_DATE_EPOCH (reproducible-builds.org), else the time of
// the commit. Outside a clone it stays unknown.
func (b *build) dateOfSources(ctx context.Context) error {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		out, err := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct").Output()
		if err != nil {
			b.progress("the date of the sources is unknown, and so the firmware's: set SOURCE_DATE_EPOCH")
			return nil
		}
		text = strings.TrimSpace(string(out))
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH=%q: want seconds since 1970", text)
	}
	b.date = time.Unix(seconds, 0).UTC()
	return nil
}

// image builds the image of a disk, the upgrade file of the same release, and
// what describes them, into b.out.
func (b *build) image(ctx context.Context) error {
	keys := keyring.Dir(b.disk.keys)
	key, err := keys.UpgradeKey()
	if err != nil {
		return err
	}
	tree, vmlinuz, err := b.kernelTree(ctx)
	if err != nil {
		return err
	}
	boot, fsck, err := b.diskPackages(ctx, key)
	if err != nil {
		return err
	}
	fs, err := b.rootfs(ctx, tree, nil)
	if err != nil {
		return err
	}
	b.progress("compressing %.1f MB", mb(fs.archive.Size()))
	out, err := b.assemble(ctx, fs, boot, vmlinuz, key)
	if err != nil {
		return err
	}
	if b.verify {
		b.progress("building a second time with an empty build cache")
		again, err := b.fromNothing(ctx, tree)
		if err != nil {
			return err
		}
		second, err := b.assemble(ctx, again, boot, vmlinuz, key)
		if err != nil {
			return err
		}
		if err := out.same(second, b.target.esp, fs, again); err != nil {
			return err
		}
		b.progress("both builds are the same")
	}
	return b.writeDisk(out, fs, tree, boot, fsck)
}

// diskPackages fetches what an image on a disk has besides: the boot loader and
// the stub, and the checker of the data partition's file system. It adds the
// files of the latter and the trusted keys to the root file system.
func (b *build) diskPackages(ctx context.Context, key ed25519.PrivateKey) (boot, fsck *kernel.Package, err error) {
	if boot, err = kernel.FetchPackage(ctx, b.cache, "systemd-boot-efi", b.progress); err != nil {
		return nil, nil, err
	}
	if fsck, err = kernel.FetchPackage(ctx, b.cache, "e2fsck-static", b.progress); err != nil {
		return nil, nil, err
	}
	checker, err := os.ReadFile(filepath.Join(fsck.Root, "sbin/e2fsck.static"))
	if err != nil {
		return nil, nil, err
	}
	template, err := ext4Template(ctx)
	if err != nil {
		return nil, nil, err
	}
	b.disk.files = []extra{
		{data.Checker, 0o755, checker},
		{data.Template, 0o644, template},
		{upgrade.KeysFile, 0o644, []byte(keyring.PublicLine(key.Public().(ed25519.PublicKey)))},
	}
	return boot, fsck, nil
}

// ext4Template makes an empty file system of the size that the image's data
// partition has. PID 1 writes it, gives it an identity of its own and lets the
// kernel grow it, so no mkfs and no resize2fs have to be in the image: the
// template is a kilobyte. The resize option reserves room to grow to 1 TiB.
func ext4Template(ctx context.Context) ([]byte, error) {
	dir, err := os.MkdirTemp("", "twinkeep-ext4-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "fs")
	conf := filepath.Join(dir, "mke2fs.conf")
	if err := os.WriteFile(conf, []byte(mke2fsConf), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "mke2fs", "-q", "-t", "ext4", "-b", "4096", "-m", "1", "-J", "size=4", "-L", disk.DataName, "-U", "6477696e-6b65-6570-8000-000000000001",
		"-E", "resize=268435456,lazy_itable_init=0,hash_seed=6477696e-6b65-6570-8000-000000000002", name, strconv.Itoa(disk.DataSize/1024)+"k")
	cmd.Env = append(os.Environ(), "E2FSPROGS_FAKE_TIME=946684800", "MKE2FS_CONFIG="+conf, "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := cmd.CombinedOutput(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("mke2fs is not installed: it is in the package e2fsprogs")
		}
		return nil, fmt.Errorf("mke2fs: %w\n%s", err, out)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return initramfs.Compress(raw)
}

// mke2fsConf instead of the machine's own, so that the template is the same
// everywhere. metadata_csum_seed lets the kernel change the UUID.
const mke2fsConf = `[defaults]
	base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
	inode_size = 256
	inode_ratio = 8192
[fs_types]
	ext4 = {
		features = has_journal,extent,huge_file,flex_bg,metadata_csum,metadata_csum_seed,64bit,dir_nlink,extra_isize
	}
`

// output is what is compared between two builds.
type output struct {
	packed  []byte // initramfs
	uki     []byte
	upgrade []byte
	esp     []disk.File
}

func (b *build) assemble(ctx context.Context, fs *rootfs, boot *kernel.Package, vmlinuz []byte, key ed25519.PrivateKey) (*output, error) {
	packed, err := fs.archive.Pack()
	if err != nil {
		return nil, err
	}
	efi := func(name string) ([]byte, error) {
		return os.ReadFile(filepath.Join(boot.Root, "usr/lib/systemd/boot/efi", name))
	}
	stub, err := efi("linux" + b.target.efi + ".efi.stub")
	if err != nil {
		return nil, err
	}
	loader, err := efi("systemd-boot" + b.target.efi + ".efi")
	if err != nil {
		return nil, err
	}
	o := &output{packed: packed}
	o.uki, err = uki.Build(uki.Parts{
		Stub: stub, OSRelease: b.overrides["etc/os-release"], Cmdline: strings.TrimSpace("console=tty0 console=" + b.target.serial + " " + cmdline + " " + b.disk.cmdline),
		Linux: vmlinuz, Initrd: packed,
	})
	if err != nil {
		return nil, err
	}
	keys := keyring.Dir(b.disk.keys)
	var enrol []disk.File
	var trial []byte // only firmware of PCs has a watchdog that it knows
	if b.target.uname == "x86_64" {
		if trial, err = trialloader.Build(ctx); err != nil {
			return nil, err
		}
	}
	if b.disk.sign {
		if o.uki, err = keys.SignEFI(o.uki); err != nil {
			return nil, err
		}
		if trial != nil {
			if trial, err = keys.SignEFI(trial); err != nil {
				return nil, err
			}
		}
		if loader, err = keys.SignEFI(loader); err != nil {
			return nil, err
		}
		for _, name := range keyring.Names {
			auth, err := keys.Auth(name)
			if err != nil {
				return nil, err
			}
			enrol = append(enrol, disk.File{Path: upgrade.SecureBootKeys + "/" + name + ".auth", Data: auth})
		}
	}
	if len(o.uki) > b.target.slot {
		return nil, fmt.Errorf("the image is %.1f MB, the budget is %d MiB: %w", mb(int64(len(o.uki))), b.target.slot>>20, errBudget)
	}
	first := upgrade.Entry{Slot: upgrade.A, Generation: 1, Release: b.release, Size: int64(len(o.uki)), SHA256: sha256.Sum256(o.uki)}
	o.esp = append([]disk.File{
		{Path: "/EFI/BOOT/BOOT" + strings.ToUpper(b.target.efi) + ".EFI", Data: loader},
		{Path: "/loader/loader.conf", Data: []byte(loaderConf)},
		{Path: upgrade.EntriesDir + "/" + first.Name(), Data: first.Content()},
		{Path: upgrade.EntriesDir + "/" + upgrade.A.Failsafe(), Data: upgrade.A.FailsafeEntry()},
		{Path: upgrade.EntriesDir + "/" + upgrade.B.Failsafe(), Data: upgrade.B.FailsafeEntry()},
		{Path: upgrade.A.Image(), Data: o.uki},
	}, enrol...)
	if trial != nil {
		o.esp = append(o.esp, disk.File{Path: upgrade.TrialLoader, Data: trial})
	}
	var up bytes.Buffer
	if err := bundle.Write(&up, b.release, o.uki, key); err != nil {
		return nil, err
	}
	o.upgrade = up.Bytes()
	return o, nil
}

var errBudget = errors.New("leave modules or commands out, or take a smaller kernel")

// same compares two builds. Signatures for secure boot hold the time.
func (o *output) same(p *output, esp int64, fs, again *rootfs) error {
	if !bytes.Equal(o.packed, p.packed) {
		return fmt.Errorf("not reproducible: %s differ between two builds; were sources edited meanwhile? then build again", strings.Join(fs.archive.Differences(&again.archive), ", "))
	}
	if !bytes.Equal(o.upgrade, p.upgrade) {
		return errors.New("not reproducible: the upgrade files differ (signatures for secure boot hold the time: verify without --sign)")
	}
	var sums [2][32]byte
	for i, files := range [][]disk.File{o.esp, p.esp} {
		f, err := os.CreateTemp("", "twinkeep-disk-")
		if err != nil {
			return err
		}
		f.Close()
		defer os.Remove(f.Name())
		if err := disk.WriteSized(f.Name(), esp, files); err != nil {
			return err
		}
		raw, err := os.ReadFile(f.Name())
		if err != nil {
			return err
		}
		sums[i] = sha256.Sum256(raw)
	}
	if sums[0] != sums[1] {
		return errors.New("not reproducible: the disk images differ")
	}
	return nil
}

func (b *build) writeDisk(o *output, fs *rootfs, tree *kernel.Tree, boot, fsck *kernel.Package) error {
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	base := "twinkeep-" + b.board
	img := filepath.Join(b.out, base+".img")
	// A new file, not the old one written over: a disk may still be running from it.
	if err := os.Remove(img); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	b.progress("writing the disk image")
	if err := disk.WriteSized(img, b.target.esp, o.esp); err != nil {
		return err
	}
	doc, err := b.sbom(fs, tree, boot, fsck)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{base + ".twk": o.upgrade, base + ".efi": o.uki, base + ".spdx.json": doc} {
		if err := writeWhole(filepath.Join(b.out, name), content, 0o644); err != nil {
			return err
		}
	}
	var sums strings.Builder
	for _, name := range []string{base + ".efi", base + ".img", base + ".spdx.json", base + ".twk"} {
		raw, err := os.ReadFile(filepath.Join(b.out, name))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(raw)
		fmt.Fprintf(&sums, "%s  %s\n", hex.EncodeToString(sum[:]), name)
	}
	if err := writeWhole(filepath.Join(b.out, "SHA256SUMS"), []byte(sums.String()), 0o644); err != nil {
		return err
	}
	var vmlinuz int64
	if st, err := os.Stat(tree.Vmlinuz()); err == nil {
		vmlinuz = st.Size()
	}
	sizes := fs.sizes(vmlinuz, int64(len(o.packed)), 0) + fmt.Sprintf("%-28s %8.2f MB of at most %.2f\n", "slot (UKI)", mb(int64(len(o.uki))), mb(int64(b.target.slot)))
	if err := writeWhole(filepath.Join(b.out, "sizes.txt"), []byte(sizes), 0o644); err != nil {
		return err
	}
	fmt.Print(sizes)
	b.progress("done: %s (%v): dd it to a disk, or install %s.twk on a running box", img, b.release, base)
	return nil
}

// sbom lists what the image is made of.
func (b *build) sbom(fs *rootfs, tree *kernel.Tree, boot, fsck *kernel.Package) ([]byte, error) {
	d := sbom.Document{Name: "twinkeep-" + b.board, Version: b.release.Version, Created: b.release.Revision}
	if !b.date.IsZero() {
		d.Created = uint64(b.date.Unix())
	}
	if tree.Built != "" {
		d.DebianSource(tree.Package, tree.Version, "GPL-2.0-only", tree.Built)
	} else {
		d.Debian(tree.Package, tree.Version, "GPL-2.0-only")
	}
	d.Debian(boot.Name, boot.Version, "LGPL-2.1-or-later")
	d.Debian(fsck.Name, fsck.Version, "GPL-2.0-only")
	for _, name := range []string{"init", "bin/twinkeep", "bbin/bb"} {
		program, ok := fs.archive.Content(name)
		if !ok {
			return nil, fmt.Errorf("%s is not in the image", name)
		}
		info, err := buildinfo.Read(bytes.NewReader(program))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		d.Go(info)
	}
	return d.Marshal()
}
