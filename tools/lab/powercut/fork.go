package main

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/box"
	"github.com/twinkeep/twinkeep/tools/lab/nbd"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
)

// scene is something that a box does, recorded: the disk before it, and everything written since.
type scene struct {
	Name    string
	Base    string // image file
	Records []nbd.Record
	Marks   []mark
}

// mark is a number that was put into the node file by an operator.
type mark struct {
	Value      int
	Begun      int // records when it was typed
	Kept       int // records when its keeping was acknowledged
	MayBeLost  int // records from which it may be gone: a factory reset was asked for; 0: never
	MustBeLost int // records from which it must be gone
}

// fork records one box that boots for the first time, commits configurations, is upgraded, and is reset. Then it makes the disks that power
// cuts at random moments of that would leave, and starts a box with each.
func fork(ctx context.Context, o options, m *box.Maker, accel qemu.Accel) error {
	t := &tally{begin: time.Now(), cuts: make(map[string]int), slots: make(map[string]int), left: o.n}
	dir := filepath.Join(o.work, "recorded")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	w, err := newWorker(0, dir, o.seed, m, accel, t)
	if err != nil {
		return err
	}
	scenes, err := w.scenes(ctx, filepath.Join(dir, "scenes"))
	w.launcher.Close()
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	fmt.Printf("recorded in %.0f s:", time.Since(t.begin).Seconds())
	for _, s := range scenes {
		fmt.Printf(" %s %d writes and flushes;", s.Name, len(s.Records))
	}
	fmt.Println()
	var wg sync.WaitGroup
	for i := range o.workers {
		dir := filepath.Join(o.work, fmt.Sprint(i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		f := &forked{id: i, scenes: scenes, tally: t, rand: rand.New(rand.NewPCG(o.seed, uint64(100+i))), launcher: qemu.NewLauncher(),
			cfg: box.Config{Dir: dir, Disk: filepath.Join(dir, "disk"), NICs: 1, Accel: accel}}
		wg.Go(func() { f.live(ctx) })
	}
	wg.Wait()
	return t.report()
}

// scenes takes the recording of an earlier run with the same -work, or makes one.
func (w *worker) scenes(ctx context.Context, file string) (out []*scene, err error) {
	if f, err := os.Open(file); err == nil {
		defer f.Close()
		err := gob.NewDecoder(f).Decode(&out)
		return out, err
	}
	if out, err = w.recordScenes(ctx); err != nil {
		return nil, err
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	return out, errors.Join(gob.NewEncoder(f).Encode(out), f.Close())
}

// recordScenes plays them on one box.
func (w *worker) recordScenes(ctx context.Context) ([]*scene, error) {
	defer w.off()
	if err := w.newDisk(); err != nil {
		return nil, err
	}
	defer func() { w.disk.Close() }()
	var out []*scene
	begin := func(name string) (*scene, error) {
		s := &scene{Name: name, Base: filepath.Join(filepath.Dir(w.file), "before-"+strings.ReplaceAll(name, " ", "-"))}
		if b, err := exec.CommandContext(ctx, "cp", "--sparse=always", w.file, s.Base).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, b)
		}
		w.disk.StartRecording()
		out = append(out, s)
		return s, nil
	}
	s, err := begin("first boot")
	if err == nil {
		_, err = w.back(ctx)
	}
	if err != nil {
		return nil, err
	}
	s.Records = w.disk.Recorded()

	if s, err = begin("commit"); err != nil {
		return nil, err
	}
	last := mark{}
	for i := range 5 {
		last = mark{Value: i + 1, Begun: len(w.disk.Recorded())}
		if err := w.commit(ctx, last.Value); err != nil {
			return nil, err
		}
		last.Kept = len(w.disk.Recorded())
		s.Marks = append(s.Marks, last)
	}
	s.Records = w.disk.Recorded()
	if err := w.acknowledge(ctx); err != nil { // nothing is in a cache when the next one begins
		return nil, err
	}

	if s, err = begin("upgrade"); err != nil {
		return nil, err
	}
	s.Marks = []mark{{Value: last.Value}}
	if err := w.box.Enter("upgrade install /dev/vdb --force"); err != nil {
		return nil, err
	}
	for _, pattern := range []string{`This device restarts`, `is permanent now`} {
		if _, err := w.see(ctx, pattern); err != nil {
			return nil, err
		}
	}
	if _, err := ask(ctx, w.box, "", prompt); err != nil {
		return nil, err
	}
	s.Records = w.disk.Recorded()
	if err := w.acknowledge(ctx); err != nil {
		return nil, err
	}

	if s, err = begin("factory reset"); err != nil {
		return nil, err
	}
	s.Marks = []mark{{Value: last.Value, MayBeLost: 1}}
	if err := w.box.Enter("factory-reset --yes"); err != nil {
		return nil, err
	}
	if _, err := w.see(ctx, `init: ready `); err != nil {
		return nil, err
	}
	if _, err := ask(ctx, w.box, "", prompt); err != nil {
		return nil, err
	}
	s.Records = w.disk.Recorded()
	s.Marks[0].MustBeLost = len(s.Records)
	return out, nil
}

// commit has an operator put a node file in force that holds a number.
func (w *worker) commit(ctx context.Context, n int) error {
	if err := w.box.Enter("node edit"); err != nil {
		return err
	}
	if _, err := w.see(ctx, `Paste the whole node file`); err != nil {
		return err
	}
	for line := range strings.Lines(fmt.Sprintf("# mark %d\n%s.\n", n, node)) {
		if err := w.box.Enter(strings.TrimRight(line, "\n")); err != nil {
			return err
		}
	}
	if _, err := w.see(ctx, `saved and in force`); err != nil {
		return err
	}
	_, err := ask(ctx, w.box, "", prompt)
	return err
}

// ask types a line until the console says what it should: lines of the journal come in between, also behind the last prompt.
func ask(ctx context.Context, b *box.Box, line, pattern string) ([]string, error) {
	if err := b.Enter(line); err != nil {
		return nil, err
	}
	for end := time.Now().Add(patience); ; {
		once, cancel := context.WithTimeout(ctx, 10*time.Second)
		m, err := b.Expect(once, pattern)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || time.Now().After(end) {
			return m, err
		}
		if err := b.Enter(""); err != nil {
			return nil, err
		}
	}
}

// forked is one box that starts with the disks of power cuts.
type forked struct {
	id       int
	scenes   []*scene
	cfg      box.Config
	rand     *rand.Rand
	launcher *qemu.Launcher
	tally    *tally
	box      *box.Box
}

func (f *forked) live(ctx context.Context) {
	defer f.launcher.Close()
	for ctx.Err() == nil && f.tally.take() {
		if err := f.once(ctx); err != nil && ctx.Err() == nil {
			f.tally.mu.Lock()
			f.tally.failures = append(f.tally.failures, fmt.Sprintf("box %d: %v", f.id, err))
			f.tally.mu.Unlock()
		}
		if f.box != nil {
			f.box.PowerCut()
			f.box = nil
		}
	}
}

// moment chooses when: anywhere, or close to a flush, where an order can be wrong.
func moment(r *rand.Rand, records []nbd.Record) int {
	at := r.IntN(len(records) + 1)
	if r.IntN(2) == 0 {
		return at
	}
	for ; at < len(records) && !records[at].Flush; at++ {
	}
	return max(0, min(len(records), at+r.IntN(7)-3))
}

func (f *forked) once(ctx context.Context) error {
	s := f.scenes[f.rand.IntN(len(f.scenes))]
	at := moment(f.rand, s.Records)
	keep := []float64{0, 0.1, 0.5, 0.9, 1}[f.rand.IntN(5)]
	sectors, lost, err := f.disk(ctx, s, at, keep)
	if err != nil {
		return err
	}
	os.Remove(f.cfg.VarsFile())
	f.tally.cut(s.Name, sectors, lost)
	detail := fmt.Sprintf("write %d of %d, %d of %d cached sectors lost", at, len(s.Records), lost, sectors)
	slot, err := f.back(ctx, s, at)
	if err != nil {
		return fmt.Errorf("after a cut during %s (%s): %w", s.Name, detail, err)
	}
	f.tally.back(f.id, s.Name, slot, detail)
	return nil
}

// disk makes the disk that a cut after so many writes leaves.
func (f *forked) disk(ctx context.Context, s *scene, at int, keep float64) (sectors, lost int, err error) {
	if b, err := exec.CommandContext(ctx, "cp", "--sparse=always", s.Base, f.cfg.Disk).CombinedOutput(); err != nil {
		return 0, 0, fmt.Errorf("%w: %s", err, b)
	}
	file, err := os.OpenFile(f.cfg.Disk, os.O_RDWR, 0)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	return crash(file, s.Records[:at], f.rand, keep)
}

// crash writes what was recorded; what comes behind the last flush survives sector by sector with probability keep.
func crash(w io.WriterAt, records []nbd.Record, r *rand.Rand, keep float64) (sectors, lost int, err error) {
	last := -1
	for i, x := range records {
		if x.Flush {
			last = i
		}
	}
	for i, x := range records {
		if i <= last || x.FUA {
			if _, err := w.WriteAt(x.Data, x.Off); err != nil {
				return 0, 0, err
			}
			continue
		}
		for o := 0; o < len(x.Data); o += nbd.Sector {
			sectors++
			if r.Float64() >= keep {
				lost++
				continue
			}
			if _, err := w.WriteAt(x.Data[o:o+nbd.Sector], x.Off+int64(o)); err != nil {
				return 0, 0, err
			}
		}
	}
	return sectors, lost, nil
}

func (f *forked) see(ctx context.Context, pattern string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return f.box.Expect(ctx, pattern)
}

var shown = regexp.MustCompile(`# mark (\d+)`)

// back switches the box on and wants it to work: a slot that is good, or on its trial and then kept; the data partition mounted, not made
// anew but where that belongs to the scene; the newest configuration that was acknowledged.
func (f *forked) back(ctx context.Context, s *scene, at int) (string, error) {
	var err error
	if f.box, err = box.Start(f.launcher, f.cfg); err != nil {
		return "", err
	}
	if _, err := f.see(ctx, `init: ready `); err != nil {
		return "", err
	}
	said := f.box.Said()
	if strings.Contains(said, "is lost") || !strings.Contains(said, "data partition /dev/vda2 mounted") {
		return "", fmt.Errorf("the data partition:\n%s", said)
	}
	if _, err := ask(ctx, f.box, "", prompt); err != nil {
		return "", err
	}
	m, err := ask(ctx, f.box, "node show", `(?s)is in force(.*?)`+prompt)
	if err != nil {
		return "", err
	}
	got := 0
	if g := shown.FindStringSubmatch(m[1]); g != nil {
		got, _ = strconv.Atoi(g[1])
	}
	if least, most := bounds(s.Marks, at); got < least || got > most {
		return "", fmt.Errorf("configuration %d to %d must be there, %d is", least, most, got)
	}
	if m, err = ask(ctx, f.box, "upgrade status", `(?s)SLOT(.*?)`+prompt); err != nil {
		return "", err
	}
	table := strings.ReplaceAll(m[1], "\r", "")
	r := runs.FindStringSubmatch(table)
	if r == nil || r[2] == "failed" || r[2] == "empty" || strings.Contains(table, "problem: image in slot "+r[1]) {
		return "", fmt.Errorf("no slot runs as it should:\n%s", table)
	}
	if r[2] != "trial" {
		return r[1], nil
	}
	if !strings.Contains(f.box.Said(), "is permanent now") {
		if _, err := f.see(ctx, `is permanent now`); err != nil {
			return "", err
		}
	}
	return r[1] + ", its trial only now", nil
}

// bounds are the oldest and the newest configuration that may be there after a cut.
func bounds(marks []mark, at int) (least, most int) {
	for _, m := range marks {
		if at >= m.Begun {
			most = max(most, m.Value)
		}
		if at >= m.Kept && (m.MayBeLost == 0 || at < m.MayBeLost) {
			least = max(least, m.Value)
		}
		if m.MustBeLost > 0 && at >= m.MustBeLost {
			most = 0
		}
	}
	return least, most
}
