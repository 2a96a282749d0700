package capture

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func written(t testing.TB, frames ...Frame) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, "lan-a")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		if err := w.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	want := []Frame{
		{Time: time.Unix(1795350000, 123456789), Dir: In, Data: []byte("a frame of odd length")},
		{Time: time.Unix(1795350001, 0), Dir: Out, Data: bytes.Repeat([]byte{7}, 1514)},
		{Time: time.Unix(1795350002, 1), Dir: Unknown, Data: []byte{}},
	}
	file := written(t, want...)
	got, err := Read(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	t.Run("an abrupt end loses only the last frame", func(t *testing.T) {
		got, err := Read(bytes.NewReader(file[:len(file)-5]))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[:2], got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestReadRefuses(t *testing.T) {
	good := written(t, Frame{Time: time.Unix(1, 0), Data: make([]byte, 60)})
	for _, tt := range []struct {
		name string
		file []byte
	}{
		{"empty", nil},
		{"old pcap", []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0}},
		{"block length not a multiple of four", append(bytes.Clone(good), 6, 0, 0, 0, 13, 0, 0, 0)},
		{"huge block", append(bytes.Clone(good), 6, 0, 0, 0, 0, 0, 0, 0x10)},
		{"frame longer than its block", func() []byte {
			b := bytes.Clone(good)
			b[len(good)-(32+60+12)+20] = 0xff // captured length
			return b
		}()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Read(bytes.NewReader(tt.file)); !errors.Is(err, ErrFormat) {
				t.Errorf("error %v, want ErrFormat", err)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add(written(f, Frame{Time: time.Unix(1, 2), Dir: In, Data: make([]byte, 61)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, err := Read(bytes.NewReader(b))
		if err != nil && frames != nil {
			t.Error("frames and an error")
		}
	})
}
