package console

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// run executes a command of the tree.
func boardRun(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := NewCommand(Options{Run: t.TempDir()})
	root.SetOut(&out)
	root.SetArgs(append([]string{"board"}, args...))
	err := root.Execute()
	return out.String(), err
}

func TestBoardCheck(t *testing.T) {
	good, err := filepath.Glob("../../board/*.yaml")
	if err != nil || len(good) < 6 {
		t.Fatal(good, err)
	}
	out, err := boardRun(t, append([]string{"check"}, good...)...)
	if err != nil || strings.Count(out, ": good: ") != len(good) {
		t.Errorf("%v\n%s", err, out)
	}
	bad := filepath.Join(t.TempDir(), "mine.yaml")
	text := "name: mine\ndescription: d\narch: x86_64\nconsole: {device: ttyS0, baud: 115200}\nledds: []\n"
	if err := os.WriteFile(bad, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err = boardRun(t, "check", bad)
	want := bad + ":5:1: unknown field \"ledds\"\n    ledds: []\n    ^\n    hint: did you mean leds?\n"
	if err == nil || err.Error() != "1 board file with faults" || out != want {
		t.Errorf("error %v, output\n%s\nwant\n%s", err, out, want)
	}
	if err := os.WriteFile(bad, []byte(strings.Replace(text, "ledds: []", "", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err = boardRun(t, "check", bad); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	other := filepath.Join(filepath.Dir(bad), "other.yaml")
	if err := os.Rename(bad, other); err != nil {
		t.Fatal(err)
	}
	if out, err = boardRun(t, "check", other); err == nil || !strings.Contains(out, `name: "mine" is not the name of the file`) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestBoardListAndShow(t *testing.T) {
	out, err := boardRun(t, "list")
	if err != nil || !strings.Contains(out, "apu2") || !strings.Contains(out, "3 ports, 3 LEDs, 1 button, 1 sensor") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := boardRun(t, "show", "apu2"); err != nil || !strings.Contains(out, "name: apu2\n") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := boardRun(t, "show", "pdp-11"); err == nil || !strings.Contains(err.Error(), "there are auto, apu2") {
		t.Error(err)
	}
	if out, err := boardRun(t, "schema"); err != nil || !strings.Contains(out, `"Twinkeep board file"`) {
		t.Errorf("%v\n%s", err, out)
	}
}
