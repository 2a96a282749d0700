package console

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
)

func (s *session) apiCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "api", Short: "Show the API over the network, and who may use it", Args: cobra.NoArgs,
		Long: "Programs reach it by HTTPS at a member's own addresses, with a token. It is closed until the policy (services.api) or, without\n" +
			"one, the node file (api) enables it and there is a token. docs/api.md has its list of requests.",
	}
	token := &cobra.Command{Use: "token", Short: "Show and change the tokens", Args: cobra.NoArgs}
	token.AddCommand(
		get(s, &cobra.Command{Use: "list", Short: "List the tokens and what they may do"}, func(c *api.Client, ctx context.Context) ([]api.RemoteToken, error) {
			st, err := c.Remote(ctx)
			return st.Tokens, err
		}, writeRemoteTokens),
		s.apiTokenCreate(), s.apiTokenRemove())
	cmd.AddCommand(
		get(s, &cobra.Command{Use: "status", Short: "Show whether it is open, and the pin of its key"},
			func(c *api.Client, ctx context.Context) (api.RemoteStatus, error) { return c.Remote(ctx) }, writeRemote),
		get(s, &cobra.Command{Use: "certificate", Short: "Show its certificate, for clients that want a file"},
			func(c *api.Client, ctx context.Context) (api.RemoteStatus, error) { return c.Remote(ctx) },
			func(w io.Writer, st api.RemoteStatus) { fmt.Fprint(w, st.Certificate) }),
		token)
	return cmd
}

func (s *session) apiTokenCreate() *cobra.Command {
	role := "read"
	c := &cobra.Command{
		Use: "create NAME", Short: "Make a token; it is shown once", Args: cobra.ExactArgs(1),
		Long:    "A token of the role read sees states; one of the role admin may also install policies, move the role and report devices.",
		Example: "  api token create monitoring\n  api token create deploy --role admin",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := s.client().CreateRemoteToken(cmd.Context(), api.RemoteToken{Name: args[0], Role: role})
			if err != nil {
				return err
			}
			return show(cmd, s, t, func(w io.Writer, t api.RemoteSecret) {
				fmt.Fprintf(w, "%s\nThis token is not kept and not shown again. Who has it may %s.\n", t.Token, remoteRole(t.Role))
			})
		},
	}
	c.Flags().StringVar(&role, "role", role, "read or admin")
	c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"read", "admin"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func remoteRole(role string) string {
	if role == "admin" {
		return "change this member"
	}
	return "look at its states"
}

func (s *session) apiTokenRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Make a token worthless", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := s.client().RemoveRemoteToken(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return s.say(cmd, "This token is worthless now: "+t.Name)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			ctx, cancel := context.WithTimeout(context.Background(), quick)
			defer cancel()
			var names []string
			if st, err := s.client().Remote(ctx); err == nil {
				for _, t := range st.Tokens {
					names = append(names, t.Name+"\t"+t.Role)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func writeRemoteTokens(w io.Writer, tokens []api.RemoteToken) {
	if len(tokens) == 0 {
		fmt.Fprintln(w, "There is no token. api token create NAME makes one.")
		return
	}
	table(w, "TOKEN|MAY", func(row func(...any)) {
		for _, t := range tokens {
			row(t.Name, remoteRole(t.Role))
		}
	})
}

func writeRemote(w io.Writer, s api.RemoteStatus) {
	switch {
	case s.Problem != "":
		fmt.Fprintf(w, "The API over the network cannot be reached: %s\n", s.Problem)
	case !s.Enabled:
		fmt.Fprintln(w, "The API over the network is off. Enable it by services.api of the policy or, without one, by api of the node file.")
	case len(s.Tokens) == 0:
		fmt.Fprintln(w, "The API over the network is closed: there is no token. api token create NAME makes one.")
	case !s.Open:
		fmt.Fprintln(w, "The API over the network is starting.")
	default:
		fmt.Fprintf(w, "The API over the network is at port %d, by HTTPS.\n", s.Port)
	}
	names := make([]string, 0, len(s.Tokens))
	for _, t := range s.Tokens {
		names = append(names, t.Name+" ("+t.Role+")")
	}
	fmt.Fprintf(w, "Key     %s\n", s.Pin)
	if len(names) > 0 {
		fmt.Fprintf(w, "Tokens  %s\n", strings.Join(names, ", "))
	}
	fmt.Fprintf(w, "Since its start: %s, %d refused\n", count(int(s.Counts.Requests), "request"), s.Counts.Refused)
	if s.Counts.Crashes > 0 {
		fmt.Fprintf(w, "problem: its process has crashed %d times: log --service apid\n", s.Counts.Crashes)
	}
}
