package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestBridge(t *testing.T) {
	for _, tt := range []struct {
		name string
		tty  bool
		in   string
		want string // what the machine gets
	}{
		{"a pipe: newlines are the Enter key", false, "show cluster\nexit\n", "show cluster\rexit\r"},
		{"a terminal: keys as they are, until Ctrl-]", true, "ls\r\x03\x1dnot this", "ls\r\x03"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			here, there := net.Pipe()
			got := make(chan string, 1)
			go func() {
				b := make([]byte, len(tt.want))
				io.ReadFull(there, b)
				io.WriteString(there, "answer")
				got <- string(b)
			}()
			var out bytes.Buffer
			err := bridge(t.Context(), here, strings.NewReader(tt.in), &out, tt.tty, 200*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			here.Close()
			if g := <-got; g != tt.want {
				t.Errorf("machine got %q, want %q", g, tt.want)
			}
			if !tt.tty && out.String() != "answer" {
				t.Errorf("output %q", &out)
			}
		})
	}
	t.Run("the machine loses its power", func(t *testing.T) {
		here, there := net.Pipe()
		there.Close()
		r, _ := io.Pipe() // a user who types nothing
		if err := bridge(context.Background(), here, r, io.Discard, true, time.Hour); err == nil {
			t.Error("no error")
		}
	})
}

func TestParseStart(t *testing.T) {
	for _, tt := range []struct {
		stat string
		want uint64
	}{
		{"12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21", 4711},
		{"12 (dead) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20", 0},
		{"12 (short) S 1", 0},
		{"", 0},
	} {
		if got := parseStart(tt.stat); got != tt.want {
			t.Errorf("parseStart(%q) = %d, want %d", tt.stat, got, tt.want)
		}
	}
}

func TestStateKnowsItsProcess(t *testing.T) {
	dir := t.TempDir()
	if _, err := load(dir); !errors.Is(err, errNoLab) {
		t.Errorf("error %v", err)
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := state{Process: processOf(cmd.Process.Pid), Machines: []machine{{Name: "a"}}}
	if err := s.save(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := load(dir); err != nil || got.Process != s.Process {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.machine("z"); err == nil || !strings.Contains(err.Error(), "there are a") {
		t.Errorf("error %v", err)
	}
	imposter := process{s.Process.PID, s.Process.Start + 1} // the number was given to another process
	if err := imposter.signal(unix.SIGKILL); err != nil || !s.Process.running() {
		t.Errorf("another process was signalled: %v", err)
	}
	if err := s.Process.signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	cmd.Wait()
	if _, err := load(dir); !errors.Is(err, errNoLab) {
		t.Errorf("error %v", err)
	}
}

func TestRunDirIsPrivateAndShort(t *testing.T) {
	base := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", base)
	o := options{dir: "/some/where/build/demo"}
	first, err := o.runDir()
	if err != nil {
		t.Fatal(err)
	}
	o.dir = "/elsewhere/build/demo"
	if second, err := o.runDir(); err != nil || second == first {
		t.Errorf("%s for two labs, %v", second, err)
	}
	if err := os.Chmod(filepath.Dir(first), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := o.runDir(); err == nil {
		t.Error("a folder that others can read was taken")
	}
}

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string // in the error
	}{
		{[]string{"fly"}, "unknown command"},
		{[]string{"console"}, "name a machine"},
		{[]string{"status", "now"}, "unexpected argument"},
		{[]string{"status", "--dir", t.TempDir()}, errNoLab.Error()},
		{[]string{"console", "--dir", t.TempDir(), "a"}, errNoLab.Error()},
		{[]string{"demo", "--image", t.TempDir(), "--dir", t.TempDir()}, "go run ./tools/image"},
	} {
		if err := run(t.Context(), tt.args); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: error %v, want %q in it", tt.args, err, tt.want)
		}
	}
	if err := run(t.Context(), []string{"stop", "--dir", t.TempDir()}); err != nil {
		t.Error(err)
	}
}
