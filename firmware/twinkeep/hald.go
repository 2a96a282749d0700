package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/board"
	"github.com/twinkeep/twinkeep/firmware/hald"
	"github.com/twinkeep/twinkeep/firmware/journal"
)

func haldCommand(d *dirs) *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "hald", Short: "Run the daemon of lamps, buttons, temperatures and power-fail input", Args: cobra.NoArgs, Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			b, err := chosenBoard(name)
			if err != nil {
				return err
			}
			ctx, cancel := stopping()
			defer cancel()
			return hald.Run(ctx, hald.Options{Board: b, RunDir: d.run, Ready: ready, Log: journal.New(os.Stderr)})
		},
	}
	c.Flags().StringVar(&name, "board", "auto", "name of the board file")
	return c
}

// chosenBoard is the named one, or the one that the machine's DMI strings choose.
func chosenBoard(name string) (*board.Board, error) {
	if name != "auto" {
		return board.Named(name)
	}
	dmi, err := board.ReadDMI("/sys")
	if err != nil {
		return nil, err
	}
	return board.Select(dmi)
}
