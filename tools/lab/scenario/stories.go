package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/tools/lab/probe"
	"github.com/twinkeep/twinkeep/tools/lab/vswitch"
)

// storyPort is the port of the stories' echo servers.
const storyPort = 7001

// Story is one event in the life of the pair, with what must come of it.
type Story struct {
	Name     string
	Title    string // what happens
	Expected string // what the pair does
	tell     func(context.Context, *stage, *Telling) error
	offline  bool // begins with one gateway without power
	disks    bool // the gateways need data partitions
}

// Stories are all stories, in the order in which they are told.
var Stories = []Story{
	{"return", "the member that lost its power boots again", "STANDBY, the role stays, nothing is lost", returns, true, false},
	{"pause", "the active VM is paused with its clock (QMP stop) for over 3 dead times", "the peer takes over; back as STANDBY, silent as soon as it hears the peer", paused, false, false},
	{"stall", "the active VM's host process is stopped (SIGSTOP) for over 3 dead times, its clock goes on", "the peer takes over; back silent, as STANDBY", stalled, false, false},
	{"link", "the active's LAN cable is pulled, and plugged again", "the role moves once, and stays", linkPulled, false, false},
	{"sync", "the sync cable is cut, and mended", "ACTIVE! and DOWN; nobody fails over, nothing is lost", syncCut, false, false},
	{"operator", "cluster failover, cluster verify, and back", "the role moves twice, nothing is lost; all that verify looks at is well", operated, false, false},
	{"one-way", "the standby stops hearing the active's heartbeats on all segments", "the active steps down before the standby starts", oneWay, false, false},
	{"partition", "the pair is cut in two on all segments, without witness, and healed", "both serve; healed, the better one stays and announces after the other is silent", partitioned, false, false},
	{"policy", "a signed policy comes into force at both, a failover, a power-on with the disk, and one with a wiped disk", "what passes follows it all the time; a member that boots is STANDBY by the same policy", byPolicy, false, true},
}

// Select finds stories by their names; without names it is all that can be told in a fresh lab.
func Select(names []string) ([]Story, error) {
	var out []Story
	if len(names) == 0 {
		for _, s := range Stories {
			if !s.offline && !s.disks {
				out = append(out, s)
			}
		}
		return out, nil
	}
	for _, n := range names {
		i := slices.IndexFunc(Stories, func(s Story) bool { return s.Name == n })
		if i < 0 {
			var have []string
			for _, s := range Stories {
				have = append(have, s.Name)
			}
			return nil, fmt.Errorf("no story %q, there are %s", n, strings.Join(have, ", "))
		}
		out = append(out, Stories[i])
	}
	return out, nil
}

// NeedDisks reports whether any of the stories named is about gateways with disks.
func NeedDisks(names []string) bool {
	return slices.ContainsFunc(Stories, func(s Story) bool { return s.disks && slices.Contains(names, s.Name) })
}

// Telling is how a story went, before the captures are judged.
type Telling struct {
	Story
	Before, During, After string // states
	Begin, End            time.Time
	Healed                time.Time // when a split was joined; zero without one
	TCP                   [2]probe.TCPReport
	Fast                  [2]Fast // of its connection, before and after
	Err                   error   // the roles did not become what they should

	owners   []string      // who serves, one after the other
	both     time.Duration // for so long two may serve at once, where nothing can prevent it
	split    bool          // both must have served
	lossless bool
	blocked  []time.Time // from these times on, for blockedTime, nothing of blockedPort may pass
}

// Tell tells stories one after another. Tellings are complete also when one failed; after a failure that leaves no
// working pair, the rest fail too.
func Tell(ctx context.Context, l *Lab, stories []Story) ([]Telling, error) {
	s, err := openStage(ctx, l)
	if err != nil {
		return nil, err
	}
	var out []Telling
	for _, story := range stories {
		t := s.tell(ctx, story)
		out = append(out, t)
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
	}
	if err := s.close(ctx); err != nil {
		return out, err
	}
	return out, l.SyncCaptures()
}

// tell tells one story.
func (s *stage) tell(ctx context.Context, story Story) (t Telling) {
	ctx, cancel := context.WithTimeout(ctx, storyPatience)
	defer cancel()
	t = Telling{Story: story}
	s.Progress("--- %s: %s", story.Name, story.Title)
	t.Err = s.act(ctx, &t)
	if t.Err != nil {
		s.Progress("    FAILED: %v", t.Err)
	}
	return t
}

func (s *stage) act(ctx context.Context, t *Telling) (err error) {
	if !t.offline {
		if _, _, err := s.pair(ctx); err != nil {
			return fmt.Errorf("before the story: %w", err)
		}
	}
	if t.TCP[0], err = s.connected(ctx); err != nil {
		return fmt.Errorf("before the story: %w", err)
	}
	if t.Fast[0], err = s.fast(ctx); err != nil {
		return fmt.Errorf("before the story: %w", err)
	}
	t.Before, t.Begin = s.shown(ctx), time.Now()
	s.Progress("    %s; %v", t.Before, t.Fast[0])
	if err := pause(ctx, time.Second); err != nil { // so that the captures show who served before
		return err
	}
	err = t.tell(ctx, s, t)
	if err == nil {
		err = pause(ctx, settle)
	}
	var ferr error
	if t.Fast[1], ferr = s.fast(ctx); err == nil {
		err = ferr
	}
	t.After, t.End = s.shown(ctx), time.Now()
	if perr := pause(ctx, time.Second/2); err == nil { // for the last replies
		err = perr
	}
	s.Progress("    %s; %v", t.After, t.Fast[1])
	var terr error
	if t.TCP[1], terr = s.host.TCPReport(ctx, s.tcp.Handle); err == nil {
		err = terr
	}
	return err
}

// note shows the states in the middle of a story.
func (s *stage) note(ctx context.Context, t *Telling) {
	t.During = s.shown(ctx)
	s.Progress("    %s", t.During)
}

func returns(ctx context.Context, s *stage, t *Telling) error {
	off := slices.IndexFunc(Gateways, func(g string) bool { return !s.Machines[g].Running() })
	if off < 0 {
		return fmt.Errorf("both gateways have power: this story is told after the demo")
	}
	t.owners, t.lossless = []string{Gateways[1-off]}, true
	if err := s.Repower(Gateways[off]); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, BootPatience)
	defer cancel()
	if _, err := s.Agent(wait, Gateways[off]); err != nil {
		return err
	}
	if _, _, err := s.pair(ctx); err != nil {
		return err
	}
	return s.states(ctx, map[string]string{Gateways[1-off]: "ACTIVE", Gateways[off]: "STANDBY"})
}

// still is a story in which the active member stands still for over three dead times.
func still(ctx context.Context, s *stage, t *Telling, stop, start func(name string) error) error {
	x, y, err := s.pair(ctx)
	if err != nil {
		return err
	}
	t.owners = []string{x, y}
	if err := stop(x); err != nil {
		return err
	}
	began := time.Now()
	err = s.states(ctx, map[string]string{y: "ACTIVE"})
	if perr := pause(ctx, 3*Timing.Dead-time.Since(began)+200*time.Millisecond); err == nil {
		err = perr
	}
	s.Progress("    gw-%s stood still for %v", x, time.Since(began).Round(time.Millisecond))
	if serr := start(x); err == nil {
		err = serr
	}
	if err != nil {
		return err
	}
	return s.states(ctx, map[string]string{x: "STANDBY", y: "ACTIVE"})
}

func paused(ctx context.Context, s *stage, t *Telling) error {
	// A guest whose clock stands still cannot know that it slept: its lease goes on until it hears the peer.
	t.both = Timing.Lease + 4*Timing.Beat
	return still(ctx, s, t,
		func(x string) error { return s.Machines[x].Pause(ctx) },
		func(x string) error { return s.Machines[x].Continue(ctx) })
}

func stalled(ctx context.Context, s *stage, t *Telling) error {
	return still(ctx, s, t,
		func(x string) error { return s.Machines[x].Freeze() },
		func(x string) error { return s.Machines[x].Thaw() })
}

func linkPulled(ctx context.Context, s *stage, t *Telling) error {
	x, y, err := s.pair(ctx)
	if err != nil {
		return err
	}
	t.owners = []string{x, y}
	if err := s.Machines[x].SetLink(ctx, "G1", false); err != nil {
		return err
	}
	err = s.states(ctx, map[string]string{x: "DOWN", y: "ACTIVE"})
	s.note(ctx, t)
	if perr := pause(ctx, settle); err == nil {
		err = perr
	}
	if serr := s.Machines[x].SetLink(ctx, "G1", true); err == nil {
		err = serr
	}
	if err != nil {
		return err
	}
	return s.states(ctx, map[string]string{x: "STANDBY", y: "ACTIVE"})
}

func syncCut(ctx context.Context, s *stage, t *Telling) error {
	x, y, err := s.pair(ctx)
	if err != nil {
		return err
	}
	t.owners, t.lossless = []string{x}, true
	both := func(up bool) error {
		if err := s.Machines[x].SetLink(ctx, "G3", up); err != nil {
			return err
		}
		return s.Machines[y].SetLink(ctx, "G3", up)
	}
	if err := both(false); err != nil {
		return err
	}
	err = s.states(ctx, map[string]string{x: "ACTIVE!", y: "DOWN"})
	if perr := pause(ctx, settle); err == nil {
		err = perr
	}
	s.note(ctx, t)
	if uerr := both(true); err == nil {
		err = uerr
	}
	if err != nil {
		return err
	}
	return s.states(ctx, map[string]string{x: "ACTIVE", y: "STANDBY"})
}

func operated(ctx context.Context, s *stage, t *Telling) error {
	x, y, err := s.pair(ctx)
	if err != nil {
		return err
	}
	t.owners, t.lossless = []string{x, y, x}, true
	if err := s.operate(ctx, x, "cluster", "failover"); err != nil {
		return err
	}
	if err := s.states(ctx, map[string]string{x: "STANDBY", y: "ACTIVE"}); err != nil {
		return err
	}
	s.note(ctx, t)
	if err := pause(ctx, settle); err != nil {
		return err
	}
	if _, _, err := s.pair(ctx); err != nil { // in sync again
		return err
	}
	if err := s.verify(ctx, x); err != nil {
		return err
	}
	if err := s.operate(ctx, y, "cluster", "failover"); err != nil {
		return err
	}
	return s.states(ctx, map[string]string{x: "ACTIVE", y: "STANDBY"})
}

func oneWay(ctx context.Context, s *stage, t *Telling) error {
	x, y, err := s.pair(ctx)
	if err != nil {
		return err
	}
	t.owners = []string{x, y}
	// Heartbeats, and only they, have wrong checksums.
	if err := s.onAll(y, vswitch.Rules{Out: vswitch.Impair{BadIPChecksum: true}}); err != nil {
		return err
	}
	err = s.states(ctx, map[string]string{x: "STANDBY", y: "ACTIVE"})
	s.note(ctx, t)
	if perr := pause(ctx, settle); err == nil {
		err = perr
	}
	if rerr := s.onAll(y, vswitch.Rules{}); err == nil {
		err = rerr
	}
	if err != nil {
		return err
	}
	if _, _, err := s.pair(ctx); err != nil {
		return err
	}
	return s.states(ctx, map[string]string{x: "STANDBY", y: "ACTIVE"})
}

// better is the member that keeps the role after both were active: both fit, the one with the higher priority.
const better = "a"

func partitioned(ctx context.Context, s *stage, t *Telling) error {
	x, y, err := s.pair(ctx)
	if err != nil {
		return err
	}
	t.split, t.owners = true, slices.Compact([]string{x, better})
	askers, err := s.startAskers(2)
	if err != nil {
		return err
	}
	defer closeAskers(askers)
	for _, segment := range s.Topology.Segments {
		ports := []string{Port(segment, y)}
		if segment != "sync" {
			ports = append(ports, askerPort(segment, 2))
		}
		if err := s.Switches[segment].Split(ports...); err != nil {
			return err
		}
	}
	err = s.until(ctx, "both to serve", Gateways, func(st map[string]member.Status) bool {
		return activeState(st[x].State) && activeState(st[y].State)
	})
	if perr := pause(ctx, settle); err == nil {
		err = perr
	}
	s.note(ctx, t)
	t.Healed = time.Now()
	for _, sw := range s.Switches {
		sw.Join()
	}
	if err != nil {
		return err
	}
	if err := s.states(ctx, map[string]string{better: "ACTIVE", other(better): "STANDBY"}); err != nil {
		return err
	}
	_, _, err = s.pair(ctx)
	return err
}

func other(gateway string) string {
	if gateway == Gateways[0] {
		return Gateways[1]
	}
	return Gateways[0]
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
