package trialloader

import (
	"bytes"
	"debug/pe"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBuild: the same bytes every time, an EFI application for x86-64 that needs no relocation, and nothing both writable and executable.
func TestBuild(t *testing.T) {
	image, err := Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := Build(t.Context())
	if err != nil || !bytes.Equal(image, again) {
		t.Errorf("the second build is another one: %v", err)
	}
	f, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	h := f.OptionalHeader.(*pe.OptionalHeader64)
	if f.Machine != pe.IMAGE_FILE_MACHINE_AMD64 || h.Subsystem != pe.IMAGE_SUBSYSTEM_EFI_APPLICATION || f.Characteristics&pe.IMAGE_FILE_RELOCS_STRIPPED != 0 {
		t.Errorf("%+v %+v", f.FileHeader, h)
	}
	for _, s := range f.Sections {
		if s.Characteristics&pe.IMAGE_SCN_MEM_EXECUTE != 0 && s.Characteristics&pe.IMAGE_SCN_MEM_WRITE != 0 {
			t.Errorf("section %s is writable and executable", s.Name)
		}
	}
}

// TestRun runs it with a firmware that the test plays, under the address sanitizer.
func TestRun(t *testing.T) {
	program := filepath.Join(t.TempDir(), "trial")
	cmd := exec.Command(compiler, "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fshort-wchar", "-fsanitize=address,undefined", "-fno-sanitize-recover",
		"-o", program, filepath.Join("testdata", "firmware.c"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const resets = ". This machine resets, and starts the other image.\nreset 0\n"
	const image = `\EFI\twinkeep\B.efi`
	for _, tt := range []struct{ name, options, how, want string }{
		{"good", "none " + image, "", "firmware's watchdog 120 s\nload " + image + "\nstart\nTrial: the image came back" + resets},
		{"refused", "none " + image, "refuses", "firmware's watchdog 120 s\nload " + image + "\nTrial: the firmware refuses the image" + resets},
		{"no options", "", "", "Trial: the boot entry names no image" + resets},
		{"no watchdog", image, "", "Trial: the boot entry names an unknown watchdog" + resets},
		{"half a word", "non", "", "Trial: the boot entry names an unknown watchdog" + resets},
		{"no space", "none", "", "Trial: the boot entry names an unknown watchdog" + resets},
		{"no end", "none " + image, "open", "Trial: the boot entry names no image" + resets},
		{"the longest", "none " + strings.Repeat("x", 250), "", "firmware's watchdog 120 s\nload " + strings.Repeat("x", 250) + "\nstart\nTrial: the image came back" + resets},
		{"too long", "none " + strings.Repeat("x", 251), "", "Trial: the boot entry names no image" + resets},
	} {
		out, err := exec.Command(program, tt.options, tt.how).CombinedOutput()
		if err != nil || string(out) != tt.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", tt.name, err, out, tt.want)
		}
	}
}
