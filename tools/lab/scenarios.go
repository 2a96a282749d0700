package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/scenario"
)

// scenarios waits until the gateways have their roles, tells stories and judges them.
func scenarios(ctx context.Context, l *scenario.Lab, o options) error {
	if err := up(ctx, l); err != nil {
		return err
	}
	return tell(ctx, l, o)
}

// tell tells stories in a lab that runs, and judges them; errFailed when one fails.
func tell(ctx context.Context, l *scenario.Lab, o options) error {
	stories, err := scenario.Select(o.stories)
	if err != nil {
		return err
	}
	began := time.Now()
	told, err := scenario.Tell(ctx, l, stories)
	if err != nil {
		return err
	}
	verdicts, err := scenario.JudgeStories(l, told)
	if err != nil {
		return err
	}
	if err := scenario.PrintStories(os.Stdout, verdicts); err != nil {
		return err
	}
	path := filepath.Join(o.root, "build/scenarios/result.md")
	about := fmt.Sprintf("%s, QEMU %v, host with %d processors; load before %s. Beat %v, lease %v, dead %v. The stories took %v.",
		began.Format("2006-01-02 15:04"), l.Accel, runtime.NumCPU(), o.load, scenario.Timing.Beat, scenario.Timing.Lease, scenario.Timing.Dead,
		time.Since(began).Round(time.Second))
	if err := write(path, about, verdicts); err != nil {
		return err
	}
	fmt.Printf("\ncaptures: %s/*.pcap   consoles: %s/*.log   table: %s\n", l.Dir, l.Dir, path)
	if n := scenario.Failed(verdicts); n > 0 {
		fmt.Printf("%d of %d stories failed\n", n, len(verdicts))
		return errFailed
	}
	fmt.Printf("all %d stories went as they must\n", len(verdicts))
	return nil
}

func write(path, about string, verdicts []scenario.Verdict) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(scenario.WriteStories(f, about, verdicts), f.Close())
}

// load average of this host, as it is before the machines start.
func hostLoad() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}
