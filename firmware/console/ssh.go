package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
)

func (s *session) sshCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ssh", Short: "Show the console over the network, and who may log in", Args: cobra.NoArgs,
		Long: "Over the network this console is reached by ssh admin@ADDRESS, with the admin password or a key of the list. From where is\n" +
			"the policy's (management) or, without one, from zone lan. Port and off: services.ssh of the policy, ssh of the node file.",
	}
	key := &cobra.Command{Use: "key", Short: "Show and change the public keys that may log in", Args: cobra.NoArgs}
	key.AddCommand(
		get(s, &cobra.Command{Use: "list", Short: "List the public keys that may log in"}, func(c *api.Client, ctx context.Context) ([]api.SSHKey, error) {
			st, err := c.SSH(ctx)
			if st.Keys == nil {
				st.Keys = []api.SSHKey{}
			}
			return st.Keys, err
		}, writeSSHKeys),
		s.sshKeyAdd(), s.sshKeyRemove())
	cmd.AddCommand(get(s, &cobra.Command{Use: "status", Short: "Show host key, logins, connections and who is shut out"},
		func(c *api.Client, ctx context.Context) (api.SSHStatus, error) { return c.SSH(ctx) }, writeSSH), key)
	return cmd
}

func (s *session) sshKeyAdd() *cobra.Command {
	return &cobra.Command{
		Use: "add [KEY]", Short: "Let a public key log in; without KEY it is asked for",
		Long:    "Add takes the line of a .pub file: type, key, comment. ed25519, ECDSA and RSA keys from 2048 bits are taken.",
		Example: "  ssh key add ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA… anna@laptop",
		RunE: func(cmd *cobra.Command, args []string) error {
			line := strings.Join(args, " ")
			if line == "" {
				var err error
				line, err = s.readLine("Public key: ")
				if errors.Is(err, io.EOF) || cmd.Context().Err() != nil || strings.TrimSpace(line) == "" {
					return errors.New("nothing was changed")
				}
				if err != nil {
					return err
				}
			}
			key, err := s.client().AddSSHKey(cmd.Context(), line)
			if err != nil {
				return err
			}
			return s.say(cmd, "This key may log in now: "+sshKeyText(key))
		},
	}
}

func (s *session) sshKeyRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove FINGERPRINT|COMMENT", Short: "Take a public key off the list, and end what came in by it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := s.client().RemoveSSHKey(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return s.say(cmd, "This key may not log in any more: "+sshKeyText(key))
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			ctx, cancel := context.WithTimeout(context.Background(), quick)
			defer cancel()
			var names []string
			if st, err := s.client().SSH(ctx); err == nil {
				for _, k := range st.Keys {
					names = append(names, k.Fingerprint+"\t"+k.Comment)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func sshKeyText(k api.SSHKey) string {
	return strings.TrimSpace(k.Type + " " + k.Fingerprint + " " + k.Comment)
}

func writeSSHKeys(w io.Writer, keys []api.SSHKey) {
	if len(keys) == 0 {
		fmt.Fprintln(w, "No public key may log in. ssh key add lets one in.")
		return
	}
	table(w, "TYPE|FINGERPRINT|COMMENT", func(row func(...any)) {
		for _, k := range keys {
			row(k.Type, k.Fingerprint, k.Comment)
		}
	})
}

func writeSSH(w io.Writer, s api.SSHStatus) {
	switch {
	case !s.Enabled:
		fmt.Fprintln(w, "The console over the network is off.")
	case s.Problem != "":
		fmt.Fprintf(w, "The console over the network cannot be reached: %s\n", s.Problem)
	default:
		fmt.Fprintf(w, "The console over the network is at port %d; log in as %s.\n", s.Port, s.User)
	}
	fmt.Fprintf(w, "Host key   %s\n", s.Fingerprint)
	switch {
	case s.Password && len(s.Keys) > 0:
		fmt.Fprintf(w, "Log in by  the admin password, or one of %s\n", count(len(s.Keys), "key"))
	case s.Password:
		fmt.Fprintln(w, "Log in by  the admin password; no key is on the list")
	case len(s.Keys) > 0:
		fmt.Fprintf(w, "Log in by  one of %s; no password is set\n", count(len(s.Keys), "key"))
	default:
		fmt.Fprintln(w, "Log in by  nothing: no password is set and no key is on the list")
	}
	for _, f := range s.Faults {
		fmt.Fprintf(w, "problem: %s\n", f)
	}
	c := s.Counts
	fmt.Fprintf(w, "Since its start: %s, %d refused at once, %s, %d failed\n", count(int(c.Connections), "connection"), c.Refused, count(int(c.Logins), "login"), c.Failures)
	if c.Crashes > 0 {
		fmt.Fprintf(w, "problem: its process has crashed %d times: log --service sshd\n", c.Crashes)
	}
	if len(s.Connections) > 0 {
		fmt.Fprintln(w)
		table(w, "FROM|USER|BY|SINCE|CONSOLES", func(row func(...any)) {
			for _, l := range s.Connections {
				row(l.Source, l.User, l.By, time.Duration(l.For).Round(time.Second), l.Sessions)
			}
		})
	}
	if len(s.ShutOut) > 0 {
		fmt.Fprintln(w)
		table(w, "SHUT OUT|FAILED LOGINS|FOR", func(row func(...any)) {
			for _, o := range s.ShutOut {
				row(o.Source, o.Failures, time.Duration(o.For).Round(time.Second))
			}
		})
	}
}
