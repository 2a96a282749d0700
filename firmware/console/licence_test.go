package console

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// use runs one command as from a shell.
func use(f *fakes, in string, args ...string) (string, error) {
	root := NewCommand(Options{Run: f.run})
	var out bytes.Buffer
	root.SetArgs(Normalize(root, args))
	root.SetIn(strings.NewReader(in))
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.ExecuteContext(context.Background())
	return out.String(), err
}

func TestLicenseCommands(t *testing.T) {
	f := newFakes(t)
	path := filepath.Join(t.TempDir(), "licence")
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := use(f, "", "license"); err != nil || !strings.Contains(out, "State:     LICENSED") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := use(f, "", "license", "install", path, "-force"); err != nil || !strings.HasPrefix(out, "The licence is installed.") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := use(f, "A\nKEY x\nSIGNATURE y\nrest", "license", "install"); err != nil || !strings.Contains(out, "Paste the licence") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, in := range []string{"", "A\n.\n", strings.Repeat("x\n", 5000)} {
		if out, err := use(f, in, "license", "install", "-"); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%.10q: %v\n%s", in, err, out)
		}
	}
	if _, err := use(f, "", "license", "remove"); err == nil {
		t.Error("the daemon's refusal is no error")
	}
	if _, err := use(f, "", "interface", "disable", "G1", "-persist"); err != nil {
		t.Error(err)
	}
	if _, err := use(f, "", "interface", "enable", "G1"); err != nil {
		t.Error(err)
	}
	want := []string{"install force=1text", "install A\nKEY x\nSIGNATURE y\n", "remove ", "disable G1 {Force:false Persist:true}", "enable G1 {Force:false Persist:false}"}
	if got := f.got(); !slices.Equal(got, want) {
		t.Errorf("orders %q, want %q", got, want)
	}
}

// TestLockdownGreets: whoever opens the console is told why nothing passes, and how to leave.
func TestLockdownGreets(t *testing.T) {
	f := newFakes(t)
	f.licence = lockedStatus()
	o := newOperator(t, f.run)
	o.expect(t, "LOCKDOWN: only management traffic passes")
	o.expect(t, "interface enable G1")
	o.expect(t, "gw-a LOCKDOWN:/> ")
	o.types("license\r")
	o.expect(t, "State:     LOCKDOWN")
	o.types("exit\r")
	o.left()
}
