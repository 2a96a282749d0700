package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/tools/lab/qemu"
	"github.com/twinkeep/twinkeep/tools/lab/scenario"
)

// doneFD is where a lab in the background says that its story is told: the exit status as one digit.
const doneFD = 3

func start(ctx context.Context, o options) error {
	if old, err := load(o.dir); err == nil && !o.child {
		return fmt.Errorf("a lab runs already, process %d since %s: end it with `lab stop`", old.Process.PID, old.Began.Format(time.TimeOnly))
	}
	if o.keep && !o.child {
		return detach(ctx, o)
	}
	err := stage(ctx, o)
	return err
}

// stage runs the lab in this process: the story, and with keep the time after it until a signal.
func stage(ctx context.Context, o options) (err error) {
	done := func(error) {}
	if o.child {
		done = reportTo(os.NewFile(doneFD, "done"))
	}
	defer func() { done(err) }()
	var ann scenario.Announcer
	o.load = hostLoad()
	l, err := open(ctx, o, &ann)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := l.Close(); cerr != nil && err == nil {
			err = cerr
		}
		for _, p := range []string{statePath(o.dir), filepath.Join(o.dir, "run"), l.RunDir} {
			os.RemoveAll(p) // what is left over does no harm: load looks at the process
		}
	}()
	switch {
	case o.demo:
		if err = demo(ctx, l, &ann); err == nil && len(o.stories) > 0 {
			err = tell(ctx, l, o)
		}
	case o.scenarios:
		err = scenarios(ctx, l, o)
	default:
		err = up(ctx, l)
	}
	if o.keep && len(o.stories) > 0 {
		err = errors.Join(err, stateOf(l).save(o.dir)) // a machine that got its power back is another process
	}
	if !o.keep || (err != nil && !errors.Is(err, errFailed)) {
		return err
	}
	l.ReleaseAgents()
	fmt.Print(howTo(l))
	done(err)
	<-ctx.Done()
	fmt.Println("lab ends:", context.Cause(ctx))
	return nil
}

func open(ctx context.Context, o options, ann *scenario.Announcer) (*scenario.Lab, error) {
	accel, err := qemu.Choose(qemu.ThisHost())
	if err != nil {
		return nil, err
	}
	kernel, err := o.kernel()
	if err != nil {
		return nil, err
	}
	run, err := o.runDir()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	progress := func(format string, args ...any) {
		fmt.Printf("[%6.1f s] %s\n", time.Since(begin).Seconds(), fmt.Sprintf(format, args...))
	}
	progress("accelerator %v", accel)
	program := filepath.Join(o.root, "build/cache/lab-agent")
	if err := scenario.BuildAgent(ctx, o.root, program); err != nil {
		return nil, err
	}
	top, err := scenario.Pair()
	if err != nil {
		return nil, err
	}
	l, err := scenario.Start(scenario.Options{
		Dir: o.dir, RunDir: run, Kernel: kernel, Initramfs: filepath.Join(o.image, "initramfs.cpio"), Agent: program,
		Accel: accel, Cmdline: o.cmdline, Seed: o.seed, OnFrame: ann.OnFrame, Progress: progress,
		Disks: scenario.NeedDisks(o.stories),
	}, top)
	if err != nil {
		return nil, err
	}
	link := filepath.Join(o.dir, "run")
	os.Remove(link)
	if err := errors.Join(os.Symlink(run, link), stateOf(l).save(o.dir)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	var names []string
	for _, h := range top.Hosts {
		names = append(names, fmt.Sprintf("%s (%s)", h.Name, h.Role))
	}
	progress("%d machines boot %s: %s", len(names), filepath.Base(kernel), strings.Join(names, ", "))
	return l, nil
}

// up waits until the gateways have their roles.
func up(ctx context.Context, l *scenario.Lab) error {
	ctx, cancel := context.WithTimeout(ctx, scenario.BootPatience)
	defer cancel()
	boots, err := l.WaitBoot(ctx)
	if err != nil {
		return err
	}
	roles, err := l.WaitRoles(ctx, scenario.Gateways, boots)
	if err != nil {
		return err
	}
	l.Progress("%s is ACTIVE, %s is STANDBY", roles.Active, roles.Standby)
	return nil
}

// demo tells the story and judges it; errFailed when a check fails.
func demo(ctx context.Context, l *scenario.Lab, ann *scenario.Announcer) error {
	result, err := scenario.Demo(ctx, l, ann)
	if err != nil {
		return err
	}
	findings, err := scenario.Judge(l, result)
	if err != nil {
		return err
	}
	if err := result.Print(os.Stdout, findings); err != nil {
		return err
	}
	fmt.Printf("\ncaptures: %s/*.pcap   consoles: %s/*.log\n", l.Dir, l.Dir)
	failed := 0
	for _, f := range findings {
		if !f.OK {
			failed++
		}
	}
	if failed > 0 {
		fmt.Printf("%d of %d checks failed\n", failed, len(findings))
		return errFailed
	}
	fmt.Printf("all %d checks passed\n", len(findings))
	return nil
}

func howTo(l *scenario.Lab) string {
	var b strings.Builder
	b.WriteString("\nthe lab keeps running:\n")
	for _, h := range l.Topology.Hosts {
		if l.Machines[h.Name].Running() {
			fmt.Fprintf(&b, "  make console M=%-7s # %s, log %s\n", h.Name, h.Role, l.Log(h.Name))
		} else {
			fmt.Fprintf(&b, "  %s (%s) has no power, log %s\n", h.Name, h.Role, l.Log(h.Name))
		}
	}
	b.WriteString("  go run ./tools/lab status\n  make stop\n")
	return b.String()
}

// reportTo returns a function that writes the exit status once and closes the file.
func reportTo(f *os.File) func(error) {
	said := false
	return func(err error) {
		if said || f == nil {
			return
		}
		said = true
		digit := "0"
		if err != nil {
			digit = "1"
			if !errors.Is(err, errFailed) {
				fmt.Println("lab:", err)
			}
		}
		f.WriteString(digit) // a parent that is gone does not want to know
		f.Close()
	}
}

// detach runs the lab in a process of its own session and shows its output until its story is told.
func detach(ctx context.Context, o options) error {
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	logPath := filepath.Join(o.dir, "lab.log")
	out, err := os.Create(logPath)
	if err != nil {
		return err
	}
	defer out.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	name := "up"
	args := []string{"--child", "--dir", o.dir, "--image", o.image, "--cmdline", o.cmdline, fmt.Sprintf("--seed=%d", o.seed)}
	if o.demo {
		name = "demo"
		args = append(args, "--keep", "--then", strings.Join(o.stories, ","))
	}
	cmd := exec.Command(self, append([]string{name}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = o.root, out, out
	cmd.ExtraFiles = []*os.File{w} // descriptor 3
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		w.Close()
		return fmt.Errorf("start the lab in the background: %w", err)
	}
	w.Close()
	told := make(chan bool, 1)
	go func() {
		var b [1]byte
		n, _ := r.Read(b[:]) // the end of the pipe without a digit: the child died
		told <- n == 1 && b[0] == '0'
	}()
	in, err := os.Open(logPath)
	if err != nil {
		return errors.Join(err, cmd.Process.Signal(unix.SIGTERM))
	}
	defer in.Close()
	for {
		_, err := in.WriteTo(os.Stdout)
		if err != nil {
			return errors.Join(err, cmd.Process.Signal(unix.SIGTERM))
		}
		select {
		case ok := <-told:
			if _, err := in.WriteTo(os.Stdout); err != nil {
				return err
			}
			if !ok {
				return errFailed
			}
			return cmd.Process.Release()
		case <-ctx.Done():
			return errors.Join(errors.New("interrupted"), cmd.Process.Signal(unix.SIGTERM))
		case <-time.After(100 * time.Millisecond):
		}
	}
}
