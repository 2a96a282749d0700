package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/license"
)

// The linker ignores -X for a variable that does not exist.
var _ = license.BuildDate

func TestDateOfSources(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1790000000")
	b := &build{}
	if err := b.dateOfSources(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.release.Version = "v1"
	want := "-s -w -buildid= -X main.version=v1 -X github.com/twinkeep/twinkeep/firmware/license.BuildDate=2026-09-21"
	if got := b.ldflags(); got != want {
		t.Errorf("flags %q, want %q", got, want)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	if err := b.dateOfSources(t.Context()); err == nil || !strings.Contains(err.Error(), "seconds since 1970") {
		t.Errorf("error %v", err)
	}
}

// TestBuildDateArrives links a program with the flags and asks it.
func TestBuildDateArrives(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1790000000")
	b := &build{}
	if err := b.dateOfSources(t.Context()); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "program")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-ldflags="+b.ldflags(), "-o", program, "./testdata/built").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), program).Output()
	if got := strings.TrimSpace(string(out)); err != nil || got != "2026-09-21" {
		t.Errorf("the program says %q, %v; want 2026-09-21", got, err)
	}
}
