// Package trial confirms an image on trial once the box has been healthy with it
// for a while. If that never happens PID 1 restarts the box, and the boot loader
// takes the other slot.
package trial

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/init/supervise"
)

// HealthyFor is how long the box must have been healthy without a break.
const HealthyFor = 60 * time.Second

// ConfirmedFile in the run directory tells PID 1 that the trial is over
// (init/disk.go).
const ConfirmedFile = "confirmed"

// Box is the box whose image may be on trial.
type Box struct {
	Place  esp.Place
	RunDir string
}

// Health says whether the box does its work, and if not, why.
type Health interface {
	Healthy() (bool, string)
}

// Judge is the decision: pure, fed with the time since boot.
type Judge struct {
	For     time.Duration
	since   time.Duration
	healthy bool
}

// Step takes one observation and tells whether the trial has been passed.
func (j *Judge) Step(now time.Duration, healthy bool) bool {
	if healthy && !j.healthy {
		j.since = now
	}
	j.healthy = healthy
	return healthy && now-j.since >= j.For
}

// Member is the health of this member as its daemons see it: the node file is in
// force, and in a cluster the member is ACTIVE or STANDBY, in sync, and without
// a problem.
type Member struct{ Client *api.Client }

var _ Health = Member{}

// Healthy implements Health.
func (m Member) Healthy() (bool, string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	n, err := m.Client.Node(ctx)
	switch {
	case err != nil:
		return false, err.Error()
	case !n.Applied:
		return false, "the node file is not in force"
	case len(n.Problems) > 0:
		return false, strings.Join(n.Problems, "; ")
	case n.Cluster == "":
		return true, "a standalone gateway whose node file is in force"
	}
	s, err := m.Client.HA(ctx)
	if err != nil {
		return false, err.Error()
	}
	return Fit(s)
}

// Fit judges the state of a member of a cluster: ACTIVE or STANDBY, in sync, and
// every critical device ok, the policy's too.
func Fit(s member.Status) (bool, string) {
	switch {
	case s.ConfigError != "":
		return false, s.ConfigError
	case len(s.Problems) > 0:
		return false, strings.Join(s.Problems, "; ")
	case s.State != "ACTIVE" && s.State != "STANDBY":
		return false, "the member is " + s.State
	}
	for _, d := range s.Devices {
		if d.State != "ok" {
			return false, strings.TrimRight(d.Name+": "+d.State+": "+d.Text, ": ")
		}
	}
	if !s.InSync {
		return false, "the member is " + s.State + " and not in sync"
	}
	return true, "the member is " + s.State + " and in sync"
}

// Run waits until the trial has been passed, and confirms it. It returns at once
// when the running image is not on trial.
func (b Box) Run(ctx context.Context, h Health, healthyFor time.Duration, log func(format string, args ...any)) error {
	on, err := b.OnTrial()
	if err != nil || !on {
		return err
	}
	log("this image is on trial; it is kept once the box has been healthy for %v", healthyFor)
	j := Judge{For: healthyFor}
	last := ""
	for {
		ok, why := h.Healthy()
		if why != last {
			log("healthy: %t: %s", ok, why)
			last = why
		}
		if j.Step(supervise.Uptime(), ok) {
			return b.Confirm(log)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// OnTrial tells whether the running image waits for its confirmation.
func (b Box) OnTrial() (bool, error) {
	// The loader says whether it counted; where its variables cannot be read the
	// entries on the disk do.
	if known, counted := b.Place.Counted(); known && !counted {
		return false, nil
	}
	s, err := b.Place.Open()
	if err != nil {
		return false, err
	}
	defer s.Close()
	return s.Box.OnTrial(), nil
}

// Confirm makes the running image permanent. Without a trial it says so.
func (b Box) Confirm(log func(format string, args ...any)) error {
	s, err := b.Place.Open()
	if err != nil {
		return err
	}
	defer s.Close()
	ops := s.Box.Confirm()
	if len(ops) == 0 {
		log("the image in slot %s is permanent already", s.Box.Running)
		return nil
	}
	if err := s.Apply(ops); err != nil {
		return fmt.Errorf("confirm the image in slot %s: %w", s.Box.Running, err)
	}
	if err := os.WriteFile(filepath.Join(b.RunDir, ConfirmedFile), nil, 0o644); err != nil {
		return err
	}
	if err := s.Failsafe(); err != nil {
		log("the failsafe entries of the boot menu: %v", err) // the image is permanent all the same
	}
	log("the image in slot %s is permanent now: %v", s.Box.Running, s.Box.Release)
	return nil
}
