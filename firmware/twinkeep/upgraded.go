package main

import (
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/journal"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp"
	"github.com/twinkeep/twinkeep/firmware/upgrade/trial"
	"github.com/twinkeep/twinkeep/firmware/upgraded"
)

// slotsFlag names a folder that stands for the slots, for members that run as ordinary processes.
const slotsFlag = "slots"

func upgradedCommand(d *dirs) *cobra.Command {
	var slots string
	var healthy time.Duration
	c := &cobra.Command{
		Use: "upgraded", Short: "Run the daemon of upgrades", Args: cobra.NoArgs, Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			ctx, cancel := stopping()
			defer cancel()
			return upgraded.Run(ctx, upgraded.Options{
				ConfigDir: d.config, StateDir: d.state, RunDir: d.run, Place: esp.Place{Root: slots}, HealthyFor: healthy, Ready: ready, Log: journal.New(os.Stderr),
			})
		},
	}
	d.flags(c)
	c.Flags().StringVar(&slots, slotsFlag, "", "folder that stands for the slots (default: those of this device)")
	c.Flags().DurationVar(&healthy, "healthy", healthyFor(), "how long this member must be healthy before an image on trial is kept")
	return c
}

// healthyFor is the product's time, or what the kernel command line says; that
// is part of the signed image.
func healthyFor() time.Duration {
	line, _ := os.ReadFile("/proc/cmdline") // absent: the default
	for word := range strings.FieldsSeq(string(line)) {
		if v, ok := strings.CutPrefix(word, "twinkeep.trial.healthy="); ok {
			if d, err := time.ParseDuration(v); err == nil {
				return d
			}
		}
	}
	return trial.HealthyFor
}
