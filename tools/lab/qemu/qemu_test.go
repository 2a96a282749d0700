package qemu

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/twinkeep/twinkeep/tools/lab/ether"
)

func TestChoose(t *testing.T) {
	for _, tt := range []struct {
		name string
		host Host
		want string
		err  bool
	}{
		{"bare metal", Host{Flags: true}, "kvm", false},
		{"no flags", Host{}, "tcg", false},
		{"kvm_pvm", Host{Flags: true, PVM: true}, "tcg", false},
		{"not allowed", Host{Flags: true, OpenErr: fs.ErrPermission}, "tcg", false},
		{"told to use tcg", Host{Flags: true, Override: "tcg"}, "tcg", false},
		{"told to use kvm", Host{PVM: true, Override: "kvm"}, "kvm", false},
		{"told nonsense", Host{Override: "fast"}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Choose(tt.host)
			if got.Name != tt.want || (err != nil) != tt.err || (err == nil && got.Reason == "") {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	for text, want := range map[string]bool{
		"flags\t\t: fpu vmx sse\n": true, "flags : svm\n": true, "flags : fpu vmxx\n": false, "vmx flags : ept\n": false, "": false,
	} {
		if got := hasVirtFlag(text); got != want {
			t.Errorf("hasVirtFlag(%q) = %v", text, got)
		}
	}
}

func testConfig() Config {
	return Config{
		Name: "a", Dir: "/run/lab", Log: "/build/a.log", Kernel: "/k", Accel: Accel{Name: "tcg"},
		NICs: []NIC{{Name: "G1", Slot: 4, MAC: ether.MAC{0x52, 0x54, 0, 0, 1, 1}, Socket: "/run/lab/lan-a"}},
	}
}

func TestArgs(t *testing.T) {
	got := strings.Join(testConfig().Args(), " ")
	for _, want := range []string{
		"-accel tcg -cpu max -smp 1", "-m 256 ", "-initrd /run/lab/a.initrd",
		"-device pcie-root-port,id=rp0,bus=pcie.0,chassis=1,slot=4,addr=4.0",
		"-netdev stream,id=net0,server=off,addr.type=unix,addr.path=/run/lab/lan-a",
		"-device virtio-net-pci,id=G1,netdev=net0,bus=rp0,addr=0.0,mac=52:54:00:00:01:01,romfile=",
		"logfile=/build/a.log", "virtserialport,chardev=agent,name=org.twinkeep.agent",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*Config)
		want string // in the error; empty: none
	}{
		{"good", func(*Config) {}, ""},
		{"comma in the name", func(c *Config) { c.Name = "a,b" }, "name"},
		{"too little memory", func(c *Config) { c.MemoryMB = 8 }, "8 MiB"},
		{"no accelerator", func(c *Config) { c.Accel = Accel{} }, "accelerator"},
		{"slot of the chipset", func(c *Config) { c.NICs[0].Slot = 31 }, "slot 31"},
		{"slot twice", func(c *Config) { n := c.NICs[0]; n.Name = "G2"; c.NICs = append(c.NICs, n) }, "slot 4"},
		{"name twice", func(c *Config) { n := c.NICs[0]; n.Slot = 5; c.NICs = append(c.NICs, n) }, `"G1"`},
		{"group address", func(c *Config) { c.NICs[0].MAC[0] = 0x11 }, "11:54:00:00:01:01"},
		{"unknown NIC", func(c *Config) { c.NICs[0].Model = "igb" }, "igb"},
		{"long socket", func(c *Config) { c.Dir = "/" + strings.Repeat("x", 100) }, "107 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := testConfig()
			tt.edit(&c)
			err := c.Validate()
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestWriteInitrd(t *testing.T) {
	dir := t.TempDir()
	base, dst := filepath.Join(dir, "base"), filepath.Join(dir, "initrd")
	if err := os.WriteFile(base, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := WriteInitrd(dst, base, []File{
		{Path: "/etc/twinkeep/services.d/agent.yaml", Data: []byte("name: lab-agent\n")},
		{Path: "/bin/lab-agent", Mode: 0o755, Data: []byte("ELF")},
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(dst)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(b, []byte("12345\x00\x00\x00070701")) {
		t.Fatalf("the overlay does not start at a multiple of four: %q", b[:20])
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(b[8:])))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range records {
		got = append(got, strings.Join([]string{r.Name, fs.FileMode(r.Mode & 0o777).String()}, " "))
	}
	want := []string{"bin/lab-agent -rwxr-xr-x", "etc/twinkeep -rwxr-xr-x", "etc/twinkeep/services.d -rwxr-xr-x", "etc/twinkeep/services.d/agent.yaml -rw-r--r--"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := Overlay(&bytes.Buffer{}, []File{{Path: "relative"}}); err == nil {
		t.Error("a relative path was taken")
	}
}

func TestLauncherEndsItsProcesses(t *testing.T) {
	l := NewLauncher()
	cmd := exec.Command("sleep", "60")
	if err := l.Start(cmd); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	l.Close()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		cmd.Process.Kill()
		t.Error("the process outlives the launcher")
	}
	if err := l.Start(exec.Command("true")); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v", err)
	}
}

func TestMachineReportsWhyQEMUFailed(t *testing.T) {
	dir := t.TempDir()
	base := filepath.Join(dir, "base")
	script := filepath.Join(dir, "qemu")
	for name, text := range map[string]string{base: "x", script: "#!/bin/sh\necho no such machine >&2\nexit 1\n"} {
		if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c := testConfig()
	c.Dir, c.Initramfs, c.Binary, c.NICs = dir, base, script, nil
	l := NewLauncher()
	defer l.Close()
	m, err := Start(l, c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := m.Wait(ctx); err == nil || !strings.Contains(err.Error(), "no such machine") {
		t.Errorf("error %v", err)
	}
	if m.Running() {
		t.Error("still running")
	}
	c.Binary = "/no/such/qemu"
	if _, err := Start(l, c); err == nil {
		t.Error("a missing QEMU started")
	}
}
