package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/setup"
)

func (s *session) setupCommand() *cobra.Command {
	return &cobra.Command{
		Use: "setup", Short: "Answer the questions of the first setup", Args: cobra.NoArgs,
		Long: "Setup asks for member ID, cluster ID and key, registration interface, management address and admin password, and makes the\n" +
			"node file of them. It runs by itself on a device that has none, and only there; change a node file with node edit.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !s.unconfigured() {
				return &api.Error{Message: "this device has a node file already", Hint: "change it with node edit, or begin anew with factory-reset"}
			}
			return s.firstSetup(cmd.Context(), cmd.ErrOrStderr())
		},
	}
}

// unconfigured tells whether there is no node file.
func (s *session) unconfigured() bool {
	_, err := os.Stat(filepath.Join(either(s.ConfigDir, defaultConfig), node.FileName))
	return errors.Is(err, fs.ErrNotExist)
}

// errLater leaves the setup.
var errLater = errors.New("nothing was changed; the command setup asks again")

// firstSetup asks, and puts what comes of it in force. Nothing is kept before the last question.
func (s *session) firstSetup(ctx context.Context, w io.Writer) error {
	nics, err := s.nics(ctx)
	if err != nil {
		return err
	}
	if len(nics) == 0 {
		return &api.Error{Message: "this device has no network interface", Hint: "see hardware"}
	}
	fmt.Fprintf(w, "\nFirst setup. Enter takes what is in brackets; Ctrl-C leaves it.\n")
	st, err := s.secrets().Read()
	if err != nil {
		fmt.Fprintf(w, "%v\n", err)
	}
	wizard := setup.New(nics, st.TPM)
	if err := s.agree(ctx, w, wizard); err != nil {
		return err
	}
	word, err := askPassword(func(p string) (string, error) {
		word, err := s.readPassword(p)
		return word, s.left(ctx, err)
	}, func(format string, args ...any) { fmt.Fprintf(w, format, args...) })
	if err != nil {
		return err
	}
	if !s.unconfigured() {
		return &api.Error{Message: "this device was set up on another console meanwhile", Hint: "nothing was changed here"}
	}
	// Sealed first: then the disk never has them in the clear.
	if wizard.Seal {
		if err := s.sealFirst(w); err != nil {
			return err
		}
	}
	// The password next: a device that serves has one.
	if err := s.setPassword(word); err != nil {
		return err
	}
	status, err := s.client().PutNode(ctx, wizard.NodeFile())
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "The configuration is saved and in force. Licence and policy come next: license install, policy.")
	for _, p := range status.Problems {
		fmt.Fprintf(w, "problem: %s\n", p)
	}
	_, err = s.client().ReloadHA(ctx)
	if ssh, sshErr := s.client().SSH(ctx); sshErr == nil && ssh.Enabled {
		fmt.Fprintf(w, "From the network: ssh %s@%s, with the host key\n  %s\n", ssh.User, wizard.Address.Addr(), ssh.Fingerprint)
	}
	return err
}

// agree asks the questions until the answers as a whole are right.
func (s *session) agree(ctx context.Context, w io.Writer, wizard *setup.Wizard) error {
	for {
		if err := s.questions(ctx, w, wizard); err != nil {
			return err
		}
		fmt.Fprintf(w, "\n%s", wizard.Summary())
		if wizard.Made {
			fmt.Fprintf(w, "Cluster key, for the other members; it is not shown again:\n  %s\n", wizard.Key)
		}
		line, err := s.ask(ctx, "Is that right? yes, or again: ")
		if err != nil {
			return err
		}
		if line == "yes" {
			return nil
		}
		wizard.Again()
	}
}

// questions asks until all have an answer.
func (s *session) questions(ctx context.Context, w io.Writer, wizard *setup.Wizard) error {
	hint := ""
	for {
		q, more := wizard.Question()
		if !more {
			return nil
		}
		if q.Hint != hint {
			if hint = q.Hint; hint != "" {
				fmt.Fprintf(w, "\n%s\n", hint)
			}
		}
		prompt := q.Text
		if q.Default != "" {
			prompt += " [" + q.Default + "]"
		}
		line, err := s.ask(ctx, prompt+": ")
		if err != nil {
			return err
		}
		if err := wizard.Answer(line); err != nil {
			fmt.Fprintf(w, "%v\n", err)
		}
	}
}

func (s *session) ask(ctx context.Context, prompt string) (string, error) {
	line, err := s.readLine(prompt)
	return strings.TrimSpace(line), s.left(ctx, err)
}

// left makes one error of Ctrl-C and a terminal that is gone.
func (s *session) left(ctx context.Context, err error) error {
	if err != nil || ctx.Err() != nil {
		return errLater
	}
	return nil
}

// nics are the physical interfaces.
func (s *session) nics(ctx context.Context) ([]setup.NIC, error) {
	list, err := s.client().Interfaces(ctx)
	if err != nil {
		return nil, err
	}
	var out []setup.NIC
	for _, i := range list {
		if i.Present && i.Place != "" {
			out = append(out, setup.NIC{Name: i.Name, MAC: i.MAC, Link: i.Carrier})
		}
	}
	return out, nil
}
