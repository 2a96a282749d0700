package console

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
)

func (s *session) rulesCommand() *cobra.Command {
	var unused bool
	cmd := &cobra.Command{
		Use: "rules", Short: "Show what each rule of the filter and of NAT has matched", Args: cobra.NoArgs,
		Long: "Rules lists the rules in the kernel by their names, as 'policy explain' says them, with what they have matched since they are in force. A reload\n" +
			"or a new policy goes on counting where the rule is the same. Rules of the filter and of NAT see the first packet of a connection, so their\n" +
			"packets are connections; 'dropped/…' and 'spoofed/…' count packets that were not let through. Each member counts for itself: a standby\n" +
			"has matched what came while it was active.",
		Example: "  rules\n  rules --unused",
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := s.client().Rules(cmd.Context())
			if err != nil {
				return err
			}
			if unused {
				r.Rules = slices.DeleteFunc(r.Rules, func(n api.RuleCount) bool { return n.Packets > 0 })
			}
			return show(cmd, s, r, writeRules)
		},
	}
	cmd.Flags().BoolVar(&unused, "unused", false, "only rules that have matched nothing")
	return cmd
}

func writeRules(w io.Writer, r api.RuleCounts) {
	fmt.Fprintf(w, "Rules of %s\n\n", r.Member)
	table(w, "RULE|PACKETS|BYTES", func(row func(...any)) {
		for _, n := range r.Rules {
			row(n.Rule, n.Packets, n.Bytes)
		}
	})
	if r.Left > 0 {
		fmt.Fprintf(w, "\n%s not listed\n", plural(r.Left, "further rule"))
	}
}
