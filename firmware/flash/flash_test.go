package flash

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/init/gpt"
)

const mib = 1 << 20

type disk struct {
	b    []byte
	lie  bool // returns other bytes than were written
	full bool
}

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	if d.full {
		return 0, errors.New("no space")
	}
	return copy(d.b[off:], p), nil
}
func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, d.b[off:])
	if d.lie {
		p[0] ^= 1
	}
	return n, nil
}
func (*disk) Sync() error { return nil }

func TestWrite(t *testing.T) {
	esp := bytes.Repeat([]byte("boot"), 4*mib/4)
	d := &disk{b: bytes.Repeat([]byte{0xee}, 64*mib)}
	var last int64
	if err := Write(d, 64*mib, bytes.NewReader(esp), 4*mib, func(done, all int64) {
		if done < last || done > all {
			t.Errorf("progress %d of %d after %d", done, all, last)
		}
		last = done
	}); err != nil {
		t.Fatal(err)
	}
	table, err := gpt.Read(d, 64*mib)
	if err != nil || len(table.Partitions) != 2 || table.FromBackup || last != 8*mib {
		t.Fatalf("%+v, %v, progress to %d", table, err, last)
	}
	p := table.Partitions
	if !bytes.Equal(d.b[p[0].Offset():p[0].Offset()+p[0].Size()], esp) {
		t.Error("the EFI system partition was not copied")
	}
	if len(bytes.Trim(d.b[p[1].Offset():p[1].Offset()+64<<10], "\x00")) != 0 {
		t.Error("the data partition is not blank: the first boot would take it for damaged")
	}
}

func TestWriteFails(t *testing.T) {
	esp := make([]byte, 4*mib)
	for want, d := range map[string]*disk{
		"something else than was written": {b: make([]byte, 64*mib), lie: true},
		"no space":                        {b: make([]byte, 64*mib), full: true},
		"has no room":                     {b: make([]byte, 8*mib)},
	} {
		err := Write(d, int64(len(d.b)), bytes.NewReader(esp), 4*mib, func(int64, int64) {})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if _, err := gpt.Read(&disk{b: d.b}, int64(len(d.b))); err == nil {
			t.Errorf("%s: the disk looks like a good one", want)
		}
	}
}

func TestDescribe(t *testing.T) {
	mbr := make([]byte, 2*mib)
	mbr[510], mbr[511] = 0x55, 0xaa
	with := &disk{b: make([]byte, 64*mib)}
	table, err := table(64*mib, 4*mib)
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Store(with); err != nil {
		t.Fatal(err)
	}
	for want, b := range map[string][]byte{
		"nothing": make([]byte, 2*mib), "an old partition table": mbr, "data without": bytes.Repeat([]byte("x"), 2*mib), `1 "twinkeep-esp" 4 MiB`: with.b,
	} {
		got, empty := Describe(&disk{b: b}, int64(len(b)))
		if !strings.Contains(got, want) || empty != (want == "nothing") {
			t.Errorf("%q, empty %t; want %q", got, empty, want)
		}
	}
	if _, err := Inspect("/dev/no-such-disk", "", 1); err == nil || !strings.Contains(err.Error(), "is not a whole disk") {
		t.Error(err)
	}
}
