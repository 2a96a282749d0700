package console

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
)

func (s *session) routesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "routes [MEMBER]", Short: "Show the virtual route table: routes, who serves them, and whether they are available here",
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: s.completePeers,
		Long: "Routes shows the kernel's routes with their owner. Those of CLUSTER-master follow the member that holds the role: they are available\n" +
			"there, and on the others as soon as they take over. Management routes are the members' own addresses: those of another member\n" +
			"are never available here. With MEMBER the table of that member is asked for.",
		Example: "  routes\n  routes gw-b",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, ctx := s.client(), cmd.Context()
			t, err := api.RouteTable{}, error(nil)
			if len(args) > 0 {
				t, err = c.PeerRoutes(ctx, args[0])
			} else {
				t, err = c.Routes(ctx)
			}
			if err != nil {
				return err
			}
			return show(cmd, s, t, writeRoutes)
		},
	}
}

func writeRoutes(w io.Writer, t api.RouteTable) {
	switch {
	case t.Problem != "":
		fmt.Fprintf(w, "Routes of %s; who holds the role is not known: %s\n\n", t.Member, t.Problem)
	case t.Master != "" && t.Holder == "":
		fmt.Fprintf(w, "Routes of %s; nobody holds the role: nobody serves %s\n\n", t.Member, t.Master)
	case t.Master != "":
		fmt.Fprintf(w, "Routes of %s; %s is %s\n\n", t.Member, t.Master, t.Holder)
	}
	table(w, "DESTINATION|GATEWAY|INTERFACE|METRIC|OWNER|AVAILABLE|KIND|WHY NOT", func(row func(...any)) {
		for _, r := range t.Routes {
			gateway := ""
			if r.Gateway.IsValid() {
				gateway = r.Gateway.String()
			}
			why := r.Why
			if r.Fault {
				why = "FAULT: " + why
			}
			row(r.Destination, gateway, r.Interface, r.Metric, r.Owner, r.Available, r.Kind, why)
		}
	})
	if t.Left > 0 {
		fmt.Fprintf(w, "\n%s not listed\n", plural(t.Left, "further route"))
	}
}
