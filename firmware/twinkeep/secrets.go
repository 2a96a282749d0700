package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/secrets"
)

// maxRecovery bounds what is read of a recovery key, in bytes.
const maxRecovery = 256

// secretsCommand is what PID 1 calls for the secrets of a box.
func secretsCommand() *cobra.Command {
	c := &cobra.Command{Use: "secrets", Short: "Open or seal the secrets for PID 1", Args: cobra.NoArgs, Hidden: true}
	c.AddCommand(
		&cobra.Command{
			Use: "start", Short: "Open what is sealed", Args: cobra.NoArgs,
			Run: func(*cobra.Command, []string) {
				secrets.Start(func(format string, args ...any) { fmt.Printf(format+"\n", args...) })
			},
		},
		&cobra.Command{
			Use: "seal", Short: "Seal with the recovery key on standard input", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				b, err := io.ReadAll(io.LimitReader(os.Stdin, maxRecovery))
				if err != nil {
					return err
				}
				_, err = secrets.Box{}.Seal(string(b))
				return err
			},
		},
	)
	return c
}
