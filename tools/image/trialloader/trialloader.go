// Package trialloader compiles the trial loader (src/trial.c): a small EFI executable between the boot loader and an image that is on trial. It arms the
// watchdog before the kernel starts, and resets the machine when the firmware refuses the image. It is in C because nothing of Go runs
// before there is an operating system.
package trialloader

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed src/trial.c
var source []byte

// The names that Debian gives the compiler for x86-64, on any machine.
const compiler, linker = "x86_64-linux-gnu-gcc", "x86_64-linux-gnu-ld"

// No red zone, for interrupts of the firmware use the same stack; 16-bit characters, as UEFI has them; nothing that would have to be relocated.
var compile = []string{
	"-std=c11", "-Os", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fshort-wchar", "-fpie", "-mno-red-zone", "-mgeneral-regs-only",
	"-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fno-ident", "-fcf-protection=none", "-c",
}

// Subsystem 10 is an EFI application.
var link = []string{"-m", "i386pep", "--subsystem", "10", "-e", "efi_main", "--no-insert-timestamp", "-s"}

// Build compiles it. The same compiler gives the same bytes.
func Build(ctx context.Context) ([]byte, error) {
	dir, err := os.MkdirTemp("", "twinkeep-trial-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "trial.c"), source, 0o600); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		append([]string{compiler, "-o", "trial.o", "trial.c"}, compile...),
		append([]string{linker, "-o", "trial.efi", "trial.o"}, link...),
	} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("compile the trial loader: %s is not installed: it is in the package gcc, on machines that are not x86-64 gcc-x86-64-linux-gnu", args[0])
		}
		if err != nil {
			return nil, fmt.Errorf("compile the trial loader: %s: %w\n%s", args[0], err, out)
		}
	}
	return os.ReadFile(filepath.Join(dir, "trial.efi"))
}
