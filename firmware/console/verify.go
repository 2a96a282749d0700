package console

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
)

func (s *session) verifyCommand() *cobra.Command {
	watch := api.DefaultWatch
	cmd := &cobra.Command{
		Use: "verify", Short: "Walk through the response after a failover: is all as it should be?", Args: cobra.NoArgs,
		Long: "Verify asks all members and checks, step by step: one master only; the virtual addresses; the virtual route table, with the management\n" +
			"of the other members false; the NAT entries; traffic for the VIPs through the master and through nobody else; the volume now\n" +
			"against that before the failover. It changes nothing. It ends with an error when a step fails, or is unknown because a member\n" +
			"cannot be asked or there is too little to see.",
		Example: "  cluster verify\n  cluster verify --for 2m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := s.client().Verify(cmd.Context(), watch)
			if err != nil {
				return err
			}
			if err := show(cmd, s, v, writeVerification); err != nil {
				return err
			}
			return verdictOf(v)
		},
	}
	cmd.Flags().DurationVar(&watch, "for", api.DefaultWatch, "watch traffic for this time, up to "+api.MaxWatch.String())
	return cmd
}

// resultWord is a result as the console shows it.
func resultWord(r api.VerifyResult) string {
	return map[api.VerifyResult]string{api.VerifyOK: "OK", api.VerifyFailed: "FAILED", api.VerifyUnknown: "UNKNOWN", api.VerifySkipped: "SKIPPED"}[r]
}

func writeVerification(w io.Writer, v api.Verification) {
	master := either(v.Master, "none that is known")
	fmt.Fprintf(w, "Cluster %s, master %s, term %d, asked from %s\n", either(v.Cluster, "-"), master, v.Term, v.Member)
	for i, step := range v.Steps {
		fmt.Fprintf(w, "\n%d. %s: %s\n", i+1, step.Name, resultWord(step.Result))
		for _, e := range step.Evidence {
			fmt.Fprintf(w, "   %s\n", e)
		}
		for _, n := range step.Next {
			fmt.Fprintf(w, "   do: %s\n", n)
		}
	}
	fmt.Fprintf(w, "\n%s (traffic watched for %s)\n", resultWord(v.Result), short(time.Duration(v.Watched)))
}

// verdictOf is nil when every step is ok.
func verdictOf(v api.Verification) error {
	failed, unknown := 0, 0
	for _, s := range v.Steps {
		switch s.Result {
		case api.VerifyFailed:
			failed++
		case api.VerifyUnknown:
			unknown++
		}
	}
	switch {
	case failed > 0 && unknown > 0:
		return &api.Error{Message: fmt.Sprintf("%s failed, %d unknown", plural(failed, "step"), unknown)}
	case failed > 0:
		return &api.Error{Message: plural(failed, "step") + " failed"}
	case unknown > 0:
		return &api.Error{Message: fmt.Sprintf("%s unknown: not verified", plural(unknown, "step"))}
	}
	return nil
}
