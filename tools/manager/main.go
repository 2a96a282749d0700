// Command manager is Twinkeep's management server: an OCI registry with TLS and tokens on a local disk.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/tools/manager/fleet"
	"github.com/twinkeep/twinkeep/tools/manager/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use: "twinkeep-manager", Short: "Management server of Twinkeep gateways", SilenceUsage: true, SilenceErrors: true,
	}
	var dir string
	root.PersistentFlags().StringVar(&dir, "dir", "/var/lib/twinkeep-manager", "directory of keys, tokens and policies")
	root.AddCommand(serveCommand(&dir), tokenCommand(&dir, "gateway-token", "Make a read-only token for gateways", "gateway", false),
		tokenCommand(&dir, "operator-token", "Make a token that may publish policies", "operator", true),
		tokensCommand(&dir), revokeCommand(&dir), fleet.Command())
	return root
}

func serveCommand(dir *string) *cobra.Command {
	var listen string
	var names []string
	c := &cobra.Command{
		Use: "serve", Short: "Run the server; the first start makes keys and tokens and prints what to put into the gateways",
		Example: "  twinkeep-manager serve --dir /srv/twinkeep --listen :8443 --name manager.example.net",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(os.Stderr, nil))
			s, err := server.Open(cmd.Context(), server.Options{Dir: *dir, Names: names, Log: log})
			if err != nil {
				return err
			}
			ln, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			address := address(ln, names)
			if s.First {
				if err := welcome(cmd, s, *dir, address); err != nil {
					return err
				}
			}
			log.Info("serving", "address", address, "dir", *dir)
			return s.Serve(cmd.Context(), ln)
		},
	}
	c.Flags().StringVar(&listen, "listen", ":8443", "address to listen on")
	c.Flags().StringSliceVar(&names, "name", nil, "host name or address that gateways use, beside those of this machine")
	return c
}

// address is what a gateway may call the server by.
func address(ln net.Listener, names []string) string {
	host, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return ln.Addr().String()
	}
	switch ip := net.ParseIP(host); {
	case len(names) > 0:
		host = names[0]
	case ip == nil || ip.IsUnspecified():
		if h, err := os.Hostname(); err == nil {
			host = h
		}
	}
	return net.JoinHostPort(host, port)
}

// welcome makes the first two tokens and shows where they go.
func welcome(cmd *cobra.Command, s *server.Server, dir, address string) error {
	gateway, err := s.Tokens.Add(server.Token{Name: "gateway"})
	if err != nil {
		return err
	}
	operator, err := s.Tokens.Add(server.Token{Name: "operator", Write: true})
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "# A new management server in %s. The tokens below are shown only now.\n", dir)
	fmt.Fprintf(w, "#\n# For every gateway, as manager.yaml in its config directory (read-only):\n")
	settings(cmd, s, address, gateway)
	fmt.Fprintf(w, "#\n# For the operator's workstation: the same file with this token, which may publish:\n")
	fmt.Fprintf(w, "# token: %s\n", operator)
	return nil
}

func settings(cmd *cobra.Command, s *server.Server, address, token string) {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "address: %s\nrepository: policies/NAME # the name of the policy\ntoken: %s\nca: |\n", address, token)
	for line := range strings.Lines(string(s.CA())) {
		fmt.Fprintf(w, "  %s", line)
	}
}

func tokenCommand(dir *string, use, short, name string, write bool) *cobra.Command {
	var repository string
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := server.OpenTokens(*dir)
			if err != nil {
				return err
			}
			secret, err := t.Add(server.Token{Name: name, Write: write, Repository: repository})
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), secret)
			return nil
		},
	}
	c.Flags().StringVar(&name, "name", name, "what the token is called in the list and in the log")
	c.Flags().StringVar(&repository, "repository", "", "the only repository it opens, e.g. policies/office; empty: all")
	return c
}

func tokensCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use: "tokens", Short: "List the tokens, without their secrets", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := server.OpenTokens(*dir)
			if err != nil {
				return err
			}
			list, err := t.List()
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%-20s %-10s %-24s %s\n", "NAME", "ACCESS", "REPOSITORY", "CREATED")
			for _, token := range list {
				access, repository := "read", "all"
				if token.Write {
					access = "write"
				}
				if token.Repository != "" {
					repository = token.Repository
				}
				fmt.Fprintf(w, "%-20s %-10s %-24s %s\n", token.Name, access, repository, token.Created.Format("2006-01-02 15:04"))
			}
			return nil
		},
	}
}

func revokeCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "Take a token back, at once", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := server.OpenTokens(*dir)
			if err != nil {
				return err
			}
			return t.Revoke(args[0])
		},
	}
}
