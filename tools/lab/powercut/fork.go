package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
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

// cut is one power cut in a recording. A seed and a number always give the same one.
type cut struct {
	*scene
	at   int     // writes and flushes before it
	keep float64 // how likely a sector in the cache survives
	rand *rand.Rand
}

// cutOf makes cut number n. The scenes take turns.
func cutOf(scenes []*scene, seed uint64, n int) cut {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	s := scenes[n%len(scenes)]
	return cut{s, moment(r, s.Records), []float64{0, 0.1, 0.5, 0.9, 1}[r.IntN(5)], r}
}

// moment chooses when: mostly right behind a write, where something is in the cache, else anywhere.
func moment(r *rand.Rand, records []nbd.Record) int {
	if r.IntN(4) == 0 {
		return r.IntN(len(records) + 1)
	}
	var behind []int
	for i, x := range records {
		if !x.Flush {
			behind = append(behind, i+1)
		}
	}
	return behind[r.IntN(len(behind))]
}

// disk makes the disk that the cut leaves.
func (c cut) disk(ctx context.Context, name string) (sectors, lost int, err error) {
	if err := copyDisk(ctx, c.Base, name); err != nil {
		return 0, 0, err
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	return crash(f, c.Records[:c.at], c.rand, c.keep)
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

// fork starts a box with the disk that each cut leaves, and wants it to work. What came of it goes into the folder kept.
func fork(ctx context.Context, o options, scenes []*scene, kept string, accel qemu.Accel) error {
	l, err := openLedger(kept, o.seed, o.n)
	if err != nil {
		return err
	}
	defer l.close()
	var wg sync.WaitGroup
	for i := range o.workers {
		dir := filepath.Join(o.work, fmt.Sprint(i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		f := &forked{launcher: qemu.NewLauncher(), cfg: box.Config{Dir: dir, Disk: filepath.Join(dir, "disk"), NICs: 1, Accel: accel}}
		wg.Go(func() {
			defer f.launcher.Close()
			for n := l.next(); n >= 0 && ctx.Err() == nil && !o.late(); n = l.next() {
				out := f.once(ctx, n, cutOf(scenes, o.seed, n))
				if ctx.Err() == nil { // else nothing is known
					l.done(out)
				}
			}
		})
	}
	wg.Wait()
	return l.report()
}

// forked is one box that starts with the disks of power cuts.
type forked struct {
	cfg      box.Config
	launcher *qemu.Launcher
	box      *box.Box
}

func (f *forked) once(ctx context.Context, n int, c cut) outcome {
	out := outcome{N: n, Scene: c.Name, At: c.at, Of: len(c.Records)}
	began := time.Now()
	err := func() (err error) {
		if out.Sectors, out.Lost, err = c.disk(ctx, f.cfg.Disk); err != nil {
			return err
		}
		os.Remove(f.cfg.VarsFile())
		os.Remove(f.cfg.LogFile())
		if f.box, err = box.Start(f.launcher, f.cfg); err != nil {
			return err
		}
		defer func() { f.box.PowerCut() }()
		out.Slot, err = f.back(ctx, c)
		return err
	}()
	if err != nil {
		out.Err = err.Error()
	}
	out.Seconds = time.Since(began).Seconds()
	return out
}

func (f *forked) see(ctx context.Context, pattern string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return f.box.Expect(ctx, pattern)
}

// prompted ends what a command says; lines of the journal may follow at once.
const prompted = `(?:box|twinkeep):/[^\n]*> `

var (
	shown   = regexp.MustCompile(`# mark (\d+)`)
	inForce = regexp.MustCompile(`In force: revision (\d+)`)
)

// back wants the box to work: a slot that is good, or on its trial and then kept; the data partition mounted, not made anew but where that
// belongs to the scene; the newest configuration and the newest policy that were acknowledged.
func (f *forked) back(ctx context.Context, c cut) (string, error) {
	if _, err := f.see(ctx, `init: ready `); err != nil {
		return "", err
	}
	said := f.box.Said()
	if strings.Contains(said, "is lost") || !strings.Contains(said, "data partition /dev/vda2 mounted") {
		return "", fmt.Errorf("the data partition:\n%s", said)
	}
	m, err := ask(ctx, f.box, "node show", `(?s)is in force(.*?)`+prompted)
	if err != nil {
		return "", err
	}
	if err := within("node file", shown, m[1], c.Nodes, c.at); err != nil {
		return "", err
	}
	if err := f.policy(ctx, c); err != nil {
		return "", err
	}
	if m, err = ask(ctx, f.box, "upgrade status", `(?s)SLOT(.*?)`+prompted); err != nil {
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

// policy wants the newest policy that was acknowledged, or a newer one, in force. The box looks for it for some seconds after its start.
func (f *forked) policy(ctx context.Context, c cut) error {
	for end := time.Now().Add(patience); ; {
		m, err := ask(ctx, f.box, "policy status", `(?s)(In force: |No policy is in force|[Ee]rror)(.*?)`+prompted)
		if err != nil {
			return err
		}
		if m[1] == "In force: " {
			return within("policy", inForce, m[0], c.Policies, c.at)
		}
		if least, _ := bounds(c.Policies, c.at); least == 0 && strings.Contains(f.box.Said(), "no usable policy on this member") {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("no policy comes into force:\n%s", f.box.Said())
		}
		time.Sleep(time.Second)
	}
}

// within wants a number between what was acknowledged before the cut and what was tried before it.
func within(what string, number *regexp.Regexp, text string, marks []mark, at int) error {
	got := 0
	if g := number.FindStringSubmatch(text); g != nil {
		got, _ = strconv.Atoi(g[1])
	}
	if least, most := bounds(marks, at); got < least || got > most {
		return fmt.Errorf("%s %d to %d must be there, %d is:\n%s", what, least, most, got, text)
	}
	return nil
}

// bounds are the oldest and the newest number that may be there after a cut.
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
