package addon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "agent")
	data := filepath.Join(dir, "data")
	for name, mode := range map[string]os.FileMode{program: 0o755, data: 0o644} {
		if err := os.WriteFile(name, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"10-good.yaml":    "name: agent\nargv: [" + program + ", -v]\nafter: [had]\n",
		"20-after.yaml":   "name: probe\nargv: [" + program + "]\nafter: [agent]\n",
		"30-unknown.yaml": "name: x\nargv: [" + program + "]\nrestart: never\n",
		"31-taken.yaml":   "name: had\nargv: [" + program + "]\n",
		"32-rel.yaml":     "name: x\nargv: [agent]\n",
		"33-missing.yaml": "name: x\nargv: [/does/not/exist]\n",
		"34-data.yaml":    "name: x\nargv: [" + data + "]\n",
		"35-after.yaml":   "name: x\nargv: [" + program + "]\nafter: [nobody]\n",
		"36-name.yaml":    "name: a/b\nargv: [" + program + "]\n",
		"37-garbage.yaml": "\x00{[",
		"notes.txt":       "not looked at",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	services, errs := Load(dir, []string{"gatewayd", "had"})
	var got []string
	for _, s := range services {
		got = append(got, s.Name+" "+strings.Join(s.Argv, " ")+" after "+strings.Join(s.After, " "))
	}
	want := []string{"agent " + program + " -v after had", "probe " + program + " after agent"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	wantErrs := []string{
		"30-unknown.yaml: [3:1] unknown field \"restart\"",
		"31-taken.yaml: name: there is already a service had",
		"32-rel.yaml: argv: must begin with the absolute path",
		"33-missing.yaml: argv: /does/not/exist is not there",
		"34-data.yaml: argv: " + data + " is not executable",
		"35-after.yaml: after: there is no service nobody before this file",
		"36-name.yaml: name: \"a/b\" must be one word",
		"37-garbage.yaml: ",
	}
	if len(errs) != len(wantErrs) {
		t.Fatalf("%d errors, want %d: %v", len(errs), len(wantErrs), errs)
	}
	for i, err := range errs {
		if !strings.Contains(err.Error(), wantErrs[i]) {
			t.Errorf("error %q, want %q in it", err, wantErrs[i])
		}
	}
	if s, errs := Load(filepath.Join(dir, "none"), nil); s != nil || errs != nil {
		t.Errorf("no folder: %v %v", s, errs)
	}
}
