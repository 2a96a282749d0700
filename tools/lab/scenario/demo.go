package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/tools/lab/agent"
	"github.com/twinkeep/twinkeep/tools/lab/capture"
	"github.com/twinkeep/twinkeep/tools/lab/probe"
	"github.com/twinkeep/twinkeep/tools/lab/vswitch"
)

// BootPatience is how long machines may take to boot and agree on their roles. Under TCG on two cores that takes
// some 30 s; a busy machine needs several times that.
const BootPatience = 4 * time.Minute

const (
	pathPatience = 30 * time.Second
	baseline     = 3 * time.Second  // of undisturbed traffic before the power cut
	aftermath    = 4 * time.Second  // of traffic after the takeover
	takeover     = 30 * time.Second // patience for it
	udpInterval  = 20 * time.Millisecond
	tcpInterval  = 50 * time.Millisecond
	probeLife    = 5 * time.Minute
	echoPort     = 7000
)

// Gateways are the names of the two members in Pair.
var Gateways = []string{"a", "b"}

// Announcer counts gratuitous ARPs as they pass the switches. Its OnFrame is a hook for Options.
type Announcer struct {
	mu   sync.Mutex
	seen []capture.Announcement
}

// maxAnnouncements bounds the memory of an Announcer.
const maxAnnouncements = 10_000

// OnFrame looks at one frame; only what a station sent counts, copies to others do not.
func (a *Announcer) OnFrame(f vswitch.Frame) {
	if f.Dir != capture.In {
		return
	}
	if n, ok := capture.Announced(f.Data, clusterID); ok {
		n.Time, n.Port = f.Time, f.Port
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.seen) < maxAnnouncements {
			a.seen = append(a.seen, n)
		}
	}
}

// After lists the announcements after a moment.
func (a *Announcer) After(t time.Time) []capture.Announcement {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []capture.Announcement
	for _, n := range a.seen {
		if n.Time.After(t) {
			out = append(out, n)
		}
	}
	return out
}

// demo is the running story.
type demo struct {
	*Lab
	ann          *Announcer
	res          Result
	host, server *agent.Client
	udp, tcp     agent.Started
	echoUDP      agent.Started
}

// Demo tells the story of a power cut of the active gateway in a lab of Pair and returns what was measured. The
// captures are judged in Judge, when the machines are quiet.
func Demo(ctx context.Context, l *Lab, ann *Announcer) (Result, error) {
	d := &demo{Lab: l, ann: ann}
	for _, step := range []func(context.Context) error{d.waitUp, d.startProbes, d.cutPower, d.collect} {
		if err := step(ctx); err != nil {
			return d.res, err
		}
	}
	return d.res, nil
}

func (d *demo) waitUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, BootPatience)
	defer cancel()
	boots, err := d.WaitBoot(ctx)
	if err != nil {
		return err
	}
	roles, err := d.WaitRoles(ctx, Gateways, boots)
	if err != nil {
		return err
	}
	d.res.Boots, d.res.Active, d.res.Survivor = boots, roles.Active, roles.Standby
	d.res.Before = roles.Status
	for _, name := range Gateways {
		d.Progress("%s", roleLine(d.role(name), roles.Status[name]))
	}
	return nil
}

// roleLine shows a member in one line.
func roleLine(role string, st member.Status) string {
	line := fmt.Sprintf("%s: %s, term %d, gate %s", role, st.State, st.Term, map[bool]string{true: "open", false: "shut"}[st.Gate.Open])
	for _, v := range st.VIPs {
		line += fmt.Sprintf(", VIP %s at %s", v.Address, v.MAC)
	}
	return line
}

func (d *demo) startProbes(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, pathPatience)
	defer cancel()
	if d.host, err = d.Agent(ctx, "host"); err != nil {
		return err
	}
	if d.server, err = d.Agent(ctx, "server"); err != nil {
		return err
	}
	target := netip.AddrPortFrom(netip.MustParseAddr(serverAddr), echoPort)
	if d.echoUDP, err = d.server.ServeUDP(ctx, target); err != nil {
		return fmt.Errorf("WAN server: %w", err)
	}
	if _, err = d.server.ServeTCP(ctx, target); err != nil {
		return fmt.Errorf("WAN server: %w", err)
	}
	d.udp, err = d.host.StartUDP(ctx, probe.UDPConfig{Target: target, Interval: udpInterval, Duration: probeLife, Threshold: 200 * time.Millisecond})
	if err != nil {
		return fmt.Errorf("LAN host: %w", err)
	}
	d.tcp, err = d.host.StartTCP(ctx, probe.TCPConfig{Target: target, Interval: tcpInterval, Duration: probeLife})
	if err != nil {
		return fmt.Errorf("LAN host: %w", err)
	}
	d.Progress("probes from %s through NAT to %v: UDP every %v, one TCP connection", hostAddr, target, udpInterval)
	return d.waitTraffic(ctx, "before the power cut", 25, 10)
}

// waitTraffic waits for so many more replies of both probes.
func (d *demo) waitTraffic(ctx context.Context, when string, udp, tcp int) error {
	var u0, t0 = -1, -1
	for {
		u, err := d.host.UDPReport(ctx, d.udp.Handle)
		if err != nil {
			return err
		}
		t, err := d.host.TCPReport(ctx, d.tcp.Handle)
		if err != nil {
			return err
		}
		if u0 < 0 {
			u0, t0 = u.Received, t.Received
		}
		if u.Received >= u0+udp && t.Received >= t0+tcp {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no traffic through the gateways %s: UDP %d sent, %d answered, %s; TCP %d connections, %d answered, %s; look at %s/*.pcap",
				when, u.Sent, u.Received, u.LastError, t.Connects, t.Received, t.LastError, d.Dir)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// cutPower is the event, and the watch over the survivor.
func (d *demo) cutPower(ctx context.Context) error {
	if err := pause(ctx, baseline); err != nil {
		return err
	}
	last := d.lastEvent(ctx)
	at, err := d.Machines[d.res.Active].PowerCut()
	if err != nil {
		return err
	}
	d.res.CutAt = at
	d.Progress(">>> power of %s cut (SIGKILL of its QEMU)", d.role(d.res.Active))
	end := time.Now().Add(takeover)
	for {
		st, err := d.Status(ctx, d.res.Survivor)
		if err != nil {
			return fmt.Errorf("survivor: %w", err)
		}
		last = d.showEvents(ctx, last)
		if activeState(st.State) {
			seen := time.Since(at) - time.Duration(st.StateSince)
			d.Progress("%s; it became so %d ms after the cut by its own clock, seen at %d ms",
				roleLine(d.role(d.res.Survivor), st), seen.Milliseconds(), time.Since(at).Milliseconds())
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s is still %s %v after the power cut: %s", d.role(d.res.Survivor), st.State, takeover, st.Reason)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	wait, cancel := context.WithTimeout(ctx, takeover)
	defer cancel()
	if err := d.waitTraffic(wait, "after the takeover", 25, 10); err != nil {
		return err
	}
	d.Progress("traffic flows again; watching it for %v", aftermath)
	if err := pause(ctx, aftermath); err != nil {
		return err
	}
	d.showEvents(ctx, last)
	return nil
}

// lastEvent is the number of the survivor's newest event.
func (d *demo) lastEvent(ctx context.Context) (last uint64) {
	events, err := d.eventsSince(ctx, d.res.Survivor, 0)
	if err != nil {
		d.Progress("events of %s: %v", d.role(d.res.Survivor), err)
	}
	for _, e := range events {
		last = max(last, e.Seq)
	}
	return last
}

func (d *demo) showEvents(ctx context.Context, last uint64) uint64 {
	events, err := d.eventsSince(ctx, d.res.Survivor, last)
	if err != nil {
		return last // the status call right after it tells what is wrong
	}
	for _, e := range events {
		if e.Seq > last {
			d.Progress("  %s [%s] %s: %s", d.role(d.res.Survivor), e.Severity, e.Name, e.Text)
			last = e.Seq
		}
	}
	return last
}

// collect ends the probes and gathers the numbers of the table.
func (d *demo) collect(ctx context.Context) (err error) {
	r := &d.res
	if r.UDP, err = d.host.StopUDP(ctx, d.udp.Handle); err != nil {
		return err
	}
	if r.TCP, err = d.host.StopTCP(ctx, d.tcp.Handle); err != nil {
		return err
	}
	if r.Server, err = d.server.EchoReport(ctx, d.echoUDP.Handle); err != nil {
		return err
	}
	if r.After, err = d.Status(ctx, r.Survivor); err != nil {
		return err
	}
	r.Announced = d.ann.After(r.CutAt)
	c, err := d.Agent(ctx, r.Survivor)
	if err != nil {
		return err
	}
	if r.Twinkeep, err = c.Size(ctx, "/bin/twinkeep"); err != nil {
		d.Progress("size of /bin/twinkeep: %v", err)
	}
	if b, err := c.ReadFile(ctx, "/proc/meminfo"); err == nil {
		r.Memory = parseMeminfo(string(b))
	}
	r.Image = imageSizes(d.Kernel, d.Initramfs)
	return d.SyncCaptures()
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
