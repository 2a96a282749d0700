package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/install"
	"github.com/twinkeep/twinkeep/firmware/policy/sign"
	"github.com/twinkeep/twinkeep/tools/lab/agent"
	"github.com/twinkeep/twinkeep/tools/lab/capture"
	"github.com/twinkeep/twinkeep/tools/lab/ether"
	"github.com/twinkeep/twinkeep/tools/lab/probe"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
)

const (
	gatewaydSocket = "/run/twinkeep/gatewayd.sock"
	keyFile        = "/etc/twinkeep/policy-keys/lab.pub"
	// blockedPort is what the second revision lets nobody reach, for blockedTime from the times that a story notes.
	blockedPort = 7009
	blockedTime = 2 * time.Second
)

// blockRule is a rule of the second revision.
const blockRule = "no-7009"

// document is the pair's policy: the same as the node files say, and a rule more.
func document(rule string) string {
	return fmt.Sprintf(`version: 1
name: lab
cluster:
  id: %d
  name: lab
  mode: active-up
  checksums: invalid
  members: [{id: 1, name: gw-a, priority: 120}, {id: 2, name: gw-b, priority: 100}]
  timing: {beat: %v, lease: %v, dead: %v, silence: %v}
zones: [{name: lan}, {name: wan}]
interfaces:
  - {name: G1, zone: lan, addresses: {1: 10.1.0.2/24, 2: 10.1.0.3/24}, vips: [%s]}
  - {name: G2, zone: wan, addresses: {1: 192.0.2.2/24, 2: 192.0.2.3/24}, vips: [%s]}
  - {name: G3, sync: true, addresses: {1: 169.254.77.1/30, 2: 169.254.77.2/30}}
routes: [{to: 0.0.0.0/0, via: %s}]
nat: [{name: office, type: snat, from: [lan], out: [G2], to: vip, ports: keep}]
filter:
  rules: [%s{name: lan-out, from: [lan], to: [wan], action: accept}]
`, clusterID, Timing.Beat, Timing.Lease, Timing.Dead, Timing.Silence, lanVIP, wanVIP, serverAddr, rule)
}

// policies are two signed revisions and the public key, made for one story.
type policies struct {
	public string
	files  [2]string
}

func newPolicies() (out policies, err error) {
	private, public, err := sign.Generate(sign.ECDSA)
	if err != nil {
		return out, err
	}
	key, err := sign.ParsePrivate(private)
	if err != nil {
		return out, err
	}
	out.public = string(public)
	for i, rule := range []string{"", fmt.Sprintf("{name: %s, from: [lan], to: [wan], service: [udp/%d], action: drop}, ", blockRule, blockedPort)} {
		a, err := artifact.New(artifact.Meta{Name: "lab", Revision: uint64(i + 1)}, []byte(document(rule)))
		if err != nil {
			return out, err
		}
		if err := sign.Sign(a, key); err != nil {
			return out, err
		}
		var b bytes.Buffer
		if err := artifact.WriteBundle(&b, a); err != nil {
			return out, err
		}
		out.files[i] = b.String()
	}
	return out, nil
}

// byPolicy brings the pair under a policy, one member after the other, and follows it over whatever a pair lives through.
func byPolicy(ctx context.Context, s *stage, t *Telling) error {
	p, err := newPolicies()
	if err != nil {
		return err
	}
	x, y, err := s.pair(ctx)
	if err != nil {
		return err
	}
	t.owners = []string{x, y, x, y}
	if _, err := s.server.ServeUDP(ctx, netip.AddrPortFrom(netip.MustParseAddr(serverAddr), blockedPort)); err != nil {
		return err
	}
	for _, g := range Gateways { // also for a box that is put in the place of one
		s.extra[g] = append(s.extra[g], qemu.File{Path: keyFile, Mode: 0o600, Data: []byte(p.public)})
	}

	// As docs/policy.md says: the standby first.
	if err := s.trust(ctx, y, p); err != nil {
		return err
	}
	if err := s.states(ctx, map[string]string{x: "ACTIVE", y: "DOWN"}); err != nil {
		return err
	}
	if err := s.feed(ctx, y, p.files[0], "/bin/twinkeep", "policy", "install", "-", "--partial"); err != nil {
		return err
	}
	if _, _, err := s.pair(ctx); err != nil {
		return err
	}
	if err := s.trust(ctx, x, p); err != nil {
		return err
	}
	if err := errors.Join(s.states(ctx, map[string]string{x: "STANDBY", y: "ACTIVE"}), s.byRevision(ctx, 1)); err != nil {
		return err
	}
	got, err := s.reached(ctx)
	if err == nil && got == 0 {
		err = fmt.Errorf("by revision 1 port %d should be reached, and is not", blockedPort)
	}
	if err != nil {
		return err
	}

	// At the standby: the cluster has one policy, not a member each.
	if err := s.feed(ctx, x, p.files[1], "/bin/twinkeep", "policy", "install", "-"); err != nil {
		return err
	}
	if err := errors.Join(s.byRevision(ctx, 2), s.obeyed(ctx, t)); err != nil {
		return err
	}

	// A power cut of the active member, and its power-on: it has its policy on the disk.
	if _, _, err := s.pair(ctx); err != nil {
		return err
	}
	if _, err := s.Machines[y].PowerCut(); err != nil {
		return err
	}
	if err := errors.Join(s.states(ctx, map[string]string{x: "ACTIVE"}), s.obeyed(ctx, t)); err != nil {
		return err
	}
	s.note(ctx, t)
	if err := s.comesBack(ctx, x, y, "runs its own revision 2"); err != nil {
		return err
	}

	// The same with an empty disk.
	if _, err := s.Machines[y].PowerCut(); err != nil {
		return err
	}
	if err := s.Machines[y].Close(); err != nil {
		return err
	}
	if err := newDisk(s.disk(y)); err != nil {
		return err
	}
	if err := s.comesBack(ctx, x, y, "took revision 2"); err != nil {
		return err
	}
	if err := s.operate(ctx, x, "cluster", "failover"); err != nil {
		return err
	}
	return errors.Join(s.states(ctx, map[string]string{x: "STANDBY", y: "ACTIVE"}), s.obeyed(ctx, t))
}

// comesBack gives y its power, and waits until it is STANDBY by revision 2.
func (s *stage) comesBack(ctx context.Context, x, y, recovery string) error {
	if err := s.Repower(y); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, BootPatience)
	defer cancel()
	if _, err := s.Agent(wait, y); err != nil {
		return err
	}
	if _, _, err := s.pair(wait); err != nil {
		return err
	}
	if err := errors.Join(s.states(ctx, map[string]string{x: "ACTIVE", y: "STANDBY"}), s.byRevision(ctx, 2)); err != nil {
		return err
	}
	st, err := s.policyOf(ctx, y)
	if err != nil {
		return err
	}
	s.Progress("    gw-%s %s", y, st.Recovery)
	if !strings.Contains(st.Recovery, recovery) {
		return fmt.Errorf("gw-%s should say that it %s; it says that it %s", y, recovery, st.Recovery)
	}
	return nil
}

// trust gives a gateway the public key.
func (s *stage) trust(ctx context.Context, name string, p policies) error {
	for _, step := range [][]string{{"mkdir", "-p", path.Dir(keyFile)}, {"tee", keyFile}, {"/bin/twinkeep", "node", "reload"}} {
		if err := s.feed(ctx, name, p.public, step...); err != nil {
			return err
		}
	}
	return nil
}

// feed runs a program on a gateway with text on its standard input.
func (s *stage) feed(ctx context.Context, name, stdin string, argv ...string) error {
	c, err := s.Agent(ctx, name)
	if err != nil {
		return err
	}
	r, err := c.Feed(ctx, stdin, argv...)
	if err != nil {
		return err
	}
	s.Progress("  gw-%s> %v: %s", name, argv, oneLine(r.Stdout+r.Stderr))
	if r.Exit != 0 {
		return fmt.Errorf("gw-%s: %v: exit status %d: %s%s %s", name, argv, r.Exit, r.Stdout, r.Stderr, r.Note)
	}
	return nil
}

func (s *stage) policyOf(ctx context.Context, name string) (st install.Status, err error) {
	c, err := s.Agent(ctx, name)
	if err != nil {
		return st, err
	}
	return st, c.GetJSON(ctx, gatewaydSocket, install.PathStatus, &st)
}

// byRevision waits until both members run a revision, and looks for its rules in both kernels.
func (s *stage) byRevision(ctx context.Context, revision uint64) error {
	ctx, cancel := context.WithTimeout(ctx, rolePatience)
	defer cancel()
	for _, g := range Gateways {
		for {
			st, err := s.policyOf(ctx, g)
			if err == nil && st.InForce.Revision == revision && st.Standing.Eligible {
				break
			}
			if perr := pause(ctx, 100*time.Millisecond); perr != nil {
				return fmt.Errorf("gw-%s does not run revision %d: %+v %w", g, revision, st.InForce, errors.Join(err, perr))
			}
		}
		c, err := s.Agent(ctx, g)
		if err != nil {
			return err
		}
		table, err := c.Table(ctx, "twinkeep")
		if err != nil {
			return err
		}
		if err := checkTable(table, revision); err != nil {
			return fmt.Errorf("gw-%s: %w", g, err)
		}
		s.Progress("    gw-%s: %d chains, flowtable over %v, counters %v", g, len(table.Chains), table.Flowtables[0].Devices, table.Counters)
	}
	return nil
}

// checkTable: a flowtable over the devices that forward, and the rules of the revision.
func checkTable(table agent.TableResult, revision uint64) error {
	if len(table.Flowtables) != 1 || !slices.Contains(table.Flowtables[0].Devices, "G1") || !slices.Contains(table.Flowtables[0].Devices, "G2") {
		return fmt.Errorf("the kernel should have a flowtable over G1 and G2: %+v", table)
	}
	if _, there := table.Counters["filter/lan-out"]; !there {
		return fmt.Errorf("the kernel has no rule lan-out: %+v", table)
	}
	if _, there := table.Counters["filter/"+blockRule]; there != (revision == 2) {
		return fmt.Errorf("rule %s by revision %d: %+v", blockRule, revision, table)
	}
	return nil
}

// reached asks the blocked port for a time, and counts the answers.
func (s *stage) reached(ctx context.Context) (uint64, error) {
	began, err := s.host.StartUDP(ctx, probe.UDPConfig{
		Target: netip.AddrPortFrom(netip.MustParseAddr(serverAddr), blockedPort), Interval: 50 * time.Millisecond, Duration: blockedTime,
	})
	if err != nil {
		return 0, err
	}
	if err := pause(ctx, blockedTime); err != nil {
		return 0, err
	}
	r, err := s.host.StopUDP(ctx, began.Handle)
	return uint64(r.Received), err
}

// obeyed asks the blocked port, for the captures to show that nothing passes.
func (s *stage) obeyed(ctx context.Context, t *Telling) error {
	t.blocked = append(t.blocked, time.Now())
	got, err := s.reached(ctx)
	if err == nil && got > 0 {
		err = fmt.Errorf("port %d was reached %d times although the policy blocks it", blockedPort, got)
	}
	return err
}

// checkBlocked: what the policy drops left the host, and did not come out in the WAN.
func (v *Verdict) checkBlocked(host, server capture.Trace) {
	count := func(tr capture.Trace, from time.Time, dir capture.Direction) (n int) {
		for _, f := range between([]capture.Trace{tr}, from, from.Add(blockedTime))[0].Frames {
			if u, ok := ether.ParseUDP(f.Data); ok && u.DstPort == blockedPort && f.Dir == dir {
				n++
			}
		}
		return n
	}
	for _, from := range v.blocked {
		if sent, passed := count(host, from, capture.In), count(server, from, capture.Out); sent == 0 || passed > 0 {
			v.fail("from %s on %d datagrams were sent to the blocked port and %d passed", from.Format("15:04:05.000"), sent, passed)
		}
	}
}
