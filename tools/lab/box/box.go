// Package box starts a single machine as it stands on a desk: UEFI firmware with
// its variables, a disk, a serial console. It is for the tests of the image, the
// upgrades and the power cuts; package qemu starts the pairs of the lab.
package box

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/qemu"
)

// Firmware files of Debian's package ovmf.
const (
	Code       = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	CodeSecure = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	Vars       = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// Config of a box.
type Config struct {
	Dir    string // for sockets, variables and the log
	Disk   string // raw image file, or nbd:unix:SOCKET
	Second string // another raw image, read-only; may be empty
	Target string // and one to write to
	// SecureBoot takes firmware that can enforce signatures, with system
	// management mode.
	SecureBoot bool
	MemoryMB   int // 512 when 0
	NICs       int // virtio NICs, each into a network of its own where nobody answers
	SSH        int // TCP port of this host's loopback that leads to port 22 of 10.1.0.2, on the first of NICs; 0: none
	// Ports are sockets of switch ports (package vswitch) instead, a NIC each. Station tells the MACs of two boxes apart.
	Ports   []string
	Station byte
	TPM     string // control socket of swtpm (package hal/tpm/tpmtest); "": the machine has none
	Accel   qemu.Accel
	Binary  string // qemu-system-x86_64 when empty
}

// Box is a machine that runs.
type Box struct {
	cfg  Config
	cmd  *exec.Cmd
	done chan struct{}
	err  error
	con  net.Conn

	mu    sync.Mutex
	text  []byte // everything the console said
	from  int    // where the next Expect begins
	fresh chan struct{}
}

// VarsFile holds the firmware's variables of the boxes with this Dir.
func (c Config) VarsFile() string { return filepath.Join(c.Dir, "vars.fd") }

// LogFile gets what the console says, of all boots.
func (c Config) LogFile() string { return filepath.Join(c.Dir, "console.log") }

// Forget makes the firmware lose its variables, as with an empty battery.
func (c Config) Forget() error {
	b, err := os.ReadFile(Vars)
	if err != nil {
		return fmt.Errorf("firmware: %w: install the package ovmf", err)
	}
	return os.WriteFile(c.VarsFile(), b, 0o600)
}

// Start switches a box on.
func Start(l *qemu.Launcher, c Config) (*Box, error) {
	if _, err := os.Stat(c.VarsFile()); errors.Is(err, os.ErrNotExist) {
		if err := c.Forget(); err != nil {
			return nil, err
		}
	}
	socket := filepath.Join(c.Dir, "con")
	os.Remove(socket)
	binary := c.Binary
	if binary == "" {
		binary = "qemu-system-x86_64"
	}
	b := &Box{cfg: c, cmd: exec.Command(binary, c.args(socket)...), done: make(chan struct{}), fresh: make(chan struct{})}
	var stderr bytes.Buffer
	b.cmd.Stderr = &stderr
	if err := l.Start(b.cmd); err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	go func() {
		if b.err = b.cmd.Wait(); b.err != nil {
			b.err = fmt.Errorf("%w: %s", b.err, stderr.Bytes())
		}
		close(b.done)
	}()
	for {
		var err error
		if b.con, err = net.Dial("unix", socket); err == nil {
			break
		}
		select {
		case <-b.done:
			return nil, fmt.Errorf("QEMU ended at once: %w", b.err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	log, err := os.OpenFile(c.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.PowerCut()
		return nil, err
	}
	go b.listen(log)
	return b, nil
}

// firstPort is the PCI slot of the first of Ports, the same on boxes with different disks: shared MACs come from it.
const firstPort = 0x10

func (c Config) args(socket string) []string {
	code, machine := Code, "q35"
	if c.SecureBoot {
		code, machine = CodeSecure, "q35,smm=on"
	}
	memory := c.MemoryMB
	if memory == 0 {
		memory = 512
	}
	accel := c.Accel
	if accel.Name == "" {
		accel.Name = "tcg"
	}
	args := append([]string{"-M", machine}, accel.Args()...)
	args = append(args, "-m", strconv.Itoa(memory), "-nodefaults", "-no-user-config", "-display", "none",
		"-action", "reboot=reset,shutdown=poweroff,panic=none,watchdog=reset", "-device", "i6300esb", "-device", "virtio-rng-pci",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+code, "-drive", "if=pflash,format=raw,unit=1,file="+c.VarsFile(),
		"-drive", "if=none,id=d0,format=raw,discard=ignore,file="+c.Disk, "-device", "virtio-blk-pci,drive=d0,bootindex=1",
		"-chardev", "socket,id=con,server=on,wait=off,path="+socket, "-serial", "chardev:con")
	if c.SecureBoot {
		args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	if c.TPM != "" {
		args = append(args, "-chardev", "socket,id=tpm,path="+c.TPM, "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0")
	}
	if c.Second != "" {
		args = append(args, "-drive", "if=none,id=d1,format=raw,readonly=on,file="+c.Second, "-device", "virtio-blk-pci,drive=d1")
	}
	if c.Target != "" {
		args = append(args, "-drive", "if=none,id=d2,format=raw,file="+c.Target, "-device", "virtio-blk-pci,drive=d2")
	}
	for i, port := range c.Ports {
		args = append(args, "-netdev", fmt.Sprintf("stream,id=n%d,server=off,addr.type=unix,addr.path=%s", i, port),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=n%d,romfile=,mac=52:54:00:00:%02x:%02x,bus=pcie.0,addr=%x", i, c.Station, i+1, firstPort+i))
	}
	for i := range c.NICs {
		netdev := fmt.Sprintf("user,id=n%d,restrict=on", i)
		if i == 0 && c.SSH != 0 {
			netdev += fmt.Sprintf(",net=10.1.0.0/24,host=10.1.0.254,dhcpstart=10.1.0.100,hostfwd=tcp:127.0.0.1:%d-10.1.0.2:22", c.SSH)
		}
		args = append(args, "-netdev", netdev, "-device", fmt.Sprintf("virtio-net-pci,netdev=n%d,romfile=", i))
	}
	return args
}

func (b *Box) listen(log io.WriteCloser) {
	defer log.Close()
	buf := make([]byte, 4096)
	for {
		n, err := b.con.Read(buf)
		log.Write(buf[:n])
		b.mu.Lock()
		b.text = append(b.text, buf[:n]...)
		close(b.fresh)
		b.fresh = make(chan struct{})
		b.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Type types on the console.
func (b *Box) Type(text string) error {
	_, err := b.con.Write([]byte(text))
	return err
}

// Enter types a line.
func (b *Box) Enter(line string) error { return b.Type(line + "\r") }

// Expect waits until the console says something that matches, behind what the
// last Expect matched, and returns the match and its groups.
func (b *Box) Expect(ctx context.Context, pattern string) ([]string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	for {
		b.mu.Lock()
		rest := b.text[b.from:]
		if m := re.FindSubmatchIndex(rest); m != nil {
			var out []string
			for i := 0; i < len(m); i += 2 {
				if m[i] < 0 {
					out = append(out, "")
				} else {
					out = append(out, string(rest[m[i]:m[i+1]]))
				}
			}
			b.from += m[1]
			b.mu.Unlock()
			return out, nil
		}
		tail := string(rest[max(0, len(rest)-2000):])
		fresh := b.fresh
		b.mu.Unlock()
		select {
		case <-fresh:
		case <-b.done:
			return nil, fmt.Errorf("the box ended before it said %q: %w; it said last:\n%s", pattern, b.err, tail)
		case <-ctx.Done():
			return nil, fmt.Errorf("the box did not say %q: %w; it said last:\n%s", pattern, ctx.Err(), tail)
		}
	}
}

// Said is everything since the box was switched on.
func (b *Box) Said() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}

// PowerCut kills QEMU and waits for its end.
func (b *Box) PowerCut() error {
	if err := b.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-b.done
	if b.con != nil {
		b.con.Close()
	}
	return nil
}

// Wait waits for the end: nil after a power-off from inside.
func (b *Box) Wait(ctx context.Context) error {
	select {
	case <-b.done:
		b.con.Close()
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
