// Command twinkeep is everything that runs on the appliance besides PID 1, in one binary: the daemons, and every
// command an operator has.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/console"
)

// version is set by the image builder.
var version = "dev"

func main() {
	d := &dirs{}
	root := console.NewCommand(console.Options{Version: version})
	root.AddCommand(gatewaydCommand(d), hadCommand(d), statesyncdCommand(d), runCommand(d), witnessCommand(d), cliCommand(d), upgradedCommand(d), haldCommand(d), sshdCommand(d), sshdFrontCommand(), apidCommand(d), apidFrontCommand(), secretsCommand())
	root.PersistentPreRun = func(c *cobra.Command, _ []string) { d.run = c.Flag("run").Value.String() }
	root.SetArgs(console.Normalize(root, os.Args[1:]))
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := root.ExecuteContext(ctx); err != nil {
		console.PrintError(os.Stderr, err)
		os.Exit(1)
	}
}
