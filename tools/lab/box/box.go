// Package box starts a single machine as it stands on a desk: UEFI firmware with
// its variables, a disk, a serial console. It is for the tests of the image, the
// upgrades and the power cuts; package qemu starts the pairs of the lab.
package box

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

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
	TCO        bool // the watchdog is the one of the chipset; else it is an i6300ESB
	MemoryMB   int  // 512 when 0
	NICs       int  // virtio NICs, each into a network of its own where nobody answers
	SSH        int  // TCP port of this host's loopback that leads to port 22 of 10.1.0.2, on the first of NICs; 0: none
	Host       bool // the first of NICs leads to this host's loopback, at 10.1.0.254
	// Ports are sockets of switch ports (package vswitch) instead, a NIC each. Station tells the MACs of two boxes apart.
	Ports   []string
	Station byte
	TPM     string // control socket of swtpm (package hal/tpm/tpmtest); "": the machine has none
	Accel   qemu.Accel
	Binary  string // qemu-system-x86_64 when empty
}

// Box is a machine that runs.
type Box struct {
	*qemu.Process
	*qemu.Console
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

// ConsoleSocket is the serial console of a box that runs.
func (c Config) ConsoleSocket() string { return filepath.Join(c.Dir, "con") }

// Power switches a box on whose console somebody else reads.
func Power(l *qemu.Launcher, c Config) (*qemu.Process, error) {
	if _, err := os.Stat(c.VarsFile()); errors.Is(err, os.ErrNotExist) {
		if err := c.Forget(); err != nil {
			return nil, err
		}
	}
	if err := os.Remove(c.ConsoleSocket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return qemu.Launch(l, "box", c.Binary, c.args())
}

// Start switches a box on.
func Start(l *qemu.Launcher, c Config) (*Box, error) {
	p, err := Power(l, c)
	if err != nil {
		return nil, err
	}
	con, err := p.OpenConsole(context.Background(), c.ConsoleSocket(), c.LogFile()) // it comes, or QEMU ends
	if err != nil {
		p.PowerCut()
		return nil, err
	}
	return &Box{Process: p, Console: con}, nil
}

// firstPort is the PCI slot of the first of Ports, the same on boxes with different disks: shared MACs come from it.
const firstPort = 0x10

func (c Config) args() []string {
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
	args = append(args, "-m", strconv.Itoa(memory),
		"-action", "reboot=reset,shutdown=poweroff,panic=none,watchdog=reset", "-device", "virtio-rng-pci",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+code, "-drive", "if=pflash,format=raw,unit=1,file="+c.VarsFile(),
		"-drive", "if=none,id=d0,format=raw,discard=ignore,file="+c.Disk, "-device", "virtio-blk-pci,drive=d0,bootindex=1")
	if c.TCO {
		args = append(args, "-global", "ICH9-LPC.noreboot=off") // as machines of QEMU 8 and later have it
	} else {
		args = append(args, "-device", "i6300esb")
	}
	args = append(args, qemu.Bare(c.ConsoleSocket(), "")...)
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
		options := ""
		if i == 0 && (c.SSH != 0 || c.Host) {
			options = ",net=10.1.0.0/24,host=10.1.0.254,dhcpstart=10.1.0.100"
			if c.SSH != 0 {
				options += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-10.1.0.2:22", c.SSH)
			}
			if c.Host {
				options += ",restrict=off"
			}
		}
		args = append(args, qemu.UserNIC(fmt.Sprintf("n%d", i), options)...)
	}
	return args
}

// PowerCut kills QEMU. Everything the console said is in the log then.
func (b *Box) PowerCut() error {
	if _, err := b.Process.PowerCut(); err != nil {
		return err
	}
	<-b.Ended()
	return nil
}
