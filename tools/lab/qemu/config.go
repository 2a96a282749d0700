package qemu

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/twinkeep/twinkeep/tools/lab/ether"
)

// DefaultMemory is the memory of a machine in MiB.
const DefaultMemory = 256

// Slots of the root bus. NICs take 2 to 23; q35 itself has 0 and 31, the lab's own devices are above the NICs.
const (
	minNICSlot   = 2
	maxNICSlot   = 23
	slotWatchdog = "1b"
	slotDisk     = "1a"
	slotRandom   = "1c"
	slotSerial   = "1d"
)

// maxSocketPath is the longest path of a Unix socket, sockaddr_un less the NUL.
const maxSocketPath = 107

// NIC is one network interface.
type NIC struct {
	Name   string    // ID for SetLink, e.g. G1
	Model  string    // virtio-net-pci (when empty) or e1000e
	Slot   int       // slot of its root port on the root bus, 2 to 23; the order of slots is the order of names
	MAC    ether.MAC // its own address
	Socket string    // of the switch port
}

// Config describes a machine.
type Config struct {
	Name   string
	Dir    string // for sockets and the initramfs; short, see maxSocketPath
	Log    string // file that gets everything the serial console says
	Kernel string // bzImage, or vmlinux with a PVH entry, which starts faster
	// Initramfs is the image's archive, compressed or not; Files are put on top of it.
	Initramfs string
	Files     []File
	Cmdline   string // kernel command line, appended to the lab's own
	MemoryMB  int    // DefaultMemory when 0
	NICs      []NIC
	Accel     Accel
	Disk      string // raw image of a disk; empty: the machine has none
	Watchdog  bool   // an i6300esb that resets the machine
	Binary    string // qemu-system-x86_64 when empty
}

// baseCmdline: the console first; a reboot through the keyboard controller needs no working ACPI tables, which a
// PVH start does not always give; a panic ends in a reset so that a machine never sits dead in a scenario.
const baseCmdline = "console=ttyS0,115200 panic=1 reboot=k"

// ConsoleSocket is the serial console.
func (c Config) ConsoleSocket() string { return filepath.Join(c.Dir, c.Name+".con") }

// AgentSocket is the virtio-serial port of the agent.
func (c Config) AgentSocket() string { return filepath.Join(c.Dir, c.Name+".agent") }

// QMPSocket is QEMU's control socket.
func (c Config) QMPSocket() string { return filepath.Join(c.Dir, c.Name+".qmp") }

// Initrd is the archive that the machine boots: Initramfs with Files behind it.
func (c Config) Initrd() string { return filepath.Join(c.Dir, c.Name+".initrd") }

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("machine %q: "+format, append([]any{c.Name}, args...)...))
	}
	if c.Name == "" || strings.ContainsAny(c.Name, ",/= ") {
		fail("the name must not be empty nor hold any of ',/= '")
	}
	if c.MemoryMB != 0 && (c.MemoryMB < 64 || c.MemoryMB > 65536) {
		fail("memory of %d MiB: want 64 to 65536", c.MemoryMB)
	}
	if c.Accel.Name != "kvm" && c.Accel.Name != "tcg" {
		fail("accelerator %q: want kvm or tcg, use Choose", c.Accel.Name)
	}
	paths := []string{c.ConsoleSocket(), c.AgentSocket(), c.QMPSocket(), c.Log}
	if strings.Contains(c.Disk, ",") {
		fail("disk %q holds a comma, which separates options of QEMU", c.Disk)
	}
	names, slots := map[string]bool{}, map[int]bool{}
	for _, n := range c.NICs {
		if n.Name == "" || strings.ContainsAny(n.Name, ",/= ") || names[n.Name] {
			fail("NIC name %q: want a name of its own without ',/= '", n.Name)
		}
		if n.Slot < minNICSlot || n.Slot > maxNICSlot || slots[n.Slot] {
			fail("NIC %s: slot %d: want %d to %d, each once", n.Name, n.Slot, minNICSlot, maxNICSlot)
		}
		if m := n.model(); m != "virtio-net-pci" && m != "e1000e" {
			fail("NIC %s: model %q: want virtio-net-pci or e1000e", n.Name, m)
		}
		if n.MAC.Group() || n.MAC == (ether.MAC{}) {
			fail("NIC %s: %v is not an address of one station", n.Name, n.MAC)
		}
		names[n.Name], slots[n.Slot] = true, true
		paths = append(paths, n.Socket)
	}
	for _, p := range paths {
		if strings.Contains(p, ",") {
			fail("path %q holds a comma, which separates options of QEMU", p)
		}
		if p != c.Log && (p == "" || len(p) > maxSocketPath) {
			fail("socket %q: want 1 to %d bytes, use a shorter runtime directory", p, maxSocketPath)
		}
	}
	return errors.Join(errs...)
}

func (n NIC) model() string {
	if n.Model == "" {
		return "virtio-net-pci"
	}
	return n.Model
}

// Args are the arguments of QEMU.
func (c Config) Args() []string {
	mem := c.MemoryMB
	if mem == 0 {
		mem = DefaultMemory
	}
	args := append([]string{"-name", c.Name, "-M", "q35"}, c.Accel.Args()...)
	args = append(args, "-m", strconv.Itoa(mem),
		"-kernel", c.Kernel, "-initrd", c.Initrd(), "-append", strings.TrimSpace(baseCmdline+" "+c.Cmdline),
		"-action", "reboot=reset,shutdown=poweroff,panic=none,watchdog=reset")
	args = append(args, Bare(c.ConsoleSocket(), c.Log)...)
	args = append(args, Monitor(c.QMPSocket())...)
	args = append(args,
		"-device", "virtio-serial-pci,bus=pcie.0,addr="+slotSerial,
		"-chardev", "socket,id=agent,path="+c.AgentSocket()+",server=on,wait=off",
		"-device", "virtserialport,chardev=agent,name=org.twinkeep.agent",
		"-device", "virtio-rng-pci,bus=pcie.0,addr="+slotRandom,
	)
	if c.Disk != "" {
		args = append(args, "-drive", "if=none,id=disk,format=raw,file="+c.Disk, "-device", "virtio-blk-pci,drive=disk,bus=pcie.0,addr="+slotDisk)
	}
	if c.Watchdog {
		args = append(args, "-device", "i6300esb,bus=pcie.0,addr="+slotWatchdog)
	}
	for i, n := range c.NICs {
		port := fmt.Sprintf("rp%d", i)
		args = append(args,
			"-device", fmt.Sprintf("pcie-root-port,id=%s,bus=pcie.0,chassis=%d,slot=%d,addr=%x.0", port, i+1, n.Slot, n.Slot),
			"-netdev", fmt.Sprintf("stream,id=net%d,server=off,addr.type=unix,addr.path=%s", i, n.Socket),
			"-device", fmt.Sprintf("%s,id=%s,netdev=net%d,bus=%s,addr=0.0,mac=%v,romfile=", n.model(), n.Name, i, port, n.MAC),
		)
	}
	return args
}
