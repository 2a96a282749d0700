package console

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/upgrade/esp/esptest"
)

// slow gives a stream in small parts, as a network does.
type slow struct{ io.Reader }

func (s slow) Read(b []byte) (int, error) { return s.Reader.Read(b[:min(len(b), 700)]) }

// TestUpgradeInstallStdin: an upgrade file comes by standard input; what is cut off, changed, for another board or older changes nothing; the answer alone
// is on standard output.
func TestUpgradeInstallStdin(t *testing.T) {
	f := newFakes(t)
	box := esptest.New(t, filepath.Join(t.TempDir(), "slots"), esptest.Release(100))
	run := func(in io.Reader, args ...string) (out, progress string, err error) {
		t.Helper()
		root := NewCommand(Options{Run: f.run, Operator: "admin from 10.1.0.9", Slots: box.Place()})
		var stdout, stderr bytes.Buffer
		root.SetArgs(Normalize(root, args))
		root.SetIn(in)
		root.SetOut(&stdout)
		root.SetErr(&stderr)
		err = root.ExecuteContext(context.Background())
		return stdout.String(), stderr.String(), err
	}
	good := esptest.Bundle(t, esptest.Release(101), 1<<20)
	flipped := bytes.Clone(good)
	flipped[len(flipped)-100] ^= 1
	foreign := esptest.Release(101)
	foreign.Board = "another-board"
	for name, bad := range map[string][]byte{
		"nothing": nil, "text": []byte("hello\n"), "half of it": good[:len(good)/2], "all but a byte": good[:len(good)-1], "a changed byte": flipped,
		"an older one": esptest.Bundle(t, esptest.Release(99), 0), "another board's": esptest.Bundle(t, foreign, 0),
	} {
		before := box.List()
		out, _, err := run(slow{bytes.NewReader(bad)}, "upgrade", "install", "-", "--no-reboot")
		if err == nil || out != "" {
			t.Errorf("%s: %q, %v", name, out, err)
		}
		if after := box.List(); after != before {
			t.Errorf("%s has changed the slots from\n%sto\n%s", name, before, after)
		}
	}
	out, progress, err := run(slow{bytes.NewReader(good)}, "upgrade", "install", "-", "--no-reboot")
	if err != nil || !strings.Contains(out, "slot B") || strings.Contains(out, "%") || !strings.Contains(progress, "100%") {
		t.Errorf("%q %q %v", out, progress, err)
	}
	if r := box.Start(); r.Revision != 101 {
		t.Errorf("%v was started", r)
	}
	if calls := f.got(); len(calls) != 0 {
		t.Errorf("orders: %v", calls)
	}
}

// TestUpgradeNotTyped: on the interactive console standard input is the operator's, and stays his.
func TestUpgradeNotTyped(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("there are no terminals here: ", err)
	}
	defer terminal.Close()
	root := NewCommand(Options{Run: t.TempDir(), Slots: esptest.New(t, t.TempDir(), esptest.Release(1)).Place()})
	root.SetArgs([]string{"upgrade", "install", "-"})
	root.SetIn(terminal)
	if err := root.ExecuteContext(context.Background()); err == nil || !strings.Contains(err.Error(), "is this console") {
		t.Error(err)
	}
}
