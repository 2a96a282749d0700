package box

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"debug/pe"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/firmware/upgrade/bundle"
	"github.com/twinkeep/twinkeep/tools/image/disk"
	"github.com/twinkeep/twinkeep/tools/image/trialloader"
	"github.com/twinkeep/twinkeep/tools/image/uki"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
	"github.com/twinkeep/twinkeep/tools/sign/keyring"
)

// Maker makes variants of an image that `make image` has built: other revisions,
// broken ones, disks with them.
type Maker struct {
	Base    uki.Parts
	Release upgrade.Release
	Keys    keyring.Dir
	key     ed25519.PrivateKey
	loader  []byte
}

// Load reads the image in dir, the boot loader from the builder's cache, and the
// keys that it was built with.
func Load(dir, cache, keys string) (*Maker, error) {
	found, err := filepath.Glob(filepath.Join(dir, "twinkeep-*.efi"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("%s holds %d images, want one: make image", dir, len(found))
	}
	m := &Maker{Keys: keyring.Dir(keys)}
	f, err := pe.Open(found[0])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	section := func(name string) []byte {
		s := f.Section(name)
		if s == nil {
			err = errors.Join(err, fmt.Errorf("%s has no section %s", found[0], name))
			return nil
		}
		data, rerr := s.Data()
		err = errors.Join(err, rerr)
		return data[:min(int(s.VirtualSize), len(data))]
	}
	m.Base = uki.Parts{
		OSRelease: section(uki.SectionOSRelease), Cmdline: string(section(uki.SectionCmdline)),
		Initrd: section(uki.SectionInitrd), Linux: section(uki.SectionLinux),
	}
	if err != nil {
		return nil, err
	}
	if m.Release, err = upgrade.ParseRelease(m.Base.OSRelease); err != nil {
		return nil, err
	}
	efi := func(name string) []byte {
		found, _ := filepath.Glob(filepath.Join(cache, "systemd-boot-efi_*", "usr/lib/systemd/boot/efi", name))
		if len(found) == 0 {
			err = fmt.Errorf("%s has no %s: make image", cache, name)
			return nil
		}
		data, rerr := os.ReadFile(found[len(found)-1])
		err = errors.Join(err, rerr)
		return data
	}
	m.Base.Stub, m.loader = efi("linuxx64.efi.stub"), efi("systemd-bootx64.efi")
	if err != nil {
		return nil, err
	}
	m.key, err = m.Keys.UpgradeKey()
	return m, err
}

// Variant is what is different.
type Variant struct {
	Revision uint64 // 0: as built
	Board    string // "": as built
	Cmdline  string // more of it
	Files    []qemu.File
	Initrd   []byte // instead of the built one
	Sign     bool   // for secure boot
}

// Image is a variant.
type Image struct {
	Release upgrade.Release
	UKI     []byte
}

// emulated is what a kernel has to be told on a machine that stands still now and then: it panics when 10 ticks of the timer do not come in time, which at
// 1000 Hz are 10 ms.
const emulated = "no_timer_check"

// Make makes a variant.
func (m *Maker) Make(v Variant) (Image, error) {
	p, r := m.Base, m.Release
	if v.Revision != 0 {
		r.Revision, r.Version = v.Revision, fmt.Sprintf("test-%d", v.Revision)
	}
	if v.Board != "" {
		r.Board = v.Board
	}
	p.OSRelease = r.Marshal([]byte("NAME=\"Twinkeep\"\nID=twinkeep\n"))
	p.Cmdline += " " + emulated + " " + v.Cmdline
	var more bytes.Buffer
	if err := qemu.Overlay(&more, append([]qemu.File{{Path: upgrade.ReleaseFile, Data: p.OSRelease}}, v.Files...)); err != nil {
		return Image{}, err
	}
	p.Initrd = bytes.Clone(p.Initrd)
	p.Initrd = append(append(p.Initrd, make([]byte, (4-len(p.Initrd)%4)%4)...), more.Bytes()...)
	if v.Initrd != nil {
		p.Initrd = v.Initrd
	}
	image, err := uki.Build(p)
	if err == nil && v.Sign {
		image, err = m.Keys.SignEFI(image)
	}
	return Image{r, image}, err
}

// Upgrade is the upgrade file of an image.
func (m *Maker) Upgrade(i Image) ([]byte, error) {
	var b bytes.Buffer
	err := bundle.Write(&b, i.Release, i.UKI, m.key)
	return b.Bytes(), err
}

// Stick is the upgrade file of an image written to a disk of whole sectors.
func (m *Maker) Stick(i Image) ([]byte, error) {
	b, err := m.Upgrade(i)
	return append(b, make([]byte, (512-len(b)%512)%512)...), err
}

// Disk writes a disk of the given size with the image in slot A.
func (m *Maker) Disk(name string, i Image, size int64, sign bool) error {
	e := upgrade.Entry{Slot: upgrade.A, Generation: 1, Release: i.Release, Size: int64(len(i.UKI)), SHA256: sha256.Sum256(i.UKI)}
	loader := m.loader
	trial, err := trialloader.Build(context.Background())
	if err != nil {
		return err
	}
	files := []disk.File{}
	if sign {
		if trial, err = m.Keys.SignEFI(trial); err != nil {
			return err
		}
		if loader, err = m.Keys.SignEFI(loader); err != nil {
			return err
		}
		for _, n := range keyring.Names {
			auth, err := m.Keys.Auth(n)
			if err != nil {
				return err
			}
			files = append(files, disk.File{Path: upgrade.SecureBootKeys + "/" + n + ".auth", Data: auth})
		}
	}
	files = append(files,
		disk.File{Path: "/EFI/BOOT/BOOTX64.EFI", Data: loader},
		disk.File{Path: upgrade.TrialLoader, Data: trial},
		disk.File{Path: "/loader/loader.conf", Data: []byte("timeout 0\neditor no\nauto-entries no\nauto-firmware no\n")},
		disk.File{Path: upgrade.EntriesDir + "/" + e.Name(), Data: e.Content()},
		disk.File{Path: upgrade.EntriesDir + "/" + upgrade.A.Failsafe(), Data: upgrade.A.FailsafeEntry()},
		disk.File{Path: upgrade.EntriesDir + "/" + upgrade.B.Failsafe(), Data: upgrade.B.FailsafeEntry()},
		disk.File{Path: upgrade.A.Image(), Data: i.UKI})
	if err := disk.Write(name, files); err != nil {
		return err
	}
	return os.Truncate(name, max(size, disk.Size))
}
