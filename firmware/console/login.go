package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/login"
)

// errGone ends a session whose operator has gone.
var errGone = errors.New("the operator has gone")

// resetWord at the login prompt erases the device: whoever has lost the password begins anew, and learns nothing of what was there.
const resetWord = "factory-reset"

// firstPenalty is the pause after the first wrong password; it doubles up to maxPenalty.
const (
	firstPenalty = time.Second
	maxPenalty   = 30 * time.Second
)

// login lets the operator in who knows the password, if there is one. It is called before every command: the password may have been
// set on another console since this session began.
func (c *console) login(ctx context.Context) error {
	if c.opts.ConfigDir == "" || c.known {
		return nil
	}
	if why := c.opts.secrets().Locked(); why != "" {
		return c.unlock(ctx, why)
	}
	penalty := firstPenalty
	for {
		line, err := login.Load(c.opts.ConfigDir)
		if line == "" && err == nil {
			return nil
		}
		word, err := c.readPassword("Password: ")
		if err != nil {
			return errGone
		}
		if word == "" {
			continue
		}
		if word == resetWord {
			c.execute(ctx, resetWord)
			continue
		}
		if line, err = login.Load(c.opts.ConfigDir); err == nil {
			err = login.Verify(line, word)
		}
		if err == nil {
			c.known = true
			return nil
		}
		fmt.Fprintf(c.term, "%v. Lost it? %s erases this device and begins anew.\n", err, resetWord)
		select {
		case <-ctx.Done():
			return errGone
		case <-time.After(penalty):
		}
		penalty = min(2*penalty, maxPenalty)
	}
}

// readPassword asks for a line that is not shown.
func (c *console) readPassword(prompt string) (string, error) {
	callback := c.term.AutoCompleteCallback
	c.term.AutoCompleteCallback = nil
	defer func() { c.term.AutoCompleteCallback = callback }()
	return c.term.ReadPassword(prompt)
}

// askPassword asks for a new password twice, until both are the same and long enough.
func askPassword(read func(string) (string, error), say func(format string, args ...any)) (string, error) {
	for {
		first, err := read(fmt.Sprintf("Admin password (at least %d characters): ", login.MinLength))
		if err != nil {
			return "", err
		}
		if _, err := login.Hash(first); err != nil {
			say("%v\n", err)
			continue
		}
		second, err := read("The same again: ")
		if err != nil {
			return "", err
		}
		if first == second {
			return first, nil
		}
		say("The two are not the same.\n")
	}
}

func (s *session) setPassword(word string) error {
	err := login.Set(either(s.ConfigDir, defaultConfig), word)
	if err == nil && s.passwordSet != nil {
		s.passwordSet()
	}
	return err
}

func (s *session) passwordCommand() *cobra.Command {
	var hash bool
	cmd := &cobra.Command{
		Use: "password", Short: "Set the admin password of this device's console", Args: cobra.NoArgs,
		Long: "Password sets what the serial console asks for. With --hash it prints the line that the file admin of a configuration\n" +
			"drive holds, and changes nothing.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			read := func(prompt string) (string, error) {
				word, err := s.readPassword(prompt)
				if err == nil {
					err = ctx.Err()
				}
				return word, err
			}
			word, err := askPassword(read, func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format, args...) })
			if errors.Is(err, io.EOF) {
				return errors.New("nothing was changed")
			}
			if err != nil {
				return err
			}
			if hash {
				line, err := login.Hash(word)
				if err != nil {
					return err
				}
				return s.say(cmd, line)
			}
			if err := s.setPassword(word); err != nil {
				return &api.Error{Message: err.Error(), Hint: "the password is as it was", Cause: err}
			}
			return s.say(cmd, "The password is set. Consoles ask for it from now on.")
		},
	}
	cmd.Flags().BoolVar(&hash, "hash", false, "print the hash instead, for a configuration drive")
	return cmd
}
