package main

import (
	"context"
	bin "encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/board"
	"github.com/twinkeep/twinkeep/firmware/hald"
)

// TestPowerFailHandsOver: the power-fail input of the active member's case moves the role to its peer as a planned
// hand-over, and the role stays there when the supply is back. The input is a pipe in place of an input device; had, its
// peer and the network are real.
func TestPowerFailHandsOver(t *testing.T) {
	p := started(t)
	p.WaitStates("ACTIVE", "STANDBY")
	b, err := board.Parse("test.yaml", []byte("name: test\ndescription: d\narch: x86_64\nconsole: {device: ttyS0, baud: 115200}\n"+
		"power_fail: {key: {device: supply, code: \"140\"}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	sys, dev := t.TempDir(), t.TempDir()
	name := filepath.Join(sys, "class/input/event0/device/name")
	input := filepath.Join(dev, "input/event0")
	for _, f := range []string{name, input} {
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(name, []byte("supply\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(input, 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := os.OpenFile(input, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- hald.Run(ctx, hald.Options{Board: b, RunDir: p.A.Run(), Sys: sys, Dev: dev, Log: slog.New(slog.DiscardHandler)})
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	press := func(value uint32) time.Time {
		e := make([]byte, 24)
		bin.NativeEndian.PutUint16(e[16:], 1)
		bin.NativeEndian.PutUint16(e[18:], 140)
		bin.NativeEndian.PutUint32(e[20:], value)
		if _, err := key.Write(e); err != nil {
			t.Fatal(err)
		}
		return time.Now()
	}
	time.Sleep(time.Second) // hald has asked had by then
	count := p.B.Status().Failover.Count
	at := press(1)
	p.Wait("b has the role", func() bool { return p.B.Status().State == "ACTIVE" })
	t.Logf("the role was with the peer %v after the first sign", time.Since(at).Round(time.Millisecond))
	p.Wait("a is unfit", func() bool {
		return slices.ContainsFunc(p.A.Status().Problems, func(s string) bool { return s == "power: the power supply fails" })
	})
	p.Wait("traffic", p.Reachable)
	press(0)
	p.Wait("a is fit again", func() bool { return len(p.A.Status().Problems) == 0 && p.A.Status().State == "STANDBY" })
	if n := p.B.Status().Failover.Count - count; n != 1 || p.B.Status().State != "ACTIVE" {
		t.Errorf("%d changes of the role, b is %s", n, p.B.Status().State)
	}
}
