package evdev

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func event(kind, code uint16, value uint32) []byte {
	b := make([]byte, eventSize)
	binary.NativeEndian.PutUint16(b[16:], kind)
	binary.NativeEndian.PutUint16(b[18:], code)
	binary.NativeEndian.PutUint32(b[20:], value)
	return b
}

// pressed is KEY_SLEEP pressed, in the layout of struct input_event: MSC_SCAN, the key, SYN_REPORT.
var pressed = []byte{
	0x9a, 0xf1, 0x21, 0x69, 0, 0, 0, 0, 0x6a, 0x5c, 0x04, 0, 0, 0, 0, 0, 4, 0, 4, 0, 0xdf, 0, 0, 0,
	0x9a, 0xf1, 0x21, 0x69, 0, 0, 0, 0, 0x6a, 0x5c, 0x04, 0, 0, 0, 0, 0, 1, 0, 142, 0, 1, 0, 0, 0,
	0x9a, 0xf1, 0x21, 0x69, 0, 0, 0, 0, 0x6a, 0x5c, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		in   []byte
		want Change
		ok   bool
	}{
		{event(evKey, 142, 1), Change{142, true}, true},
		{event(evKey, 142, 0), Change{142, false}, true},
		{event(evKey, 142, 2), Change{}, false}, // repetition
		{event(4, 4, 1), Change{}, false},       // MSC_SCAN
		{event(evKey, 142, 1)[:23], Change{}, false},
		{nil, Change{}, false},
	} {
		if got, ok := Decode(tt.in); ok != tt.ok || ok && got != tt.want {
			t.Errorf("%x: %v, %t", tt.in, got, ok)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(pressed[eventSize : 2*eventSize])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, ok := Decode(b); ok && (len(b) != eventSize || !c.Down && b[20] != 0) {
			t.Fatalf("%x: %v", b, c)
		}
	})
}

// A pipe stands for the device: the kernel hands out whole events as well.
func TestNext(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "input"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "input", "event7")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(dir, "event7", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.f.Write(slices.Concat(pressed, event(evKey, 142, 2), event(evKey, 142, 0))); err != nil {
		t.Fatal(err)
	}
	for _, want := range []Change{{142, true}, {142, false}} {
		if got, err := d.Next(); err != nil || got != want {
			t.Fatalf("%v, %v; want %v", got, err, want)
		}
	}
	if err := d.Tone(440); err != nil {
		t.Fatal(err)
	}
	var b [eventSize]byte
	if n, err := d.f.Read(b[:]); err != nil || n != eventSize || !slices.Equal(b[:], event(0x12, 2, 440)) {
		t.Errorf("tone: %x, %v", b, err)
	}
	if _, err := d.Down(142); err == nil {
		t.Error("a pipe has keys")
	}
	if _, err := d.Down(0xffff); err == nil {
		t.Error("key 65535 exists")
	}
	done := make(chan error)
	go func() { _, err := d.Next(); done <- err }()
	d.Close()
	if err := <-done; !Gone(err) {
		t.Errorf("closed: %v", err)
	}
	if _, err := Open(dir, "event8", false); !Gone(err) {
		t.Error(err)
	}
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	for n, name := range map[string]string{"event0": "Power Button", "event1": "AT Translated Set 2 keyboard", "event2": "Power Button", "event3": "a/b keys"} {
		dir := filepath.Join(root, "class/input", n, "device")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "name"), []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for pattern, want := range map[string][]string{
		"Power Button": {"event0", "event2"}, "AT*": {"event1"}, "*keys": {"event3"}, "a/b*": {"event3"}, "PC Speaker": nil, "[": nil,
	} {
		got, err := Find(root, pattern)
		if !slices.Equal(got, want) || (err != nil) != (want == nil) || err != nil && !errors.Is(err, ErrAbsent) {
			t.Errorf("%s: %v, %v", pattern, got, err)
		}
	}
}
