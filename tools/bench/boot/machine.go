package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/box"
	"github.com/twinkeep/twinkeep/tools/lab/ether"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
)

// patience for one boot; under emulation on a busy machine it takes minutes.
const patience = 5 * time.Minute

// cmdline shows the journal on the console: it has the changes of state.
const cmdline = "twinkeep.journal=console"

// firstSlot is the slot of G1; the others follow.
const firstSlot = 4

// way is how a machine is started.
type way interface {
	name() string
	disk() bool
	// start starts QEMU with its NICs on the sockets, and returns it and the socket
	// of the console. The machine ends with the launcher.
	start(l *qemu.Launcher, nics [3]string) (p *qemu.Process, console string, err error)
}

// fromDisk is the way of a box: firmware, boot loader, image in a slot. The disk
// has been started once before, so that it has its file system and node file.
type fromDisk struct {
	dir, image string
	accel      qemu.Accel
}

func (fromDisk) name() string { return "disk" }
func (fromDisk) disk() bool   { return true }

// prepare makes the disk from what make image has built, with the node file in the image,
// from which the first boot takes it.
func (d fromDisk) prepare(images, cache, keys string) error {
	m, err := box.Load(images, cache, keys)
	if err != nil {
		return err
	}
	i, err := m.Make(box.Variant{Cmdline: cmdline, Files: []qemu.File{{Path: "/etc/twinkeep/node.yaml", Mode: 0o600, Data: []byte(node)}}})
	if err != nil {
		return err
	}
	if err := m.Disk(d.image, i, 512<<20, false); err != nil {
		return err
	}
	return box.Config{Dir: d.dir}.Forget()
}

func (d fromDisk) start(l *qemu.Launcher, nics [3]string) (*qemu.Process, string, error) {
	c := box.Config{Dir: d.dir, Disk: d.image, Ports: nics[:], Station: 1, Accel: d.accel}
	p, err := box.Power(l, c)
	return p, c.ConsoleSocket(), err
}

// direct is the way of the lab: QEMU starts the uncompressed kernel itself.
type direct struct {
	dir, pieces string
	accel       qemu.Accel
}

func (direct) name() string { return "lab" }
func (direct) disk() bool   { return false }

func (d direct) start(l *qemu.Launcher, nics [3]string) (*qemu.Process, string, error) {
	c := qemu.Config{
		Name: "boot", Dir: d.dir, Log: filepath.Join(d.dir, "log"), Accel: d.accel, Cmdline: cmdline, Watchdog: true, MemoryMB: 512,
		Kernel: filepath.Join(d.pieces, "vmlinux"), Initramfs: filepath.Join(d.pieces, "initramfs.cpio"),
		Files: []qemu.File{{Path: "/etc/twinkeep/node.yaml", Mode: 0o600, Data: []byte(node)}},
	}
	for i, path := range nics {
		c.NICs = append(c.NICs, qemu.NIC{Name: fmt.Sprintf("G%d", i+1), Slot: firstSlot + i, MAC: ether.MAC{0x52, 0x54, 0, 0, 1, byte(i + 1)}, Socket: path})
	}
	m, err := qemu.Start(l, c)
	if err != nil {
		return nil, "", err
	}
	return m.Process, c.ConsoleSocket(), nil
}

// boot starts a machine and follows it until it forwards. The file log gets what
// the console says.
func boot(ctx context.Context, w way, dir, log string) (*trace, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := newStations(dir)
	if err != nil {
		return nil, err
	}
	defer s.close()
	launcher := qemu.NewLauncher()
	defer launcher.Close()
	begin := time.Now()
	p, socket, err := w.start(launcher, s.paths)
	if err != nil {
		return nil, err
	}
	con, err := p.Dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	defer con.Close()
	stop := context.AfterFunc(ctx, func() { con.Close() })
	defer stop()
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	f := follower{way: w, begin: begin, cpu: func() time.Duration { return cpuTime(p.PID()) }}
	return f.follow(io.TeeReader(con, out), con, s.forwarded)
}

// cpuTime is the processor time of a process, 0 if it has ended.
func cpuTime(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold anything; utime and stime are the 12th and 13th field behind it, in ticks of
	// 10 ms (proc(5), USER_HZ).
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64) // 0 if it were no number
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// follower reads the console of a machine.
type follower struct {
	way   way
	begin time.Time
	cpu   func() time.Duration
}

// follow reads until everything has come, and closes the console. The machine
// must neither end nor restart.
func (f follower) follow(text io.Reader, con io.Closer, forwarded <-chan time.Time) (*trace, error) {
	t := newTrace()
	var last []string
	type line struct {
		text      string
		seen, cpu time.Duration
	}
	lines := make(chan line)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(text); sc.Scan(); {
			lines <- line{sc.Text(), time.Since(f.begin), f.cpu()}
		}
	}()
	defer func() {
		con.Close()
		for range lines { // lets the reader end
		}
	}()
	for {
		select {
		case at := <-forwarded:
			t.at[atForward], t.cpu[atForward] = at.Sub(f.begin), f.cpu()
			forwarded = nil
		case l, ok := <-lines:
			if !ok {
				return nil, fmt.Errorf("the machine went away before %q; it said last:\n%v", t.missing(f.way.disk()), last)
			}
			if !t.line(l.text, l.seen, l.cpu) {
				return nil, fmt.Errorf("the machine restarted before %q; it said last:\n%v", t.missing(f.way.disk()), last)
			}
			last = append(last, l.text+"\n")
			last = last[max(0, len(last)-20):]
		}
		if t.missing(f.way.disk()) == "" {
			return t, nil
		}
	}
}
