package console

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
)

// connFlags are the filters of conn: the API's, with their help.
var connFlags = [][2]string{
	{"proto", "only this protocol: tcp, udp, icmp, icmpv6, sctp, gre or a number"},
	{"src", "only from this address or network"},
	{"dst", "only to this address or network"},
	{"sport", "only from this port, or range of ports a-b"},
	{"dport", "only to this port, or range of ports a-b"},
	{"reply-src", "only answered from this address or network: where a translated destination is"},
	{"reply-dst", "only answered to this address or network: where a translated source comes out"},
	{"reply-sport", "only answered from this port or range"},
	{"reply-dport", "only answered to this port or range: the outside port of a translated source"},
	{"state", "only in this state of TCP, or assured, unreplied, offload"},
	{"mark", "only with this mark, or mark/mask"},
	{"zone", "only in this zone of connection tracking"},
}

// connValues are what can stand behind a filter.
var connValues = map[string][]string{
	"proto": {"tcp", "udp", "icmp", "icmpv6", "sctp", "gre"},
	"state": {"syn_sent", "syn_recv", "established", "fin_wait", "close_wait", "last_ack", "time_wait", "close", "assured", "unreplied", "offload"},
}

func (s *session) connCommand() *cobra.Command {
	var f api.ConnectionFilter
	cmd := &cobra.Command{
		Use: "conn", Short: "Show connections through this device", Args: cobra.NoArgs,
		Long: "Conn shows connections as the kernel tracks them. Filters are for the direction in which a connection began, or, with reply-,\n" +
			"for its answers: --reply-dst and --reply-dport are the outside address and port of a translated source.",
		Example: "  conn --proto tcp --state established --dport 443\n  conn --reply-dst 192.0.2.1 --reply-dport 40000-41000\n  conn --src 10.1.0.0/24 --limit 500000",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ctx := s.client(), cmd.Context()
			count, err := c.ConnectionCount(ctx)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			defer out.Flush()
			w := connWriter{w: out, json: s.json}
			matching, err := c.EachConnection(ctx, f, w.add)
			if err != nil {
				return err
			}
			w.end(matching, count)
			return nil
		},
	}
	cmd.Flags().IntVar(&f.Limit, "limit", api.DefaultLimit, "show so many at most")
	values := f.Values()
	for _, flag := range connFlags {
		cmd.Flags().StringVar(values[flag[0]], flag[0], "", flag[1])
		if choices := connValues[flag[0]]; choices != nil {
			cmd.RegisterFlagCompletionFunc(flag[0], cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	cmd.AddCommand(s.connDiffCommand())
	return cmd
}

// connBlock is how many connections are lined up with each other; so many are in memory.
const connBlock = 500

// connWriter writes connections as they come.
type connWriter struct {
	w     io.Writer
	json  bool
	block []api.Connection
	shown int
}

func (c *connWriter) add(one api.Connection) error {
	if c.json {
		before := "{\n  \"connections\": [\n"
		if c.shown > 0 {
			before = ",\n"
		}
		c.shown++
		if _, err := io.WriteString(c.w, before); err != nil {
			return err
		}
		return printJSON(c.w, one)
	}
	if c.block = append(c.block, one); len(c.block) == connBlock {
		c.flush()
	}
	return nil
}

func (c *connWriter) flush() {
	header := "PROTO|STATE|SOURCE|DESTINATION|TRANSLATED|TIMEOUT|PACKETS|BYTES"
	rows := table
	if c.shown > 0 {
		rows = func(w io.Writer, _ string, f func(func(...any))) { tableRows(w, "", f) }
	}
	rows(c.w, header, func(row func(...any)) {
		for _, one := range c.block {
			writeConnection(one, row)
		}
	})
	c.shown += len(c.block)
	c.block = c.block[:0]
}

func (c *connWriter) end(matching int, count api.ConnectionCount) {
	if c.json {
		if c.shown == 0 {
			io.WriteString(c.w, "{\n  \"connections\": [")
		}
		fmt.Fprintf(c.w, "],\n  \"matching\": %d\n}\n", matching)
		return
	}
	if len(c.block) > 0 || c.shown == 0 {
		c.flush()
	}
	fmt.Fprintln(c.w)
	if hidden := matching - c.shown; hidden > 0 {
		fmt.Fprintf(c.w, "%d more match; see them with --limit %d\n", hidden, matching)
	}
	fmt.Fprintf(c.w, "Connections %d out of %d\n", count.Count, count.Max)
}

func writeConnection(c api.Connection, row func(...any)) {
	o, r := c.Original, c.Reply
	state, timeout := c.State, fmt.Sprintf("%ds", c.Timeout)
	if c.Offload {
		state, timeout = "OFFLOAD", ""
	}
	row(c.Proto, state, end(o.Src, o.SrcPort), end(o.Dst, o.DstPort), translated(c), timeout, o.Packets+r.Packets, size(o.Bytes+r.Bytes))
}

// translated is what NAT made of the connection: its ends as the far side sees them.
func translated(c api.Connection) string {
	o, r := c.Original, c.Reply
	var out []string
	if r.Dst != o.Src || c.Proto != "icmp" && r.DstPort != o.SrcPort {
		out = append(out, "from "+end(r.Dst, r.DstPort))
	}
	if r.Src != o.Dst || c.Proto != "icmp" && r.SrcPort != o.DstPort {
		out = append(out, "to "+end(r.Src, r.SrcPort))
	}
	return strings.Join(out, " ")
}

func end(a netip.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}
