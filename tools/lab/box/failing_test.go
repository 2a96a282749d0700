package box

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	layout "github.com/twinkeep/twinkeep/tools/image/disk"
	"github.com/twinkeep/twinkeep/tools/lab/nbd"
)

// The EFI system partition on the disk, in bytes.
const espFrom, espTo = 1 << 20, 129 << 20

// TestFailingDisk: without room on the data partition, and with a disk that cannot be written any more, an upgrade says so and leaves the running image,
// its slot and the box alone.
func TestFailingDisk(t *testing.T) {
	t.Parallel()
	l := newLife(t, first, false)
	l.must(os.Truncate(l.cfg.Disk, layout.Size)) // a data partition of 16 MiB is too small for the file
	socket := filepath.Join(l.cfg.Dir, "nbd")
	disk, err := nbd.Open(l.cfg.Disk, socket)
	l.must(err)
	t.Cleanup(func() { disk.Close() })
	l.cfg.Disk = "nbd:unix:" + socket
	l.offer(Variant{Revision: 200, Cmdline: quick})
	l.on()
	l.ready()
	if out := l.command("upgrade cluster /dev/vdb"); !strings.Contains(out, "KiB free: make room") {
		t.Errorf("without room on the data partition: %s", out)
	}
	if out := l.shell("ls /data/upgrade"); strings.Contains(out, ".twk") {
		t.Errorf("left behind: %s", out)
	}

	disk.Break(nbd.Range{From: espFrom, To: espTo})
	if out := l.command("upgrade install /dev/vdb --no-reboot"); !strings.Contains(out, "input/output error") || strings.Contains(out, "is in slot B") {
		t.Errorf("with a disk that cannot be written: %s", out)
	}
	l.runs("A", "good", 100)
	if out := l.command("upgrade status"); !strings.Contains(out, "replace the disk") {
		t.Errorf("upgrade status: %s", out)
	}
	if out := l.command("ha"); !strings.Contains(out, "ACTIVE") {
		t.Errorf("the member: %s", out)
	}
	l.cut()
	l.on() // the disk still cannot be written
	l.ready()
	l.runs("A", "good", 100)
	disk.Break(nbd.Range{})
	if out := l.command("upgrade install /dev/vdb --no-reboot"); !strings.Contains(out, "is in slot B") {
		t.Errorf("with a disk that works: %s", out)
	}
	l.cut()
}
