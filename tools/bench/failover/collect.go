package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/tools/bench/machine"
	"github.com/twinkeep/twinkeep/tools/bench/pair"
)

// Result is all that was measured.
type Result struct {
	Options               options
	Machine               []string
	Started               time.Time
	Took                  time.Duration
	LoadBefore, LoadAfter string
	Systems               []*SystemResult
}

// SystemResult is what was measured of one system.
type SystemResult struct {
	contestant
	Name, Setting string
	Trials        []Trial
	Siege         *Siege
	Survivals     []Survival
	Errors        []error // rounds that broke off
}

// collect measures. Rounds of all systems take turns, so that all see the same noise of the machine. A system
// that breaks off a round is reported, and measured again in the next.
func (r *Result) collect(ctx context.Context, dir string) error {
	for round := range r.Options.n {
		for _, s := range r.Systems {
			if err := s.round(ctx, dir, r.Options, round); err != nil {
				return err
			}
		}
	}
	for range r.Options.survival {
		for _, s := range r.Systems {
			if err := s.survive(ctx, dir); err != nil {
				return err
			}
		}
	}
	if r.Options.hogs == 0 {
		return nil
	}
	for _, s := range r.Systems {
		if err := s.besiege(ctx, dir, r.Options); err != nil {
			return err
		}
	}
	return nil
}

// with runs f on a fresh pair. Only the end of ctx, or a network that cannot be removed, is an error; the rest
// is noted.
func (s *SystemResult) with(ctx context.Context, dir string, f func(*bench) error) (err error) {
	defer func() {
		if err == nil {
			err = ctx.Err()
		}
	}()
	if err := machine.Turn(ctx); err != nil {
		return err
	}
	b, err := open(ctx, dir, s.contestant)
	if err != nil {
		return s.note(ctx, err)
	}
	defer func() { err = errors.Join(err, b.lab.Close()) }() // also in a panic
	s.Name, s.Setting = b.sys.Name(), b.sys.Setting()
	return s.note(ctx, f(b))
}

func (s *SystemResult) note(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", s.key, err)
		s.Errors = append(s.Errors, err)
	}
	return nil
}

// round does every event once. The order turns with the rounds: else each event would always hit the same
// gateway, for roles stay swapped after each.
func (s *SystemResult) round(ctx context.Context, dir string, o options, round int) error {
	return s.with(ctx, dir, func(b *bench) error {
		var events []pair.Event
		for _, e := range b.sys.Events() {
			if slices.Contains(o.events, string(e)) {
				events = append(events, e)
			}
		}
		for i := range events {
			t, err := b.trial(ctx, events[(i+round)%len(events)])
			if err != nil {
				return fmt.Errorf("round %d, %s: %w", round+1, t.Event, err)
			}
			s.Trials = append(s.Trials, t)
			fmt.Fprintf(os.Stderr, "%d/%d  %-14s %-8s outage %7.1f ms, %3d lost, sender late %.1f ms%s\n", round+1, o.n,
				s.key, t.Event, ms(t.Outage.RoundTrip), t.Outage.Lost, ms(t.Outage.Late), t.remark())
		}
		return nil
	})
}

// remark is what is unusual about a trial.
func (t Trial) remark() (text string) {
	if t.Failed {
		text += ", NO TAKEOVER"
	}
	if t.Flips > 0 {
		text += fmt.Sprintf(", %d flips", t.Flips)
	}
	if t.Evidence != "" {
		text += ": " + t.Evidence
	}
	return text
}

func (s *SystemResult) besiege(ctx context.Context, dir string, o options) error {
	return s.with(ctx, dir, func(b *bench) error {
		got, err := b.siege(ctx, o.hogs, o.siege)
		if err != nil {
			return fmt.Errorf("%d hogs: %w", o.hogs, err)
		}
		s.Siege = &got
		fmt.Fprintf(os.Stderr, "%s: %d hogs for %v: %d role changes, %d lost, longest gap %.1f ms\n", s.key, o.hogs, o.siege,
			got.Takeovers, got.Outage.Lost, ms(got.Outage.RoundTrip))
		return nil
	})
}

// Verdict is an error if a takeover did not happen, or nothing could be measured.
func (r *Result) Verdict() error {
	var errs []error
	for _, s := range r.Systems {
		failed := 0
		for _, t := range s.Trials {
			if t.Failed {
				failed++
			}
		}
		if failed > 0 {
			errs = append(errs, fmt.Errorf("%s: %d of %d takeovers did not happen within %v", s.key, failed, len(s.Trials), window))
		}
		if len(s.Errors) > 0 {
			errs = append(errs, fmt.Errorf("%s: %d rounds broke off, see above", s.key, len(s.Errors)))
		}
	}
	return errors.Join(errs...)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
