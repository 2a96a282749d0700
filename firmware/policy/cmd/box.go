package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/peerapi"
	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/install"
	"github.com/twinkeep/twinkeep/firmware/policy/registry"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// boxLimit is how long a member may take: an install on all of them, with one that does not answer.
const boxLimit = 4 * time.Minute

// call asks the member of this machine.
func (o Options) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, boxLimit)
	defer cancel()
	socket := o.Socket()
	client := &http.Client{Transport: &http.Transport{
		DialContext:       unixhttp.Dial(socket),
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://member"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		if dial, ok := errors.AsType[*net.OpError](err); (!ok || dial.Op != "dial") && method != http.MethodGet {
			return nil, unanswered(socket, err)
		}
		return nil, fmt.Errorf("no answer on %s: %w: is this a gateway, and is gatewayd running?", socket, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxFile))
	if err != nil && method != http.MethodGet {
		err = unanswered(socket, err)
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		e := &peerapi.Error{}
		if json.Unmarshal(data, e) != nil || e.Message == "" {
			e.Message = path + ": " + resp.Status
		}
		return nil, e
	}
	return data, nil
}

// unanswered is about an order that the member has heard and may have carried out, or may yet.
func unanswered(socket string, err error) error {
	return fmt.Errorf("the answer on %s was lost: %w: it is not known what became of the order; policy status shows what is in force", socket, err)
}

func (o Options) status(ctx context.Context) (s install.Status, err error) {
	data, err := o.call(ctx, http.MethodGet, install.PathStatus, nil)
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	return s, err
}

// show prints v as JSON when that is wanted, else with write.
func (o Options) show(cmd *cobra.Command, v any, write func(io.Writer)) error {
	w := cmd.OutOrStdout()
	if !o.JSON() {
		write(w)
		return nil
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func (o Options) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the policy in force and what awaits the operator", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := o.status(cmd.Context())
			if err != nil {
				return err
			}
			return o.show(cmd, s, func(w io.Writer) { writeStatus(w, s) })
		},
	}
}

func writeStatus(w io.Writer, s install.Status) {
	switch {
	case s.Uninstalled:
		fmt.Fprintln(w, "The policy is uninstalled on this member: nothing is forwarded.")
	case s.InForce.IsZero():
		fmt.Fprintln(w, "No policy is in force: nothing is forwarded.")
	default:
		fmt.Fprintf(w, "In force: %s of policy %s%s\n", s.InForce, s.Meta.Name, details(s.Meta))
	}
	if s.Standing.Why != "" {
		fmt.Fprintf(w, "This member may not hold the role: %s\n", s.Standing.Why)
	}
	if s.Missed != nil {
		fmt.Fprintf(w, "Missed: %s; it takes that or something newer to serve\n", s.Missed)
	}
	for _, p := range s.Peers {
		runs := "no policy"
		if p.Revision != 0 {
			runs = fmt.Sprintf("revision %d (%.8s)", p.Revision, p.Digest)
		}
		fmt.Fprintf(w, "%s (%s): %s\n", p.Name, p.State, runs)
	}
	if s.Recovery != "" {
		fmt.Fprintf(w, "Last recovery: this member %s\n", s.Recovery)
	}
	if s.Server != "" {
		fmt.Fprintf(w, "Management server: %s\n", s.Server)
	}
	if s.Under != nil {
		fmt.Fprintf(w, "Under way: %s\n", s.Under)
	}
	if c := s.Confirm; c != nil {
		fmt.Fprintf(w, "Goes back to %s in %v unless confirmed with: policy confirm\n", c.Previous, c.Remaining.Round(time.Second))
	}
	if len(s.Unsynced) > 0 {
		fmt.Fprintf(w, "%d policies of this member never reached its peer: policy unsynced\n", len(s.Unsynced))
	}
	for _, d := range s.Damage {
		fmt.Fprintf(w, "Damaged on the disk: %s\n", d)
	}
}

func details(m artifact.Meta) string {
	var parts []string
	if m.Author != "" {
		parts = append(parts, "by "+m.Author)
	}
	if !m.Created.IsZero() {
		parts = append(parts, m.Created.Format("2006-01-02 15:04 MST"))
	}
	if m.Restores != 0 {
		parts = append(parts, fmt.Sprintf("restores revision %d", m.Restores))
	}
	if len(parts) == 0 {
		return ""
	}
	return ", " + strings.Join(parts, ", ")
}

func (o Options) historyCommand() *cobra.Command {
	var s server
	c := &cobra.Command{
		Use: "history", Short: "List the policies on this member, or at the management server with --settings", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("settings") {
				return s.with(func(r *registry.Registry) error { return o.serverHistory(cmd, r) })
			}
			st, err := o.status(cmd.Context())
			if err != nil {
				return err
			}
			return o.show(cmd, st.History, func(w io.Writer) {
				if st.Missed != nil {
					fmt.Fprintf(w, "- %s: missed here\n", st.Missed)
				}
				for _, e := range st.History {
					mark := " "
					if e.InForce {
						mark = "*"
					}
					fmt.Fprintf(w, "%s %s%s\n", mark, e.Ref, details(e.Meta))
					if e.Refused != "" {
						fmt.Fprintf(w, "    refused: %s\n", e.Refused)
					}
				}
			})
		},
	}
	s.flag(c)
	return c
}

// serverHistoryLength is how many revisions are looked at: each costs a request.
const serverHistoryLength = 20

func (o Options) serverHistory(cmd *cobra.Command, r *registry.Registry) error {
	revisions, err := r.Revisions(cmd.Context())
	if err != nil {
		return err
	}
	var entries []install.HistoryEntry
	for _, n := range revisions[:min(len(revisions), serverHistoryLength)] {
		e, err := entry(cmd.Context(), r, n)
		if err != nil {
			return err
		}
		entries = append(entries, e)
	}
	return o.show(cmd, entries, func(w io.Writer) {
		for _, e := range entries {
			fmt.Fprintf(w, "%s%s\n", e.Ref, details(e.Meta))
		}
		if left := len(revisions) - len(entries); left > 0 {
			fmt.Fprintf(w, "and %d older ones\n", left)
		}
	})
}

func entry(ctx context.Context, r *registry.Registry, revision uint64) (e install.HistoryEntry, err error) {
	if e.Ref, err = r.Revision(ctx, revision); err != nil {
		return e, err
	}
	data, err := r.Manifest(ctx, e.Digest)
	if err != nil {
		return e, err
	}
	e.Meta, _, err = artifact.ParseManifest(data)
	return e, err
}

func (o Options) unsyncedCommand() *cobra.Command {
	return &cobra.Command{
		Use: "unsynced", Short: "List the policies of this member that never reached its peer",
		Long: "After a crash, the other member goes on with what it has. What only this member knew is kept and listed here. Keep one with\n" +
			"policy install --digest D, look at it with policy file --digest D, or give them up with cluster resume-sync.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := o.status(cmd.Context())
			if err != nil {
				return err
			}
			return o.show(cmd, s.Unsynced, func(w io.Writer) {
				if len(s.Unsynced) == 0 {
					fmt.Fprintln(w, "None.")
				}
				for _, u := range s.Unsynced {
					fmt.Fprintf(w, "revision %d  %s", u.Revision, u.Digest)
					switch {
					case u.Abandoned:
						fmt.Fprint(w, "  given up for the cluster's policy")
					case len(u.Missed) > 0:
						fmt.Fprintf(w, "  missed by %s", strings.Join(u.Missed, ", "))
					}
					fmt.Fprintln(w)
				}
			})
		},
	}
}

// which names a stored policy.
type which struct {
	revision uint64
	digest   string
}

func (p *which) flags(c *cobra.Command) {
	c.Flags().Uint64Var(&p.revision, "revision", 0, "a revision of this member's history")
	c.Flags().StringVar(&p.digest, "digest", "", "a policy of this member's history, by its digest")
	c.MarkFlagsMutuallyExclusive("revision", "digest")
}

func (p *which) query() url.Values {
	q := url.Values{}
	if p.revision != 0 {
		q.Set("revision", strconv.FormatUint(p.revision, 10))
	}
	if p.digest != "" {
		q.Set("digest", p.digest)
	}
	return q
}

func (o Options) fileCommand() *cobra.Command {
	var p which
	var out string
	c := &cobra.Command{
		Use: "file", Short: "Show a stored policy's document, or save it as a signed policy file with --out", Args: cobra.NoArgs,
		Example: "  twinkeep policy file --revision 42 > office-42.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := p.query()
			if len(q) == 0 {
				s, err := o.status(cmd.Context())
				if err != nil {
					return err
				}
				if s.InForce.IsZero() {
					return fmt.Errorf("no policy is in force: choose one with --revision or --digest; policy history lists them")
				}
				q.Set("digest", string(s.InForce.Digest))
			}
			data, err := o.call(cmd.Context(), http.MethodGet, install.PathFile+"?"+q.Encode(), nil)
			if err != nil {
				return err
			}
			a, err := artifact.ReadBundle(bytes.NewReader(data))
			if err != nil {
				return err
			}
			if out != "" {
				return writeBundle(cmd, out, a)
			}
			_, err = cmd.OutOrStdout().Write(a.Document)
			return err
		},
	}
	p.flags(c)
	c.Flags().StringVar(&out, "out", "", "policy file to write")
	return c
}

func (o Options) installCommand() *cobra.Command {
	var p which
	var confirm time.Duration
	var partial, again, server bool
	c := &cobra.Command{
		Use: "install [FILE|-]", Short: "Install a signed policy on all members of the cluster, or on none",
		Long: "Given once, at any member. Every member stores the policy, checks it and tries it out; when all of them can, all switch.\n" +
			"Until then, and on every member that cannot, the old policy stays in force.",
		Example: "  twinkeep policy install office-r43.policy --confirm 5m\n" +
			"  twinkeep policy install --from-server\n" +
			"  twinkeep policy confirm",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := p.query()
			var body []byte
			var err error
			if server {
				q.Set("server", "1")
			}
			switch {
			case len(args)+len(q) != 1:
				return fmt.Errorf("give a policy file, or --from-server, or one of this member's history with --revision or --digest")
			case len(args) == 1:
				if body, err = readFile(args[0]); err != nil {
					return err
				}
			}
			q.Set("operator", author())
			if confirm > 0 {
				q.Set("confirm", confirm.String())
			}
			if partial {
				q.Set("partial", "1")
			}
			if again {
				q.Set("again", "1")
			}
			return o.install(cmd, q, body)
		},
	}
	p.flags(c)
	c.Flags().BoolVar(&server, "from-server", false, "the newest one of the management server")
	c.MarkFlagsMutuallyExclusive("from-server", "revision", "digest")
	c.Flags().DurationVar(&confirm, "confirm", 0, "go back on all members unless policy confirm comes within this time, e.g. 5m")
	c.Flags().BoolVar(&partial, "partial", false, "go on without members that do not answer or cannot: they are not eligible then")
	c.Flags().BoolVar(&again, "again", false, "also a revision that was refused or taken back before")
	return c
}

// install has the member of this machine install a policy and shows what became of it.
func (o Options) install(cmd *cobra.Command, q url.Values, body []byte) error {
	data, err := o.call(cmd.Context(), http.MethodPost, install.PathInstall+"?"+q.Encode(), body)
	if err != nil {
		return err
	}
	var r install.Report
	if err := json.Unmarshal(data, &r); err != nil {
		return err
	}
	if err := o.show(cmd, r, func(w io.Writer) { writeReport(w, r) }); err != nil {
		return err
	}
	switch {
	case r.Installed:
		return nil
	case r.Open():
		return fmt.Errorf("it is decided, and no member runs it yet: policy status shows when they do")
	}
	return fmt.Errorf("nothing was changed")
}

func writeReport(w io.Writer, r install.Report) {
	for _, m := range r.Members {
		fmt.Fprintf(w, "member %d: %s", m.Member, m.State)
		if m.Reason != "" {
			fmt.Fprintf(w, ": %s", m.Reason)
		}
		fmt.Fprintln(w)
	}
	if r.Installed && r.Transaction.Confirm > 0 {
		fmt.Fprintf(w, "It goes back in %v unless confirmed with: policy confirm\n", r.Transaction.Confirm)
	}
}

func (o Options) endCommand(name, short string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := install.PathConfirm
			if name == "cancel" {
				path = install.PathCancel
			}
			data, err := o.call(cmd.Context(), http.MethodPost, path+"?operator="+url.QueryEscape(author()), nil)
			if err != nil {
				return err
			}
			var s install.Status
			if err := json.Unmarshal(data, &s); err != nil {
				return err
			}
			return o.show(cmd, s, func(w io.Writer) { writeStatus(w, s) })
		},
	}
}

func (o Options) uninstallCommand() *cobra.Command {
	return o.order(&cobra.Command{
		Use: "uninstall", Short: "Take the policy out of force on this member: it closes, and a fit peer takes over",
		Long: "The member closes and may not hold the role until policy recover, the next policy install, or a restart of the device. The\n" +
			"other members keep theirs, and the policy stays in the history.",
	}, install.PathUninstall)
}

func (o Options) recoverCommand() *cobra.Command {
	return o.order(&cobra.Command{
		Use: "recover", Short: "Go through the recovery order now: active peer, management server, own history",
		Long: "As after a start. It ends policy uninstall, and tries again at once when this member has no policy.",
	}, install.PathRecover)
}

// ResumeCommand is cluster resume-sync.
func ResumeCommand(o Options) *cobra.Command {
	return o.order(&cobra.Command{
		Use: "resume-sync", Short: "Give up the policies that never reached the peer, and take the cluster's",
		Long: "After a crash, what only this member knew is kept, and this member waits: see policy unsynced. Resume-sync lets the cluster's\n" +
			"policy replace it. What is given up stays in policy unsynced, and can be had with policy file --digest D.",
	}, install.PathResume)
}

// order completes a command that has the member do something and shows its answer.
func (o Options) order(c *cobra.Command, path string) *cobra.Command {
	c.Args = cobra.NoArgs
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		data, err := o.call(cmd.Context(), http.MethodPost, path, nil)
		if err != nil {
			return err
		}
		var m struct {
			Message string `json:"message"`
		}
		if err := json.Unmarshal(data, &m); err != nil {
			return err
		}
		return o.show(cmd, m, func(w io.Writer) { fmt.Fprintln(w, m.Message) })
	}
	return c
}
