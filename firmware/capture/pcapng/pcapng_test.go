package pcapng

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var (
	frame, _ = hex.DecodeString("100000000507020000000001080045000020000100004011" + "64c80a010005c00002070035003500" + "0c0000deadbeef")
	start    = time.Unix(1700000000, 123456789)
	packets  = []Packet{
		{start, Inbound, len(frame), frame},
		{start.Add(time.Millisecond), Outbound, 1514, frame[:45]}, // cut, and padded by 3 bytes
		{start.Add(2 * time.Millisecond), Unknown, len(frame), frame},
	}
	total = Statistics{Time: start.Add(time.Second), Received: 5, Dropped: 2, Comment: "the interface is gone"}
	what  = Description{"gw-a", "Twinkeep 1.0", "lan", "host 10.1.0.5", 96}
)

func capture(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, what)
	for _, p := range packets {
		err = errors.Join(err, w.Packet(p))
	}
	if err = errors.Join(err, w.Statistics(total)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestGolden: the bytes of the two headers and a packet.
func TestGolden(t *testing.T) {
	const want = "0a0d0d0a" + "38000000" + "4d3c2b1a" + "01000000" + "ffffffffffffffff" + "0200040067772d61" + "04000c005477696e6b65657020312e30" + "00000000" + "38000000" +
		"01000000" + "3c000000" + "01000000" + "60000000" + "020003006c616e00" + "0900010009000000" + "0b000e0000686f73742031302e312e302e350000" + "00000000" + "3c000000" +
		"06000000" + "5c000000" + "00000000" + "fe9c9717" + "15cd853d" + "2e000000" + "2e000000"
	got := hex.EncodeToString(capture(t))
	if !strings.HasPrefix(got, want) {
		t.Errorf("\n%s\n%s", got[:len(want)], want)
	}
}

// TestRoundTrip: what is written is read.
func TestRoundTrip(t *testing.T) {
	r := NewReader(bytes.NewReader(capture(t)))
	for _, want := range packets {
		got, _, err := r.Next()
		if err != nil || got == nil || !got.Time.Equal(want.Time) || got.Direction != want.Direction || got.Length != want.Length || !bytes.Equal(got.Data, want.Data) {
			t.Fatalf("%+v %v, want %+v", got, err, want)
		}
	}
	_, s, err := r.Next()
	if err != nil || s == nil || s.Received != 5 || s.Dropped != 2 || s.Comment != total.Comment || r.Offset() != int64(len(capture(t))) || !s.Time.Equal(total.Time) {
		t.Errorf("%+v %v", s, err)
	}
	if _, _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if w, _ := NewWriter(io.Discard, what); w.Packet(Packet{Data: make([]byte, MaxPacket+1)}) == nil {
		t.Error("a packet of any length was written")
	}
}

// TestOthers: programs that are not ours read it.
func TestOthers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(file, capture(t), 0o600); err != nil {
		t.Fatal(err)
	}
	tools := 0
	for _, c := range []struct {
		want []string
		args []string
	}{
		{[]string{"1700000000.123456 IP 10.1.0.5.53 > 192.0.2.7.53", "1700000000.124456"}, []string{"tcpdump", "-tt", "-nn", "-r", file}},
		{[]string{"1700000000.123456789\t10.1.0.5\tlan\t0x00000001\t46", "1700000000.124456789\t10.1.0.5\tlan\t0x00000002\t1514"},
			[]string{"tshark", "-r", file, "-T", "fields", "-e", "frame.time_epoch", "-e", "ip.src", "-e", "frame.interface_name", "-e", "frame.packet_flags", "-e", "frame.len"}},
	} {
		if _, err := exec.LookPath(c.args[0]); err != nil {
			continue
		}
		tools++
		out, err := exec.Command(c.args[0], c.args[1:]...).CombinedOutput()
		for _, want := range c.want {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s: %v, want %q:\n%s", c.args[0], err, want, out)
			}
		}
	}
	if tools == 0 {
		t.Skip("neither tcpdump nor tshark on this machine; to prove the format: apt-get install --no-install-recommends tcpdump")
	}
}

// FuzzReader: no bytes make trouble or much memory, and what is read of a capture can be written and read again.
func FuzzReader(f *testing.F) {
	f.Add(capture(f))
	f.Add(capture(f)[:100])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data))
		var b bytes.Buffer
		w, _ := NewWriter(&b, what)
		var list []Packet
		for {
			p, s, err := r.Next()
			if err != nil {
				break
			}
			if (p == nil) == (s == nil) {
				t.Fatal("neither, or both")
			}
			if p != nil {
				k := *p
				k.Data = bytes.Clone(p.Data)
				list = append(list, k)
				if err := w.Packet(k); err != nil {
					t.Fatal(err)
				}
			}
		}
		again := NewReader(&b)
		for _, want := range list {
			got, _, err := again.Next()
			if err != nil || !reflect.DeepEqual(append([]byte{}, got.Data...), append([]byte{}, want.Data...)) || got.Time != want.Time {
				t.Fatalf("%+v %v, want %+v", got, err, want)
			}
		}
	})
}
