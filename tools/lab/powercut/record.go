package main

import (
	"context"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/box"
	"github.com/twinkeep/twinkeep/tools/lab/nbd"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
)

// scene is something that a box does, recorded: the disk before it, and everything written since.
type scene struct {
	Name     string
	Base     string // image file
	Records  []nbd.Record
	Nodes    []mark // numbers in the node file
	Policies []mark // revisions of the policy
}

// mark is a number that an operator brought in.
type mark struct {
	Value      int
	Begun      int // records when it was typed
	Kept       int // records when its keeping was acknowledged
	MayBeLost  int // records from which it may be gone: a factory reset was asked for; 0: never
	MustBeLost int // records from which it must be gone; 0: never
}

// never is a number of records that no recording has.
const never = math.MaxInt

// record gives the recording of an earlier run with the same work folder and image, or makes one, and the folder where it and what came of its cuts
// is kept.
func record(ctx context.Context, o options, m *box.Maker, accel qemu.Accel) (scenes []*scene, dir string, err error) {
	v, err := policyRelease()
	if err != nil {
		return nil, "", err
	}
	i, err := m.Make(v)
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(i.UKI)
	dir = filepath.Join(o.work, fmt.Sprintf("recorded-%x", sum[:4]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, "", err
	}
	file := filepath.Join(dir, "scenes")
	if f, err := os.Open(file); err == nil {
		defer f.Close()
		err := gob.NewDecoder(f).Decode(&scenes)
		return scenes, dir, err
	}
	w, err := newWorker(0, dir, o.seed, m, accel, nil, v)
	if err != nil {
		return nil, "", err
	}
	defer w.launcher.Close()
	if scenes, err = w.recordScenes(ctx); err != nil {
		return nil, "", err
	}
	f, err := os.Create(file + ".new")
	if err != nil {
		return nil, "", err
	}
	return scenes, dir, errors.Join(gob.NewEncoder(f).Encode(scenes), f.Close(), os.Rename(file+".new", file))
}

// recordScenes plays them on one box.
func (w *worker) recordScenes(ctx context.Context) (scenes []*scene, err error) {
	defer w.off()
	if err := w.newDisk(); err != nil {
		return nil, err
	}
	defer func() { w.disk.Close() }()
	var node, policy mark // the last ones
	for _, play := range []struct {
		name string
		do   func(*scene) error
	}{
		{"first boot", func(*scene) error { _, err := w.back(ctx); return err }},
		{"policy commit", func(s *scene) error {
			for n := 1; n <= policies; n++ {
				policy = mark{Value: n, Begun: w.written(), Kept: never}
				acknowledged, err := w.installPolicy(ctx, n)
				if err != nil {
					return err
				}
				if acknowledged {
					policy.Kept = w.written()
				}
				s.Policies = append(s.Policies, policy)
			}
			if policy.Kept == never {
				return errors.New("the last policy was not installed: is this machine too busy?")
			}
			return nil
		}},
		{"node file commit", func(s *scene) error {
			s.Policies = []mark{{Value: policy.Value}}
			for n := 1; n <= 3; n++ {
				node = mark{Value: n, Begun: w.written()}
				if err := w.commit(ctx, n); err != nil {
					return err
				}
				node.Kept = w.written()
				s.Nodes = append(s.Nodes, node)
			}
			return nil
		}},
		{"upgrade", func(s *scene) error {
			s.Policies, s.Nodes = []mark{{Value: policy.Value}}, []mark{{Value: node.Value}}
			if err := w.box.Enter("upgrade install /dev/vdb --force"); err != nil {
				return err
			}
			for _, pattern := range []string{`This device restarts`, `is permanent now`} {
				if _, err := w.see(ctx, pattern); err != nil {
					return err
				}
			}
			_, err := ask(ctx, w.box, "", prompt)
			return err
		}},
		{"factory reset", func(s *scene) error {
			if err := w.box.Enter("factory-reset --yes"); err != nil {
				return err
			}
			if _, err := w.see(ctx, `factory reset, all configuration(?s:.*)init: ready `); err != nil {
				return err
			}
			if _, err := ask(ctx, w.box, "", prompt); err != nil {
				return err
			}
			for _, of := range []struct {
				marks *[]mark
				value int
			}{{&s.Policies, policy.Value}, {&s.Nodes, node.Value}} {
				*of.marks = []mark{{Value: of.value, MayBeLost: 1, MustBeLost: w.written()}}
			}
			return nil
		}},
	} {
		if w.box != nil { // nothing is in a cache when the next one begins
			if err := w.acknowledge(ctx); err != nil {
				return nil, err
			}
		}
		s := &scene{Name: play.name, Base: filepath.Join(filepath.Dir(w.file), "before-"+strings.ReplaceAll(play.name, " ", "-"))}
		if err := copyDisk(ctx, w.file, s.Base); err != nil {
			return nil, err
		}
		w.disk.StartRecording()
		if err := play.do(s); err != nil {
			return nil, fmt.Errorf("%s: %w", play.name, err)
		}
		s.Records = w.disk.Recorded()
		scenes = append(scenes, s)
		fmt.Printf("recorded: %s, %d writes and flushes\n", s.Name, len(s.Records))
	}
	return scenes, nil
}

func (w *worker) written() int { return len(w.disk.Recorded()) }

func copyDisk(ctx context.Context, from, to string) error {
	if b, err := exec.CommandContext(ctx, "cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, b)
	}
	return nil
}

// installPolicy has an operator install a revision. Without an acknowledgement it may be in force all the same: on a machine that hardly runs the
// console gives up before the box does.
func (w *worker) installPolicy(ctx context.Context, n int) (acknowledged bool, err error) {
	if err := w.box.Enter("policy install " + policyFile(n)); err != nil {
		return false, err
	}
	m, err := w.see(ctx, `member 1: installed|error: [^\n]*`)
	if err != nil {
		return false, err
	}
	_, err = ask(ctx, w.box, "", prompt)
	return m[0] == "member 1: installed", err
}

// commit has an operator put a node file in force that holds a number.
func (w *worker) commit(ctx context.Context, n int) error {
	if err := w.box.Enter("node edit"); err != nil {
		return err
	}
	if _, err := w.see(ctx, `Paste the whole node file`); err != nil {
		return err
	}
	for line := range strings.Lines(fmt.Sprintf("# mark %d\n%s.\n", n, clusterNode)) {
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

// ask types a line until the console says what it should: lines of the journal come in between, also behind the last prompt, and on a machine that hardly
// runs a daemon may not answer the first time.
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
		if err := b.Enter(line); err != nil {
			return nil, err
		}
	}
}
