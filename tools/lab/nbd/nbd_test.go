package nbd

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
)

type client struct {
	t *testing.T
	c net.Conn
}

func dial(t *testing.T, socket string, size int64) *client {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	x := &client{t, c}
	x.read(18)
	x.send(be.AppendUint32(nil, flagFixed))
	x.send(be.AppendUint32(be.AppendUint32(be.AppendUint64(nil, magicOption), 77), 0))
	if r := x.read(20); be.Uint32(r[12:]) != repUnsupported {
		t.Errorf("unknown option: %x", r)
	}
	x.send(be.AppendUint32(be.AppendUint32(be.AppendUint64(nil, magicOption), optGo), 0))
	if r := x.read(20 + 12 + 20); int64(be.Uint64(r[22:])) != size {
		t.Errorf("size %d, want %d", be.Uint64(r[22:]), size)
	}
	return x
}

func (x *client) send(b []byte) {
	if _, err := x.c.Write(b); err != nil {
		x.t.Fatal(err)
	}
}

func (x *client) read(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(x.c, b); err != nil {
		x.t.Fatal(err)
	}
	return b
}

func (x *client) do(cmd, flags uint16, off uint64, n int, data []byte) (code uint32, got []byte) {
	b := be.AppendUint16(be.AppendUint16(be.AppendUint32(nil, magicReq), flags), cmd)
	b = be.AppendUint32(be.AppendUint64(be.AppendUint64(b, 7), off), uint32(n))
	x.send(append(b, data...))
	r := x.read(16)
	if code = be.Uint32(r[4:]); code == 0 && cmd == cmdRead {
		got = x.read(n)
	}
	return code, got
}

func TestCutLosesTheCacheOnly(t *testing.T) {
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "disk"), filepath.Join(dir, "s")
	if err := os.WriteFile(file, make([]byte, 16*Sector), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(file, socket)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	x := dial(t, socket, 16*Sector)
	fill := func(c byte, n int) []byte { return bytes.Repeat([]byte{c}, n*Sector) }
	write := func(c byte, sector, n int, flags uint16) {
		if code, _ := x.do(cmdWrite, flags, uint64(sector*Sector), n*Sector, fill(c, n)); code != 0 {
			t.Fatalf("write: %d", code)
		}
	}
	write('a', 0, 4, 0)
	x.do(cmdFlush, 0, 0, 0, nil)
	write('b', 0, 4, 0)
	write('c', 2, 4, 0)
	write('d', 3, 1, cmdFlagFUA)
	if _, got := x.do(cmdRead, 0, 2*Sector, 2*Sector, nil); !bytes.Equal(got, append(fill('c', 1), fill('d', 1)...)) {
		t.Error("the machine does not read what it wrote")
	}
	sectors, lost, err := d.Cut(rand.New(rand.NewPCG(1, 2)), 0)
	if err != nil || sectors != 8 || lost != 8 {
		t.Errorf("%d sectors, %d lost, %v", sectors, lost, err)
	}
	want := append(append(fill('a', 3), fill('d', 1)...), make([]byte, 12*Sector)...)
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("after the cut: %q, %v", bytes.ReplaceAll(got, make([]byte, 511), nil), err)
	}
	// Half of the cache survives, in no order.
	write('e', 0, 16, 0)
	sectors, lost, err = d.Cut(rand.New(rand.NewPCG(3, 4)), 0.5)
	if err != nil || sectors != 16 || lost == 0 || lost == 16 {
		t.Errorf("half: %d sectors, %d lost, %v", sectors, lost, err)
	}
	got, _ := os.ReadFile(file)
	if n := bytes.Count(got, fill('e', 1)); n != 16-lost {
		t.Errorf("%d sectors survived, %d were lost of 16", n, lost)
	}
	if code, _ := x.do(cmdRead, 0, 16*Sector, Sector, nil); code != eInvalid {
		t.Errorf("outside: %d", code)
	}
	d.Break(Range{Sector, 2 * Sector})
	for sector, want := range []uint32{0, eIO, 0} {
		if code, _ := x.do(cmdWrite, 0, uint64(sector*Sector), Sector, fill('f', 1)); code != want {
			t.Errorf("sector %d of a disk that is broken in sector 1: %d", sector, code)
		}
	}
	if _, got := x.do(cmdRead, 0, Sector, Sector, nil); bytes.Contains(got, []byte("f")) {
		t.Error("the broken part was written")
	}
}
