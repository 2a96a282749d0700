package upgraded

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/firmware/upgrade/bundle"
	"github.com/twinkeep/twinkeep/firmware/upgrade/rollout"
	"github.com/twinkeep/twinkeep/firmware/upgrade/source"
	"github.com/twinkeep/twinkeep/init/supervise"
)

// driver carries out a plan.
type driver struct {
	Options
	own   *participant
	peers *peers

	mu      sync.Mutex
	machine *rollout.Machine // nil without a plan
	saved   []byte           // the plan as it is on disk
	intake  *api.Progress
	failed  string // why the last order came to nothing
	wake    chan struct{}
}

// state is what is on disk.
type state struct {
	Plan      rollout.Plan     `json:"plan"`
	Addresses map[uint8]string `json:"addresses,omitempty"`
}

func newDriver(o Options, own *participant, p *peers) *driver {
	d := &driver{Options: o, own: own, peers: p, wake: make(chan struct{}, 1)}
	own.files = d.open
	data, err := os.ReadFile(d.planFile())
	if errors.Is(err, fs.ErrNotExist) {
		return d
	}
	var s state
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		o.Log.Error("what was being done for an upgrade of the cluster is not known", "err", err)
		return d
	}
	p.remember(s.Addresses)
	d.machine, d.saved = rollout.New(s.Plan), data
	if !s.Plan.Phase.Ended() {
		o.Log.Info("the upgrade of the cluster goes on", "release", s.Plan.Image.Release.Version, "phase", s.Plan.Phase)
	}
	return d
}

func (d *driver) dir() string      { return filepath.Join(d.StateDir, "upgrade") }
func (d *driver) planFile() string { return filepath.Join(d.dir(), "plan.json") }

// fileOf is where the upgrade file of a plan is. It is on the data partition: the member that drives is restarted in between.
func (d *driver) fileOf(plan string) string { return filepath.Join(d.dir(), plan+".twk") }

// open opens the upgrade file of the plan.
func (d *driver) open(plan string) (*os.File, error) {
	d.mu.Lock()
	current := d.machine != nil && d.machine.Plan.ID == plan
	d.mu.Unlock()
	if !current {
		return nil, errors.New("this member does not drive that upgrade")
	}
	return os.Open(d.fileOf(plan))
}

func (d *driver) status() api.ClusterUpgrade {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := api.ClusterUpgrade{Error: d.failed}
	if d.intake != nil {
		p := *d.intake
		s.Fetching = &p
	}
	if d.machine != nil {
		p := d.machine.Plan
		p.Members = slices.Clone(p.Members)
		s.Plan = &p
	}
	return s
}

// busy tells why no upgrade can begin now.
func (d *driver) busy() error {
	switch {
	case d.intake != nil:
		return &api.Error{Status: http.StatusConflict, Message: "the file of another upgrade is being fetched"}
	case d.machine != nil && !d.machine.Plan.Phase.Ended():
		return &api.Error{Status: http.StatusConflict, Message: "an upgrade of the cluster is under way", Hint: "see upgrade status; end it with upgrade cluster --abort"}
	}
	return nil
}

// begin fetches the file, asks all members whether they would take it, and makes a plan. It answers before that is done.
func (d *driver) begin(ctx context.Context, o api.UpgradeOrder) error {
	c, err := d.peers.cluster()
	if err != nil {
		return err
	}
	if c.Judges() || len(c.Members) < 2 {
		return &api.Error{Status: http.StatusConflict, Message: "this is not a member of a cluster of two or more", Hint: "use upgrade install"}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.busy(); err != nil {
		return err
	}
	d.failed, d.intake = "", &api.Progress{}
	go func() {
		plan, err := d.prepare(ctx, o)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.intake = nil
		if err != nil {
			d.failed = err.Error()
			d.Log.Error("no upgrade of the cluster", "err", err)
			os.Remove(d.fileOf(plan.ID))
			return
		}
		d.machine, d.saved = rollout.New(plan), nil
		d.Log.Info("upgrade of the cluster", "release", plan.Image.Release.Version)
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}()
	return nil
}

func (d *driver) abort(why string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.machine == nil || d.machine.Plan.Phase != rollout.Forward {
		return &api.Error{Status: http.StatusConflict, Message: "this member drives no upgrade of the cluster", Hint: "upgrade status shows who does"}
	}
	d.machine.Abort(why)
	return nil
}

// prepare makes a plan for the file that an operator names.
func (d *driver) prepare(ctx context.Context, o api.UpgradeOrder) (rollout.Plan, error) {
	plan := rollout.Plan{ID: rand.Text(), Force: o.Force, Phase: rollout.Forward}
	c, err := d.peers.cluster()
	if err != nil {
		return plan, err
	}
	plan.Driver = c.Member
	if err := d.own.learn(); err != nil {
		return plan, err
	}
	if plan.Image, err = d.take(ctx, plan.ID, o.Source); err != nil {
		return plan, err
	}
	d.peers.look(ctx)
	for _, m := range c.Members {
		q := checkRequest{Image: plan.Image, Force: o.Force}
		var from upgrade.Release
		if m.ID == c.Member {
			from, err = d.own.check(q)
		} else {
			err = d.peers.call(ctx, m.ID, http.MethodPost, pathCheck, q, &from)
		}
		if err != nil {
			return plan, fmt.Errorf("%s would not take the image: %w", m.Name, err)
		}
		plan.Members = append(plan.Members, rollout.Member{ID: m.ID, Name: m.Name, From: from, Step: rollout.Waiting})
	}
	return plan, nil
}

// margin is left free on the data partition.
const margin = 2 << 20

// take copies the upgrade file to the data partition, proving it on the way.
func (d *driver) take(ctx context.Context, plan, name string) (upgrade.Candidate, error) {
	if err := os.MkdirAll(d.dir(), 0o700); err != nil {
		return upgrade.Candidate{}, err
	}
	old, err := filepath.Glob(filepath.Join(d.dir(), "*.twk"))
	if err != nil {
		return upgrade.Candidate{}, err
	}
	for _, f := range old { // of an earlier plan
		os.Remove(f)
	}
	keys, err := d.Place.Keys()
	if err != nil {
		return upgrade.Candidate{}, err
	}
	src, err := source.Open(ctx, name, source.Options{ConfigDir: d.ConfigDir, Board: d.own.release.Board})
	if err != nil {
		return upgrade.Candidate{}, err
	}
	defer src.Close()
	f, err := os.OpenFile(d.fileOf(plan), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return upgrade.Candidate{}, err
	}
	defer f.Close()
	r, err := bundle.Open(io.TeeReader(src, f), keys) // the front, at most 64 KiB
	if err != nil {
		return upgrade.Candidate{}, err
	}
	c := r.Candidate
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir(), &st); err != nil {
		return c, err
	}
	if free := int64(st.Bavail) * st.Bsize; c.Size > upgrade.MaxImage || free < c.Size+margin {
		return c, fmt.Errorf("the image has %d KiB, and the data partition %d KiB free: make room, at most %d KiB are allowed", c.Size>>10, free>>10, int64(upgrade.MaxImage)>>10)
	}
	n, err := io.Copy(io.Discard, &reporting{r, d, c.Size, 0}) // what is read is written to f on its way
	if err == nil && n != c.Size {
		err = bundle.ErrTruncated
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return c, err
	}
	return c, syncDirOf(f.Name())
}

// reporting tells how far the intake is.
type reporting struct {
	r    io.Reader
	d    *driver
	all  int64
	done int64
}

func (r *reporting) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.done += int64(n)
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	if r.d.intake != nil {
		*r.d.intake = api.Progress{Done: r.done, All: r.all}
	}
	return n, err
}

// Limits in time of one question and one order.
const (
	askLimit   = 4 * time.Second
	orderLimit = 12 * time.Second
)

// run drives whatever plan there is, until ctx ends.
func (d *driver) run(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-d.wake:
		}
		d.mu.Lock()
		m := d.machine
		idle := m == nil || m.Plan.Phase.Ended()
		d.mu.Unlock()
		if !idle {
			d.round(ctx, m)
		}
	}
}

// round looks at all members, and asks of them what follows.
func (d *driver) round(ctx context.Context, m *rollout.Machine) {
	d.peers.look(ctx)
	d.mu.Lock()
	plan := m.Plan
	plan.Members = slices.Clone(plan.Members)
	d.mu.Unlock()
	seen := d.look(ctx, plan)
	d.mu.Lock()
	before := m.Plan.Now
	acts := m.Step(supervise.Uptime(), seen)
	plan = m.Plan
	plan.Members = slices.Clone(plan.Members)
	err := d.save(plan)
	d.mu.Unlock()
	if plan.Now != before && plan.Now != "" {
		d.Log.Info("upgrade of the cluster: " + plan.Now)
	}
	if err != nil {
		d.Log.Error("upgrade of the cluster: nothing is done until what is done can be written down", "err", err)
		return
	}
	if plan.Phase.Ended() {
		d.Log.Info("upgrade of the cluster: the end", "phase", plan.Phase, "reason", plan.Reason)
		os.Remove(d.fileOf(plan.ID))
		return
	}
	var wg sync.WaitGroup
	for _, a := range acts {
		wg.Go(func() {
			if err := d.ask(ctx, plan, a); err != nil {
				d.Log.Warn("upgrade of the cluster", "member", a.Member, "asked to", a.Verb, "err", err)
				d.mu.Lock()
				defer d.mu.Unlock()
				m.Refused(a, err.Error())
			}
		})
	}
	wg.Wait()
}

// look asks all members how they are.
func (d *driver) look(ctx context.Context, plan rollout.Plan) map[uint8]rollout.Seen {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var mu sync.Mutex
	seen := make(map[uint8]rollout.Seen)
	var wg sync.WaitGroup
	for _, b := range plan.Members {
		wg.Go(func() {
			var s rollout.Seen
			var err error
			if b.ID == plan.Driver {
				s, err = d.own.seen(ctx, plan.ID, plan.Driver)
			} else {
				err = d.peers.call(ctx, b.ID, http.MethodPost, pathSeen, seenRequest{plan.ID}, &s)
			}
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				seen[b.ID] = s
			}
		})
	}
	wg.Wait()
	return seen
}

func (d *driver) ask(ctx context.Context, plan rollout.Plan, a rollout.Action) error {
	ctx, cancel := context.WithTimeout(ctx, orderLimit)
	defer cancel()
	q := actRequest{Plan: plan.ID, Image: plan.Image, Force: plan.Force, Action: a}
	if a.Member == plan.Driver {
		return d.own.act(ctx, q, plan.Driver)
	}
	return d.peers.call(ctx, a.Member, http.MethodPost, pathAct, q, nil)
}

// save makes the plan durable if it is another one.
func (d *driver) save(plan rollout.Plan) error {
	plan.Now = "" // for people
	data, err := json.Marshal(state{plan, d.peers.addresses()})
	if err != nil || string(data) == string(d.saved) {
		return err
	}
	if err := os.MkdirAll(d.dir(), 0o700); err != nil {
		return err
	}
	if err := writeDurably(d.planFile(), data); err != nil {
		return err
	}
	d.saved = data
	return nil
}
