package main

import (
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// TestConsoleEndsInOrder: SIGTERM, with which the box stops its consoles, ends one at its prompt and one that has lent its terminal to a
// shell; the terminal is as it was.
func TestConsoleEndsInOrder(t *testing.T) {
	for _, typed := range []string{"", "shell\r"} {
		t.Run(strings.TrimSpace("prompt "+typed), func(t *testing.T) {
			cmd := exec.Command(binary, "cli", "--failsafe", "--run", t.TempDir())
			cmd.Env = append(cmd.Environ(), "SHELL=/bin/sh", "PS1=inside-$((40+2)) ")
			terminal, tty, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer terminal.Close()
			defer tty.Close()
			before, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			screen := watch(t, terminal)
			screen.expect(":/> ")
			if typed != "" {
				io.WriteString(screen, typed)
				screen.expect("inside-42")
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("it ends with %v:\n%s", err, screen.text())
				}
			case <-time.After(time.Minute):
				t.Fatal("it does not end")
			}
			after, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
			if err != nil || *after != *before {
				t.Errorf("the terminal was %+v, and is %+v, %v", before, after, err)
			}
		})
	}
}
