package console

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/policy"
	policycmd "github.com/twinkeep/twinkeep/firmware/policy/cmd"
	"github.com/twinkeep/twinkeep/firmware/policy/diff"
	explained "github.com/twinkeep/twinkeep/firmware/policy/explain"
	"github.com/twinkeep/twinkeep/firmware/ruleset"
	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// policyCommand works on files, without a daemon, on the administrator's workstation and on the box alike; and on the
// policies of this member.
func (s *session) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "policy", Short: "Check, publish and install policies, the configuration of a whole cluster", Args: cobra.NoArgs,
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "check FILE...", Short: "Check policies and change nothing", Args: cobra.MinimumNArgs(1), RunE: s.policyCheck,
		},
		&cobra.Command{
			Use: "diff OLD NEW", Short: "Tell what changes from one policy to another", Args: cobra.ExactArgs(2), RunE: s.policyDiff,
		},
		&cobra.Command{
			Use: "schema", Short: "Print the JSON Schema of policies, for editors", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := cmd.OutOrStdout().Write(policy.Schema())
				return err
			},
		},
		s.policyExplain(), s.policyRender(),
	)
	cmd.AddCommand(policycmd.Commands(s.policyOptions())...)
	return cmd
}

func (s *session) policyOptions() policycmd.Options {
	return policycmd.Options{
		Socket: func() string { return filepath.Join(s.Run, api.GatewaydSocket) },
		JSON:   func() bool { return s.json },
		Check: func(document []byte) error {
			_, _, err := policy.Parse("policy", document)
			return err
		},
	}
}

// readPolicy reads a file, or standard input for "-".
func readPolicy(cmd *cobra.Command, path string) (*policy.Policy, node.Warnings, []byte, error) {
	var data []byte
	var err error
	if path == "-" {
		data, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), policy.MaxSize+1))
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	p, warnings, err := policy.Parse(path, data)
	return p, warnings, data, err
}

// goodPolicy is readPolicy for a command that needs a good one: it shows what is wrong with another.
func goodPolicy(cmd *cobra.Command, path string) (*policy.Policy, error) {
	p, _, data, err := readPolicy(cmd, path)
	var faults node.ErrorList
	if errors.As(err, &faults) {
		writeProblems(cmd.ErrOrStderr(), faults, data)
		return nil, fmt.Errorf("%s is not used: it has %s", path, count(len(faults), "fault"))
	}
	return p, err
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// policyReport is what check says of one file.
type policyReport struct {
	File     string         `json:"file"`
	Good     bool           `json:"good"`
	Errors   []node.Problem `json:"errors,omitempty"`
	Warnings []node.Problem `json:"warnings,omitempty"`
	Name     string         `json:"name,omitempty"`
	Members  int            `json:"members,omitempty"`
	Rules    int            `json:"rules,omitempty"`
	NAT      int            `json:"nat,omitempty"`
	source   []byte
}

func (s *session) policyCheck(cmd *cobra.Command, files []string) error {
	var reports []policyReport
	bad := 0
	for _, file := range files {
		p, warnings, data, err := readPolicy(cmd, file)
		r := policyReport{File: file, Good: err == nil, Warnings: warnings, source: data}
		var faults node.ErrorList
		switch {
		case errors.As(err, &faults):
			r.Errors = faults
		case err != nil:
			return err
		default:
			r.Name, r.Members, r.Rules, r.NAT = p.Name, len(p.Cluster.Members), len(p.Filter.Rules), len(p.NAT)
		}
		if !r.Good {
			bad++
		}
		reports = append(reports, r)
	}
	if err := show(cmd, s, reports, writePolicyReports); err != nil {
		return err
	}
	if bad > 0 {
		return &api.Error{Message: count(bad, "policy file") + " cannot be used", Hint: "mend what is shown and check again"}
	}
	return nil
}

func writePolicyReports(w io.Writer, reports []policyReport) {
	for _, r := range reports {
		writeProblems(w, r.Errors, r.source)
		for _, p := range r.Warnings {
			fmt.Fprintf(w, "warning: %s\n", oneLine(p))
		}
		if r.Good {
			fmt.Fprintf(w, "%s is good: policy %s for %s, %s, %s.\n", r.File, r.Name,
				count(r.Members, "member"), count(r.Rules, "filter rule"), count(r.NAT, "NAT rule"))
		} else {
			fmt.Fprintf(w, "%s has %s.\n", r.File, count(len(r.Errors), "fault"))
		}
	}
}

func (s *session) policyDiff(cmd *cobra.Command, files []string) error {
	before, err := goodPolicy(cmd, files[0])
	if err != nil {
		return err
	}
	after, err := goodPolicy(cmd, files[1])
	if err != nil {
		return err
	}
	return show(cmd, s, diff.Of(before, after), diff.Write)
}

// explainFlags are the connection that is asked about.
type explainFlags struct {
	from, to, in, proto string
	kind                int
	member              uint8
}

func (s *session) policyExplain() *cobra.Command {
	f := &explainFlags{}
	cmd := &cobra.Command{
		Use: "explain FILE --from ADDRESS --to ADDRESS[:PORT]", Short: "Tell which rules and which NAT apply to a connection", Args: cobra.ExactArgs(1),
		Example: "  policy explain policy.yaml --from 192.0.2.5 --to 198.51.100.7:443\n  policy explain policy.yaml --from 10.1.0.9 --to 8.8.8.8 --proto icmp --in G1",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := goodPolicy(cmd, args[0])
			if err != nil {
				return err
			}
			packet, err := f.packet()
			if err != nil {
				return err
			}
			m, err := memberOf(p, f.member)
			if err != nil {
				return err
			}
			if packet.In != "" && m.Rules.Interface(packet.In) == nil {
				return fmt.Errorf("--in %s: the policy has no such interface", packet.In)
			}
			return show(cmd, s, explained.Explain(m.Rules, packet), func(w io.Writer, r explained.Result) { writeExplained(w, p, packet, r) })
		},
	}
	cmd.Flags().StringVar(&f.from, "from", "", "source, ADDRESS or ADDRESS:PORT")
	cmd.Flags().StringVar(&f.to, "to", "", "destination, ADDRESS or ADDRESS:PORT")
	cmd.Flags().StringVar(&f.in, "in", "", "interface it comes in by (default: the one that leads to the source)")
	cmd.Flags().StringVar(&f.proto, "proto", "", "protocol: tcp, udp, icmp, icmpv6, esp, … or a number (default tcp with a port, else icmp)")
	cmd.Flags().IntVar(&f.kind, "type", -1, "ICMP type (default echo request)")
	cmd.Flags().Uint8Var(&f.member, "member", 0, "member ID (default the first of the policy)")
	for _, need := range []string{"from", "to"} {
		if err := cmd.MarkFlagRequired(need); err != nil {
			panic(err) // the flag is made four lines above
		}
	}
	return cmd
}

// memberOf renders the policy for one member; 0 is the first.
func memberOf(p *policy.Policy, id uint8) (*policy.Member, error) {
	if id == 0 {
		id = p.Cluster.Members[0].ID
	}
	return p.ForMember(id, nil)
}

// endpoint reads an address with or without a port.
func endpoint(text string) (netip.Addr, uint16, error) {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr(), ap.Port(), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, 0, fmt.Errorf("%q is neither an address nor address:port (IPv6: [address]:port)", text)
	}
	return a, 0, nil
}

func (f *explainFlags) packet() (p explained.Packet, err error) {
	if p.From, p.SourcePort, err = endpoint(f.from); err != nil {
		return p, fmt.Errorf("--from: %w", err)
	}
	if p.To, p.Port, err = endpoint(f.to); err != nil {
		return p, fmt.Errorf("--to: %w", err)
	}
	if p.From.Is4() != p.To.Is4() {
		return p, errors.New("--from and --to are of different families: IPv4 goes to IPv4, IPv6 to IPv6")
	}
	p.In, p.Proto, p.Type = f.in, rules.TCP, f.kind
	switch {
	case f.proto != "":
		number, ok := policy.Proto(f.proto)
		if !ok {
			return p, fmt.Errorf("--proto %s is not known: tcp, udp, icmp, icmpv6, esp, … or a number", f.proto)
		}
		p.Proto = number
	case p.Port == 0 && p.From.Is4():
		p.Proto = rules.ICMP
	case p.Port == 0:
		p.Proto = rules.ICMPv6
	}
	if rules.HasPorts(p.Proto) && p.Port == 0 {
		return p, fmt.Errorf("%s needs a port: --to %s", policy.ProtoName(p.Proto), netip.AddrPortFrom(p.To, 443))
	}
	if p.Type < 0 {
		p.Type = map[uint8]int{rules.ICMP: 8, rules.ICMPv6: 128}[p.Proto]
	}
	return p, nil
}

func writeExplained(w io.Writer, p *policy.Policy, packet explained.Packet, r explained.Result) {
	to := packet.To.String()
	if rules.HasPorts(packet.Proto) {
		to = netip.AddrPortFrom(packet.To, packet.Port).String()
	}
	fmt.Fprintf(w, "%s from %s to %s\n", policy.ProtoName(packet.Proto), packet.From, to)
	for _, step := range r.Steps {
		where := ""
		if line := p.Line(step.Rule); line > 0 {
			where = " (line " + strconv.Itoa(line) + ")"
		}
		if step.Rule == "" {
			fmt.Fprintf(w, "  %s\n", step.Text)
		} else {
			fmt.Fprintf(w, "  %s%s: %s\n", step.Rule, where, step.Text)
		}
	}
	fmt.Fprintf(w, "The connection is %s", r.Verdict)
	if r.Verdict == explained.Forwarded {
		from := "the address of " + r.Out
		if r.From.First.IsValid() {
			from = r.From.String()
		}
		to := r.To.String()
		if rules.HasPorts(packet.Proto) {
			to = netip.AddrPortFrom(r.To, r.Port).String()
		}
		fmt.Fprintf(w, " by %s, from %s to %s", r.Out, from, to)
	}
	fmt.Fprintln(w, ".")
}

// policyRender shows what the kernel would get.
func (s *session) policyRender() *cobra.Command {
	var id uint8
	cmd := &cobra.Command{
		Use: "rules FILE", Short: "Print the ruleset that a policy becomes, as nft reads it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := goodPolicy(cmd, args[0])
			if err != nil {
				return err
			}
			m, err := memberOf(p, id)
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.OutOrStdout(), ruleset.Compile(m.Rules).String())
			return err
		},
	}
	cmd.Flags().Uint8Var(&id, "member", 0, "member ID (default the first of the policy)")
	return cmd
}
