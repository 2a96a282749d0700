package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/upgrade/trial"
)

// upgradedCommand is the daemon that confirms an image on trial. Afterwards it
// waits for the end, for a service that has nothing to do has not failed.
func upgradedCommand(d *dirs) *cobra.Command {
	return &cobra.Command{
		Use: "upgraded", Short: "Run the daemon that keeps an image on trial once this member is healthy", Args: cobra.NoArgs, Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			ctx, cancel := stopping()
			defer cancel()
			ready()
			err := (trial.Box{RunDir: d.run}).Run(ctx, trial.Member{Client: api.NewClient(d.run)}, healthyFor(), func(format string, args ...any) {
				fmt.Fprintf(os.Stderr, format+"\n", args...)
			})
			if err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		},
	}
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
