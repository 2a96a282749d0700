package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/box"
	"github.com/twinkeep/twinkeep/tools/lab/nbd"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
)

// patience for a boot. Under emulation on a busy machine one takes a minute.
const patience = 4 * time.Minute

// quick makes trials short.
const quick = "twinkeep.journal=console twinkeep.trial.healthy=2s twinkeep.trial.limit=3m"

// node is a standalone gateway: healthy as soon as its node file is in force.
const node = "version: 1\nhostname: box\nboard: auto\ninterfaces:\n  - {name: G1, zone: lan, address: 10.1.0.2/24}\n"

// release is the image of both slots of boxes that run. It brings a node file, so that a box that was reset does its work too.
var release = box.Variant{Revision: 100, Cmdline: quick, Files: []qemu.File{{Path: "/etc/twinkeep/node.yaml", Mode: 0o600, Data: []byte(node)}}}

// cutsPerDisk is how many cuts a disk lives through before a new one, with
// another first boot.
const cutsPerDisk = 8

// worker is one box.
type worker struct {
	id       int
	cfg      box.Config
	rand     *rand.Rand
	maker    *box.Maker
	launcher *qemu.Launcher
	tally    *tally
	variant  box.Variant // of both slots

	disk *nbd.Disk
	box  *box.Box
	file string // of the disk
	mark int    // the newest number whose writing was acknowledged
	next int    // the newest that was tried
	// fresh until the first boot has come to its end.
	fresh bool
}

func newWorker(id int, dir string, seed uint64, m *box.Maker, accel qemu.Accel, t *tally, v box.Variant) (*worker, error) {
	w := &worker{
		id: id, maker: m, variant: v, launcher: qemu.NewLauncher(), tally: t, rand: rand.New(rand.NewPCG(seed, uint64(id))), file: filepath.Join(dir, "disk"),
		cfg: box.Config{Dir: dir, Disk: "nbd:unix:" + filepath.Join(dir, "nbd"), Second: filepath.Join(dir, "upgrade"), NICs: 1, Accel: accel},
	}
	i, err := m.Make(v)
	if err != nil {
		return nil, err
	}
	b, err := m.Stick(i)
	if err != nil {
		return nil, err
	}
	return w, os.WriteFile(w.cfg.Second, b, 0o600)
}

// live cuts until there were enough.
func (w *worker) live(ctx context.Context, o options) {
	defer w.launcher.Close()
	for n := 0; ctx.Err() == nil && !o.late() && w.tally.take(); n++ {
		if err := w.once(ctx, n%cutsPerDisk == 0); err != nil {
			if ctx.Err() != nil {
				break
			}
			w.tally.mu.Lock()
			w.tally.failures = append(w.tally.failures, fmt.Sprintf("box %d: %v", w.id, err))
			w.tally.mu.Unlock()
			n = -1 // a new disk
			w.off()
		}
	}
	w.off()
	if w.disk != nil {
		w.disk.Close()
	}
}

func (w *worker) off() {
	if w.box != nil {
		w.box.PowerCut()
		w.box = nil
	}
}

// once brings the box into a random phase, cuts its power at a random moment of
// it, and wants it back.
func (w *worker) once(ctx context.Context, anew bool) error {
	if anew {
		if err := w.newDisk(); err != nil {
			return err
		}
	}
	phase, err := w.reach(ctx)
	if err != nil {
		return fmt.Errorf("before a cut: %w", err)
	}
	if err := w.box.PowerCut(); err != nil {
		return err
	}
	w.box = nil
	keep := []float64{0, 0.1, 0.5, 0.9, 1}[w.rand.IntN(5)]
	sectors, lost, err := w.disk.Cut(w.rand, keep)
	if err != nil {
		return err
	}
	w.tally.cut(phase, sectors, lost)
	detail := fmt.Sprintf("%d of %d cached sectors lost", lost, sectors)
	slot, err := w.back(ctx)
	if err != nil {
		return fmt.Errorf("after a cut during %s (%s): %w", phase, detail, err)
	}
	w.tally.back(w.id, phase, slot, detail)
	return nil
}

func (w *worker) newDisk() error {
	w.off()
	if w.disk != nil {
		if err := w.disk.Close(); err != nil {
			return err
		}
	}
	i, err := w.maker.Make(w.variant)
	if err != nil {
		return err
	}
	if err := w.maker.Disk(w.file, i, 300<<20, false); err != nil {
		return err
	}
	os.Remove(w.cfg.VarsFile())
	w.mark, w.next, w.fresh = 0, 0, true
	w.disk, err = nbd.Open(w.file, strings.TrimPrefix(w.cfg.Disk, "nbd:unix:"))
	return err
}

func (w *worker) on() (err error) {
	w.box, err = box.Start(w.launcher, w.cfg)
	return err
}

func (w *worker) see(ctx context.Context, pattern string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return w.box.Expect(ctx, pattern)
}

func (w *worker) pause(most time.Duration) { time.Sleep(rand.N(most)) }

// reach brings the box to the moment of the cut and names its phase.
func (w *worker) reach(ctx context.Context) (string, error) {
	if w.box == nil {
		if err := w.on(); err != nil {
			return "", err
		}
	}
	if w.fresh {
		if _, err := w.see(ctx, `init: PID 1`); err != nil {
			return "", err
		}
		w.pause(10 * time.Second)
		return "first boot", nil
	}
	if err := w.acknowledge(ctx); err != nil {
		return "", err
	}
	if err := w.box.Enter("upgrade install /dev/vdb --force"); err != nil {
		return "", err
	}
	phase := []string{"install", "install", "trial", "confirm"}[w.rand.IntN(4)]
	if phase == "install" {
		w.pause(8 * time.Second)
		return phase, nil
	}
	if _, err := w.see(ctx, `This device restarts`); err != nil {
		return "", err
	}
	if phase == "trial" {
		w.pause(25 * time.Second)
		return phase, nil
	}
	if _, err := w.see(ctx, `healthy: true`); err != nil {
		return "", err
	}
	w.pause(5 * time.Second)
	return phase, nil
}

// prompt ends everything that the console says.
var prompt = qemu.Prompt("box", "twinkeep")

// shell runs one command in the rescue shell.
func (w *worker) shell(ctx context.Context, line string) (string, error) {
	for _, step := range []struct{ enter, see string }{{"shell", `\$ |# `}, {line + "; echo done-$((40+2))", `(?s)(.*?)done-42`}, {"exit", prompt}} {
		if err := w.box.Enter(step.enter); err != nil {
			return "", err
		}
		m, err := w.see(ctx, step.see)
		if err != nil {
			return "", err
		}
		if len(m) > 1 {
			line = m[1]
		}
	}
	return line, nil
}

// acknowledge has the box write a number durably.
func (w *worker) acknowledge(ctx context.Context) error {
	w.next++
	_, err := w.shell(ctx, fmt.Sprintf("echo mark=%d > /data/mark.new; sync; mv /data/mark.new /data/mark; sync", w.next))
	if err == nil {
		w.mark = w.next
	}
	return err
}

var (
	runs   = regexp.MustCompile(`(?m)^(A|B)\s+yes\s+(?:yes|-)\s+(good|trial|failed|empty)`)
	marked = regexp.MustCompile(`(?m)^mark=(\d+)`)
)

// back switches the box on and wants it to work.
func (w *worker) back(ctx context.Context) (slot string, err error) {
	if err := w.on(); err != nil {
		return "", err
	}
	if _, err := w.see(ctx, `init: ready `); err != nil {
		return "", err
	}
	// The first prompt may have come before; Enter gives another one.
	if err := w.box.Enter(""); err != nil {
		return "", err
	}
	if _, err := w.see(ctx, prompt); err != nil {
		return "", err
	}
	if strings.Contains(w.box.Said(), "is lost") {
		return "", fmt.Errorf("the data partition was made anew:\n%s", w.box.Said())
	}
	if !strings.Contains(w.box.Said(), "data partition /dev/vda2 mounted") {
		return "", fmt.Errorf("no data partition:\n%s", w.box.Said())
	}
	w.fresh = false
	said, err := w.shell(ctx, "cat /data/mark")
	if err != nil {
		return "", err
	}
	got := 0
	if m := marked.FindStringSubmatch(strings.ReplaceAll(said, "\r", "")); m != nil {
		got, _ = strconv.Atoi(m[1])
	}
	if got < w.mark || got > w.next {
		return "", fmt.Errorf("the number %d was acknowledged, the disk has %d: %q", w.mark, got, said)
	}
	w.mark = got
	if err := w.box.Enter("upgrade status"); err != nil {
		return "", err
	}
	m, err := w.see(ctx, `(?s)SLOT(.*?)`+prompt)
	if err != nil {
		return "", err
	}
	table := strings.ReplaceAll(m[1], "\r", "")
	s := runs.FindStringSubmatch(table)
	if s == nil || s[2] == "failed" || s[2] == "empty" {
		return "", fmt.Errorf("no slot runs as it should:\n%s", table)
	}
	if strings.Contains(table, "problem:") && s[2] != "trial" {
		for line := range strings.Lines(table) {
			if strings.HasPrefix(line, "problem:") && strings.Contains(line, "slot "+s[1]) {
				return "", fmt.Errorf("the running slot has a problem:\n%s", table)
			}
		}
	}
	if s[2] == "trial" {
		// The cut came before the loader had counted. It must still be confirmed.
		if !strings.Contains(w.box.Said(), "is permanent now") {
			if _, err := w.see(ctx, `is permanent now`); err != nil {
				return "", err
			}
		}
		return s[1] + ", its trial only now", nil
	}
	return s[1], nil
}
