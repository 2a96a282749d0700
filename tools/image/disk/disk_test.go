package disk

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/twinkeep/twinkeep/init/gpt"
)

func TestWrite(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	files := []File{
		{"/EFI/BOOT/BOOTX64.EFI", []byte("loader")},
		{"/EFI/twinkeep/A.efi", big},
		{"/loader/loader.conf", []byte("timeout 0\n")},
		{"/loader/entries/a.conf", []byte("title x\n")},
	}
	dir := t.TempDir()
	var images [2][]byte
	for i := range images {
		name := filepath.Join(dir, "image")
		if err := Write(name, files); err != nil {
			t.Fatal(err)
		}
		var err error
		if images[i], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("not reproducible")
	}
	table, err := gpt.Read(bytes.NewReader(images[0]), Size)
	if err != nil || table.Find(ESPName) != 0 || table.Find(DataName) != 1 {
		t.Fatalf("%+v, %v", table, err)
	}
	p := table.Partitions[0]
	esp := filepath.Join(dir, "esp")
	if err := os.WriteFile(esp, images[0][p.Offset():p.Offset()+p.Size()], 0o600); err != nil {
		t.Fatal(err)
	}
	if tool, err := exec.LookPath("mtype"); err != nil {
		t.Log("mtools is not installed: the files are not read back")
	} else {
		for _, f := range files {
			got, err := exec.Command(tool, "-i", esp, "::"+f.Path).Output()
			if err != nil || !bytes.Equal(got, f.Data) {
				t.Errorf("%s: %d bytes, %v", f.Path, len(got), err)
			}
		}
	}
	if tool, err := exec.LookPath("fsck.vfat"); err != nil {
		t.Log("dosfstools is not installed: the file system is not checked")
	} else if out, err := exec.Command(tool, "-n", "-v", esp).CombinedOutput(); err != nil || bytes.Contains(out, []byte("Invalid")) {
		t.Errorf("fsck.vfat: %v\n%s", err, out)
	}
}

// The partition of the images of other architectures is larger.
func TestWriteSized(t *testing.T) {
	const esp = ESPSize + 32*mib
	name := filepath.Join(t.TempDir(), "image")
	content := bytes.Repeat([]byte("end"), 45<<20/3)
	if err := WriteSized(name, esp, []File{{"/a", content}, {"/b", content}, {"/c", content}}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	table, err := gpt.Read(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	p, d := table.Partitions[0], table.Partitions[1]
	if p.Size() != esp || d.Offset() != p.Offset()+esp || d.Size() != DataSize || d.Offset()+d.Size() > int64(len(raw)) {
		t.Errorf("EFI system partition %+v, data %+v in %d bytes", p, d, len(raw))
	}
}
