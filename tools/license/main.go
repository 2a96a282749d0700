// Command license is the vendor's side of licences: it makes keys, issues licences, shows them, and serves as a licence
// server.
//
//	go run ./tools/license keygen --out vendor
//	go run ./tools/license issue --key vendor.key --mac 52:54:00:12:34:56 --owner "Example AB" --days 365 --out example.licence
//	go run ./tools/license show example.licence --pub vendor.pub
//	go run ./tools/license serve --key vendor.key --listen :8443 --list licences.txt
//
// vendor.pub belongs into firmware/license/keys before the firmware is built; vendor.key stays off line.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use: "license", Short: "Make licence keys, issue and show licences, serve them",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(keygenCommand(), issueCommand(), showCommand(), serveCommand())
	return root
}
