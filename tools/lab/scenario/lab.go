package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/init/data"
	"github.com/twinkeep/twinkeep/tools/lab/agent"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
	"github.com/twinkeep/twinkeep/tools/lab/vswitch"
)

// Options say where a lab lives and what it boots.
type Options struct {
	Dir       string // logs and captures, e.g. build/demo
	RunDir    string // sockets; short
	Kernel    string
	Initramfs string
	Agent     string // the lab-agent program
	Accel     qemu.Accel
	Cmdline   string // added to every machine's kernel command line
	Seed      uint64 // of the switches' random choices
	Disks     bool   // the gateways have a data partition each; without, nothing survives their power cuts
	OnFrame   func(vswitch.Frame)
	Progress  func(format string, args ...any) // may be nil
}

// Lab is a running lab.
type Lab struct {
	Options
	Topology Topology
	Switches map[string]*vswitch.Switch
	Machines map[string]*qemu.Machine
	Begin    time.Time

	launcher *qemu.Launcher
	program  []byte // the agent
	captures []*os.File
	mu       sync.Mutex
	agents   map[string]*agent.Client
	extra    map[string][]qemu.File // on top of a machine's files at its next boot
}

// agentService is what PID 1 starts the agent by.
const agentService = "name: lab-agent\nargv: [/bin/lab-agent]\nafter: []\n"

// Start starts switches, captures and machines, and returns when every QEMU runs; what is in them still boots.
func Start(o Options, top Topology) (_ *Lab, err error) {
	if o.Progress == nil {
		o.Progress = func(string, ...any) {}
	}
	program, err := os.ReadFile(o.Agent)
	if err != nil {
		return nil, fmt.Errorf("read agent: %w", err)
	}
	for _, d := range []string{o.Dir, o.RunDir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make directory of the lab: %w", err)
		}
	}
	l := &Lab{
		Options: o, Topology: top, Begin: time.Now(), launcher: qemu.NewLauncher(), program: program,
		Switches: map[string]*vswitch.Switch{}, Machines: map[string]*qemu.Machine{}, agents: map[string]*agent.Client{}, extra: map[string][]qemu.File{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	for i, seg := range top.Segments {
		l.Switches[seg] = vswitch.New(vswitch.Config{Name: seg, Seed: o.Seed + uint64(i), OnFrame: o.OnFrame})
	}
	for _, h := range top.Hosts {
		if err := l.plug(h); err != nil {
			return nil, err
		}
		if disk := l.disk(h.Name); disk != "" {
			if err := newDisk(disk); err != nil {
				return nil, err
			}
		}
		if err := l.boot(h); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// plug makes the switch ports of a machine, each with its capture.
func (l *Lab) plug(h Host) error {
	for _, n := range h.NICs {
		sw, ok := l.Switches[n.Segment]
		if !ok {
			return fmt.Errorf("machine %s: no segment %q in the topology", h.Name, n.Segment)
		}
		port := Port(n.Segment, h.Name)
		if err := sw.AddPort(port); err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(l.Dir, port+".pcap"))
		if err != nil {
			return fmt.Errorf("make capture: %w", err)
		}
		l.captures = append(l.captures, f)
		if err := sw.Capture(port, f); err != nil {
			return err
		}
		if err := sw.Listen(port, filepath.Join(l.RunDir, port)); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) boot(h Host) error {
	if err := os.Remove(l.Log(h.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old console log: %w", err)
	}
	return l.powerOn(h)
}

// Repower gives a machine whose power was cut its power back. Its console log goes on.
func (l *Lab) Repower(name string) error {
	for _, h := range l.Topology.Hosts {
		if h.Name != name {
			continue
		}
		l.mu.Lock()
		if c := l.agents[name]; c != nil {
			c.Close()
			delete(l.agents, name)
		}
		l.mu.Unlock()
		if err := l.Machines[name].Close(); err != nil {
			return err
		}
		return l.powerOn(h)
	}
	return fmt.Errorf("no machine %q in the lab", name)
}

func (l *Lab) powerOn(h Host) error {
	c := qemu.Config{
		Name: h.Name, Dir: l.RunDir, Log: l.Log(h.Name), Kernel: l.Kernel, Initramfs: l.Initramfs, Accel: l.Accel,
		Cmdline: l.Cmdline, Watchdog: true,
		Files: []qemu.File{
			{Path: "/etc/twinkeep/node.yaml", Mode: 0o600, Data: []byte(h.Node)},
			{Path: "/etc/twinkeep/services.d/agent.yaml", Data: []byte(agentService)},
			{Path: "/bin/lab-agent", Mode: 0o755, Data: l.program},
		},
	}
	c.Files = append(c.Files, l.extra[h.Name]...)
	if c.Disk = l.disk(h.Name); c.Disk != "" {
		c.Cmdline += " " + data.Word + "=1"
	}
	for i, n := range h.NICs {
		c.NICs = append(c.NICs, qemu.NIC{
			Name: fmt.Sprintf("G%d", i+1), Slot: firstSlot + i, MAC: n.MAC,
			Socket: filepath.Join(l.RunDir, Port(n.Segment, h.Name)),
		})
	}
	m, err := qemu.Start(l.launcher, c)
	if err != nil {
		return err
	}
	l.Machines[h.Name] = m
	return nil
}

// Log is the file with the console of a machine.
func (l *Lab) Log(name string) string { return filepath.Join(l.Dir, name+".log") }

// Elapsed is the time since the lab started.
func (l *Lab) Elapsed() time.Duration { return time.Since(l.Begin) }

// Agent returns the agent of a machine as soon as it answers. When QEMU ends before, the error holds the last
// lines of the console.
func (l *Lab) Agent(ctx context.Context, name string) (*agent.Client, error) {
	m, ok := l.Machines[name]
	if !ok {
		return nil, fmt.Errorf("no machine %q in the lab", name)
	}
	for {
		l.mu.Lock()
		c := l.agents[name]
		l.mu.Unlock()
		if c == nil {
			var err error
			if c, err = agent.Dial(ctx, m.AgentSocket()); err == nil {
				l.mu.Lock()
				l.agents[name] = c
				l.mu.Unlock()
			}
		}
		if c != nil {
			// The port buffers what is sent before the guest opens it, so one patient ping is enough.
			err := c.Ping(ctx)
			if err == nil {
				return c, nil
			}
			c.Close()
			l.mu.Lock()
			delete(l.agents, name)
			l.mu.Unlock()
		}
		select {
		case <-m.Done():
			return nil, fmt.Errorf("machine %s ended: %w\n%s", name, m.Wait(ctx), l.ConsoleTail(name, 15))
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) { // somebody gave up waiting: nothing is wrong with this machine
				return nil, fmt.Errorf("machine %s: %w", name, ctx.Err())
			}
			return nil, fmt.Errorf("machine %s: the agent does not answer after %v: %w\nits console said last:\n%s",
				name, l.Elapsed().Round(time.Second), ctx.Err(), l.ConsoleTail(name, 15))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// ReleaseAgents gives the agent sockets free for another process.
func (l *Lab) ReleaseAgents() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, c := range l.agents {
		c.Close()
		delete(l.agents, name)
	}
}

// ConsoleTail returns the last lines of a console log.
func (l *Lab) ConsoleTail(name string, lines int) string {
	b, err := readTail(l.Log(name), 64<<10)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(b), "\r", "")), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func readTail(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(max(0, fi.Size()-limit), io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// Names are the machines in the order of the topology.
func (l *Lab) Names() []string {
	var names []string
	for _, h := range l.Topology.Hosts {
		names = append(names, h.Name)
	}
	return names
}

// SyncCaptures writes captures to disk. They are complete in the page cache at any time.
func (l *Lab) SyncCaptures() error {
	var errs []error
	for _, f := range l.captures {
		errs = append(errs, f.Sync())
	}
	return errors.Join(errs...)
}

// Close ends machines and switches. Logs and captures stay.
func (l *Lab) Close() error {
	l.ReleaseAgents()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(l.Machines)) {
		errs = append(errs, l.Machines[name].Close())
	}
	errs = append(errs, l.launcher.Close())
	for _, sw := range l.Switches {
		errs = append(errs, sw.Close())
	}
	for _, f := range l.captures {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
