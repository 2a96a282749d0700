package console

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/login"
	"github.com/twinkeep/twinkeep/firmware/secrets"
	"github.com/twinkeep/twinkeep/init/supervise"
)

// Secrets are those of the device and what they are sealed to; secrets.Box is the real one.
type Secrets interface {
	Read() (secrets.Status, error)
	Locked() string
	Seal(recovery string) (string, error)
	Unseal() error
	NewRecovery() (string, error)
	Recover(recovery string) (sealed bool, err error)
}

func (o Options) secrets() Secrets {
	if o.Secrets != nil {
		return o.Secrets
	}
	return secrets.Box{}
}

func (s *session) tpmCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "tpm", Short: "Show the TPM, and seal this device's secrets to it", Args: cobra.NoArgs,
		Long: "The secrets are all files in /etc/twinkeep (node file with the cluster key, password, who may log in) and the SSH host key.\n" +
			"Sealed, they lie on the disk encrypted, and only this device's TPM gives out the key: only early in a start, and, where secure\n" +
			"boot was on when they were sealed, only while secure boot is as it was. The recovery key is the way in when that has changed."}
	cmd.AddCommand(
		&cobra.Command{
			Use: "status", Short: "Show whether there is a TPM, and what is sealed to it", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				st, err := s.secrets().Read()
				if err != nil {
					return err
				}
				return show(cmd, s, st, writeTPM)
			},
		},
		&cobra.Command{
			Use: "seal", Short: "Seal the secrets to the TPM; again: to secure boot as it is now", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return s.seal(cmd) },
		},
		&cobra.Command{
			Use: "unseal", Short: "Put the secrets on the disk in the clear again", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if err := s.secrets().Unseal(); err != nil {
					return hinted(err)
				}
				return s.say(cmd, "The secrets lie on the disk in the clear. Nothing is sealed any more.")
			},
		},
		&cobra.Command{
			Use: "recovery-key", Short: "Make a new recovery key; the old one is worth nothing then", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				key, err := s.secrets().NewRecovery()
				if err != nil {
					return hinted(err)
				}
				return s.say(cmd, recoveryText(key))
			},
		},
	)
	return cmd
}

// hinted adds what to do.
func hinted(err error) error {
	if hint := secrets.Hint(err); hint != "" {
		return &api.Error{Message: err.Error(), Hint: hint, Cause: err}
	}
	return err
}

func recoveryText(key string) string {
	return "Recovery key; write it down, it is not shown again:\n  " + key
}

func (s *session) seal(cmd *cobra.Command) error {
	line, err := login.Load(either(s.ConfigDir, defaultConfig))
	if err != nil {
		return err
	}
	if line == "" { // sealed for whoever has the box in his hands
		return &api.Error{Message: "this device has no password, so its console gives everything away", Hint: "set one first: password"}
	}
	key, err := s.secrets().Seal("")
	if err != nil {
		return hinted(err)
	}
	st, err := s.secrets().Read()
	if err != nil {
		return err
	}
	what := "The secrets are sealed to this device's TPM. "
	if st.SecureBoot {
		what = "The secrets are sealed to this device's TPM and to secure boot as it is now. "
	}
	if key == "" {
		return s.say(cmd, what+"The recovery key is as it was.")
	}
	return s.say(cmd, what+recoveryText(key)+"\nThe disk has held them in the clear until now, and may keep traces: a cluster key made from now on was never there.")
}

func writeTPM(w io.Writer, st secrets.Status) {
	switch {
	case !st.TPM:
		fmt.Fprintln(w, "TPM:      none, or the firmware has it off")
	default:
		fmt.Fprintf(w, "TPM:      2.0, %s\n", either(st.Maker, "of an unknown maker"))
	}
	switch {
	case st.Locked != "":
		fmt.Fprintf(w, "Secrets:  LOCKED: %s\n", st.Locked)
	case st.Sealed && st.SecureBoot:
		fmt.Fprintln(w, "Secrets:  sealed to the TPM, and to secure boot as it is")
	case st.Sealed && st.On:
		fmt.Fprintln(w, "Secrets:  sealed to the TPM, but not to secure boot, which was off then; to bind them to it: tpm seal")
	case st.Sealed:
		fmt.Fprintln(w, "Secrets:  sealed to the TPM alone, for secure boot is off: another system on this device could open them")
	case st.TPM:
		fmt.Fprintln(w, "Secrets:  in the clear on the disk; to seal them: tpm seal")
	default:
		fmt.Fprintln(w, "Secrets:  in the clear on the disk")
	}
}

const lockedText = `
THE SECRETS OF THIS DEVICE ARE LOCKED: %s.
It stays closed: nothing runs but this console. What to do:
  - put right what was changed (secure boot, TPM, disk back into its device) and restart; or
  - type the recovery key: the device opens, and seals its secrets to itself as it is now; or
  - type %s: everything is erased, and the setup asks anew, for the cluster key too.
`

// unlock asks for the recovery key until the device restarts.
func (c *console) unlock(ctx context.Context, why string) error {
	fmt.Fprintf(c.term, lockedText, why, resetWord)
	penalty := firstPenalty
	for {
		word, err := c.readPassword("Recovery key: ")
		if err != nil || ctx.Err() != nil {
			return errGone
		}
		switch word {
		case "":
			continue
		case resetWord:
			c.execute(ctx, resetWord)
			continue
		case "reboot", "shutdown":
			c.execute(ctx, word)
			continue
		}
		sealed, err := c.opts.secrets().Recover(word)
		if err == nil {
			what := "The secrets are sealed to this device as it is now."
			if !sealed {
				what = "This device has no TPM: THE SECRETS LIE ON THE DISK IN THE CLEAR NOW."
			}
			fmt.Fprintf(c.term, "%s It restarts.\n", what)
			err = c.session().client().Shutdown(ctx, supervise.Reboot)
			if err == nil {
				<-ctx.Done()
				return errGone
			}
		}
		fmt.Fprintf(c.term, "%v\n", err)
		select {
		case <-ctx.Done():
			return errGone
		case <-time.After(penalty):
		}
		penalty = min(2*penalty, maxPenalty)
	}
}

// sealFirst seals before there is anything to seal, and shows the recovery key.
func (s *session) sealFirst(w io.Writer) error {
	key, err := s.secrets().Seal("")
	if err == nil && key == "" { // a setup that was left here before
		key, err = s.secrets().NewRecovery()
	}
	if err != nil {
		return &api.Error{Message: "the secrets cannot be sealed: " + err.Error(), Hint: "nothing was changed; begin again with setup, and answer no to that question", Cause: err}
	}
	fmt.Fprintln(w, recoveryText(key))
	return nil
}
