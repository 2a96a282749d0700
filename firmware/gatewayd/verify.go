package gatewayd

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/routes"
	"github.com/twinkeep/twinkeep/firmware/tap"
	"github.com/twinkeep/twinkeep/firmware/traffic"
	"github.com/twinkeep/twinkeep/firmware/verify"
)

const (
	// spell is the longest watch of one question; longer ones are several.
	spell    = 10 * time.Second
	minWatch = time.Second
	// maxVerify is how many verifications run at once.
	maxVerify = 4
)

// evidence is what this member says of itself, after it has watched its VIPs for a time.
func (d *daemon) evidence(ctx context.Context, watch time.Duration) api.MemberEvidence {
	e := api.MemberEvidence{Errors: map[string]string{}}
	note := func(part string, err error) {
		if err != nil {
			e.Errors[part] = err.Error()
		}
	}
	n := d.inForce()
	if s, err := d.monitors.client.HA(ctx); err == nil {
		e.Term = s.Term
	}
	var before traffic.Asked
	var asking sync.WaitGroup
	asking.Go(func() { before = d.askPredecessor(ctx) })
	var err error
	e.Frames, err = watchVIPs(ctx, n, watch)
	note("frames", err)
	asking.Wait()
	e.Status, err = d.monitors.client.HA(ctx)
	note("status", err)
	e.Routes, err = d.routeTable(ctx)
	note("routes", err)
	e.NAT, err = d.natStatus()
	note("nat", err)
	e.Traffic, err = d.compareTraffic(time.Minute, before)
	note("traffic", err)
	return e
}

// natStatus compares the NAT in force with the kernel.
func (d *daemon) natStatus() (api.NATStatus, error) {
	d.mu.Lock()
	rules := d.rules
	d.mu.Unlock()
	if rules == nil {
		return api.NATStatus{}, &api.Error{Status: http.StatusConflict, Message: "no configuration is in force"}
	}
	l, err := rules.NAT()
	return api.NATStatus{Entries: l.Entries, Missing: l.Missing}, err
}

// watchVIPs counts the frames of the VIPs on their interfaces.
func watchVIPs(ctx context.Context, n *node.Node, length time.Duration) ([]api.FrameCount, error) {
	var devices []tap.Device
	out := []api.FrameCount{}
	for i := range n.Interfaces {
		f := &n.Interfaces[i]
		if len(f.VIPs) == 0 {
			continue
		}
		dev := tap.Device{Name: f.Device, VIPs: slices.Clone(f.VIPs)}
		if vip, err := net.InterfaceByName(f.VIPDevice()); err == nil {
			dev.Shared = vip.HardwareAddr
		}
		devices = append(devices, dev)
		out = append(out, api.FrameCount{Interface: f.Name, VIPs: slices.Clone([]netip.Addr(f.VIPs))})
	}
	counts, err := tap.Watch(ctx, devices, length)
	if err != nil {
		return nil, err
	}
	for i, dev := range devices {
		c := counts[dev.Name]
		out[i].In, out[i].Out, out[i].Neighbour = c.In, c.Out, c.Neighbour
		if c.Err != nil {
			out[i].Error = c.Err.Error()
		}
	}
	return out, nil
}

// verify walks through the response after a failover.
func (d *daemon) verify(ctx context.Context, watch time.Duration) (api.Verification, error) {
	n := d.inForce()
	if n.Cluster == nil || n.Cluster.Judges() {
		return api.Verification{}, &api.Error{Status: http.StatusConflict, Message: "this is no member of a cluster: there is no failover to verify", Hint: "ask a member"}
	}
	c := verify.Case{Cluster: n.Cluster.Name, Self: routes.Self(n), Watched: watch}
	for _, m := range n.Cluster.Members {
		c.Members = append(c.Members, verify.Member{ID: m.ID, Name: cmp.Or(m.Name, routes.NameOf(m.ID))})
	}
	slices.SortFunc(c.Members, func(a, b verify.Member) int { return int(a.ID) - int(b.ID) })
	for left := watch; left > 0; left -= min(left, spell) {
		length := min(left, spell)
		if rest := left - length; rest > 0 && rest < minWatch {
			length = left
		}
		var all sync.WaitGroup
		for i := range c.Members {
			all.Go(func() { d.watchMember(ctx, n, &c.Members[i], length) })
		}
		all.Wait()
		c.Spells++
		if length == left {
			break
		}
	}
	return verify.Judge(c), ctx.Err()
}

// watchMember adds one spell to the evidence of a member.
func (d *daemon) watchMember(ctx context.Context, n *node.Node, m *verify.Member, length time.Duration) {
	var e api.MemberEvidence
	var err error
	if m.ID == n.Cluster.Member {
		e = d.evidence(ctx, length)
	} else {
		err = d.askPeer(ctx, m.ID, "evidence", "for="+length.String(), length, &e)
	}
	if err != nil {
		m.Silent = err.Error()
		return
	}
	m.Add(e)
}

func watchOf(r *http.Request, most time.Duration) (time.Duration, error) {
	return api.TimeOf(r, "for", api.DefaultWatch, minWatch, most)
}

func (d *daemon) serveVerify(w http.ResponseWriter, r *http.Request) {
	watch, err := watchOf(r, api.MaxWatch)
	if err != nil {
		api.Reply(w, nil, err)
		return
	}
	if d.verifying.Add(1) > maxVerify {
		d.verifying.Add(-1)
		api.Reply(w, nil, &api.Error{Status: http.StatusTooManyRequests, Message: "the cluster is being verified by others already", Hint: "wait until they have their answers"})
		return
	}
	defer d.verifying.Add(-1)
	v, err := d.verify(r.Context(), watch)
	api.Reply(w, v, err)
}
