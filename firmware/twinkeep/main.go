// Command twinkeep is everything that runs on the appliance besides PID 1, in one binary: the daemons, and every
// command an operator has.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	d := &dirs{}
	root := &cobra.Command{Use: "twinkeep", SilenceUsage: true, SilenceErrors: true}
	root.PersistentFlags().StringVar(&d.run, "run", "/run/twinkeep", "directory of the daemons' sockets")
	root.AddCommand(gatewaydCommand(d), hadCommand(d), runCommand(d))
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "twinkeep:", err)
		os.Exit(1)
	}
}
