package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/apid"
	"github.com/twinkeep/twinkeep/firmware/journal"
)

func apidCommand(d *dirs) *cobra.Command {
	c := &cobra.Command{
		Use: "apid", Short: "Run the daemon of the API over the network", Args: cobra.NoArgs, Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			ctx, cancel := stopping()
			defer cancel()
			return apid.Run(ctx, apid.Options{ConfigDir: d.config, StateDir: d.state, RunDir: d.run, Program: self, Version: version, Ready: ready, Log: journal.New(os.Stderr)})
		},
	}
	d.flags(c)
	return c
}

// apidFrontCommand is the process of apid that speaks with the network.
func apidFrontCommand() *cobra.Command {
	return &cobra.Command{
		Use: apid.FrontCommand + " ROOT", Short: "Speak HTTPS for apid", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error { return apid.Front(args[0]) },
	}
}
