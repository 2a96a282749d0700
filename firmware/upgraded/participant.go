package upgraded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp"
	"github.com/twinkeep/twinkeep/firmware/upgrade/rollout"
	"github.com/twinkeep/twinkeep/firmware/upgrade/source"
	"github.com/twinkeep/twinkeep/firmware/upgrade/trial"
	"github.com/twinkeep/twinkeep/init/supervise"
)

// obedience is how long a member obeys nobody else after a driver has last asked how it is.
const obedience = 30 * time.Second

// participant is what this member does for a driver, itself or another one.
type participant struct {
	Options
	client *api.Client
	peers  *peers
	files  func(plan string) (*os.File, error) // of the own driver

	mu      sync.Mutex
	release upgrade.Release
	counted bool // the running image was started on trial
	boot    string
	known   bool // the three above
	plan    string
	by      uint8
	at      time.Duration
	job     rollout.Job
	cancel  context.CancelFunc
	done    chan struct{} // closed when no job runs
}

func newParticipant(o Options, c *api.Client) *participant {
	done := make(chan struct{})
	close(done)
	return &participant{Options: o, client: c, done: done}
}

// learn reads what does not change while the machine runs.
func (p *participant) learn() error {
	p.mu.Lock()
	known := p.known
	p.mu.Unlock()
	if known {
		return nil
	}
	boot, err := p.Place.BootID()
	if err != nil {
		return err
	}
	box := trial.Box{Place: p.Place, RunDir: p.RunDir}
	counted, err := box.OnTrial()
	if err != nil {
		return err
	}
	sys, err := p.Place.Open()
	if err != nil {
		return err
	}
	defer sys.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release, p.counted, p.boot, p.known = sys.Box.Release, counted, boot, true
	return nil
}

// check tells what runs here, and an error if the image would not be taken.
func (p *participant) check(q checkRequest) (upgrade.Release, error) {
	sys, err := p.Place.Open()
	if err != nil {
		return upgrade.Release{}, err
	}
	defer sys.Close()
	if sys.Box.Release == q.Image.Release && !sys.Box.OnTrial() {
		return sys.Box.Release, nil
	}
	return sys.Box.Release, sys.Box.Check(q.Image, q.Force)
}

// obey takes the orders of one driver at a time.
func (p *participant) obey(plan string, by uint8) error {
	if plan == "" || len(plan) > maxPlanID || strings.ContainsAny(plan, "/.") {
		return errors.New("the plan has no proper name")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := supervise.Uptime()
	if p.plan != "" && p.plan != plan && now-p.at < obedience {
		return fmt.Errorf("member %d drives another upgrade of the cluster", p.by)
	}
	p.plan, p.by, p.at = plan, by, now
	return nil
}

// drivenBy is the other member that drives an upgrade now, 0 for none.
func (p *participant) drivenBy() (uint8, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.plan == "" || supervise.Uptime()-p.at > 20*obedience {
		return 0, ""
	}
	if c, err := p.peers.cluster(); err != nil || c.Member == p.by {
		return 0, ""
	}
	return p.by, p.plan
}

// seen is how this member is.
func (p *participant) seen(ctx context.Context, plan string, by uint8) (rollout.Seen, error) {
	if err := p.obey(plan, by); err != nil {
		return rollout.Seen{}, err
	}
	if err := p.learn(); err != nil {
		return rollout.Seen{}, err
	}
	healthy, why := trial.Member{Client: p.client}.Healthy()
	p.mu.Lock()
	s := rollout.Seen{Boot: p.boot, Release: p.release, Job: p.job, Healthy: healthy, Why: why}
	counted := p.counted
	p.mu.Unlock()
	if counted {
		_, err := os.Stat(filepath.Join(p.RunDir, trial.ConfirmedFile))
		s.Trial = errors.Is(err, fs.ErrNotExist)
	}
	if ha, err := p.client.HA(ctx); err == nil {
		s.Holder = ha.Gate.Open || strings.HasPrefix(ha.State, "ACTIVE")
		for _, q := range ha.Peers {
			if q.Alive && q.InSync && q.State == "STANDBY" {
				s.InSync = append(s.InSync, q.Member)
			}
		}
	}
	return s, nil
}

// act carries out an action. It may come twice.
func (p *participant) act(ctx context.Context, q actRequest, by uint8) error {
	if err := p.obey(q.Plan, by); err != nil {
		return err
	}
	if err := p.learn(); err != nil {
		return err
	}
	p.Log.Info("upgrade of the cluster", "driver", by, "do", q.Action.Verb)
	switch a := q.Action; a.Verb {
	case rollout.Install:
		p.install(q, by)
		return nil
	case rollout.Cancel:
		return p.withdraw()
	case rollout.Restart:
		return p.restart(ctx, a.Boot, nil)
	case rollout.Return:
		return p.restart(ctx, a.Boot, p.goBack)
	case rollout.HandOver:
		_, err := p.client.Failover(ctx, api.Failover{To: strconv.Itoa(int(a.To))})
		return err
	default:
		return fmt.Errorf("%q is not known here", a.Verb)
	}
}

// install begins the job of a plan, unless it runs.
func (p *participant) install(q actRequest, by uint8) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.job.Plan == q.Plan {
		return
	}
	if p.cancel != nil {
		p.cancel()
	}
	before := p.done
	ctx, cancel := context.WithCancel(context.Background())
	p.job, p.cancel, p.done = rollout.Job{Plan: q.Plan, All: q.Image.Size}, cancel, make(chan struct{})
	done := p.done
	go func() {
		defer close(done)
		defer cancel()
		<-before
		err := p.fetch(ctx, q, by)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.job.Plan != q.Plan {
			return
		}
		if err != nil {
			p.job.Error = err.Error()
			p.Log.Error("the image of the cluster's upgrade is not installed", "err", err)
			return
		}
		p.job.Installed = true
		p.Log.Info("the image of the cluster's upgrade is in the idle slot", "release", q.Image.Release.Version)
	}()
}

// fetch gets the image into the idle slot.
func (p *participant) fetch(ctx context.Context, q actRequest, by uint8) error {
	sys, err := p.Place.Open()
	if err != nil {
		return err
	}
	defer sys.Close()
	if ready(sys, q.Image) {
		return nil
	}
	var src *source.Source
	if c, err := p.peers.cluster(); err == nil && c.Member == by {
		f, err := p.files(q.Plan)
		if err != nil {
			return err
		}
		st, err := f.Stat()
		if err != nil {
			f.Close()
			return err
		}
		src = &source.Source{ReadCloser: f, Size: st.Size()}
	} else {
		src = &source.Source{ReadCloser: p.peers.file(ctx, by, q.Plan), Size: -1}
	}
	defer src.Close()
	c, err := sys.Install(src, q.Force, func(done, all int64) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.job.Done, p.job.All = done, all
	})
	if err == nil && c != q.Image {
		err = errors.Join(fmt.Errorf("the file has %v, the plan says %v", c.Release, q.Image.Release), sys.Apply(sys.Box.Withdraw()))
	}
	return err
}

// ready tells whether the idle slot holds the image and boots next.
func ready(sys *esp.System, c upgrade.Candidate) bool {
	order := sys.Box.Table.Order()
	if len(order) == 0 || order[0].Slot == sys.Box.Running {
		return false
	}
	e := order[0]
	return e.SHA256 == c.SHA256 && e.Size == c.Size && sys.Verify(e) == nil
}

// withdraw ends the job and sees that its image is not tried.
func (p *participant) withdraw() error {
	p.stop()
	sys, err := p.Place.Open()
	if err != nil {
		return err
	}
	defer sys.Close()
	if err := sys.Apply(sys.Box.Withdraw()); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.job, p.cancel = rollout.Job{}, nil
	return nil
}

// stop ends the job and waits for its end.
func (p *participant) stop() {
	p.mu.Lock()
	if p.cancel != nil {
		p.cancel()
	}
	done := p.done
	p.mu.Unlock()
	<-done
}

// restart restarts this machine, if it is still in the boot that was meant and the role is elsewhere.
func (p *participant) restart(ctx context.Context, boot string, before func() error) error {
	p.mu.Lock()
	now := p.boot
	p.mu.Unlock()
	if boot != now {
		return nil // it was done
	}
	ha, err := p.client.HA(ctx)
	if err == nil && (ha.Gate.Open || strings.HasPrefix(ha.State, "ACTIVE")) {
		return fmt.Errorf("this member is %s: it does not restart while it holds the role", ha.State)
	}
	if before != nil {
		if err := before(); err != nil {
			return err
		}
	}
	err = p.client.Shutdown(ctx, supervise.Reboot)
	if err != nil && strings.Contains(err.Error(), "under way already") {
		return nil
	}
	return err
}

// goBack sees that the other slot boots next.
func (p *participant) goBack() error {
	sys, err := p.Place.Open()
	if err != nil {
		return err
	}
	defer sys.Close()
	if order := sys.Box.Table.Order(); len(order) > 0 && order[0].Slot != sys.Box.Running {
		return nil
	}
	_, err = sys.Rollback()
	return err
}
