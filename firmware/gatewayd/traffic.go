package gatewayd

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/routes"
	"github.com/twinkeep/twinkeep/firmware/traffic"
	"github.com/twinkeep/twinkeep/ha/gate"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/hal/rtnl"
)

const (
	// tellEvery is how often the holder of the role is asked for its volume, for the time after its sudden death.
	tellEvery = 6 * time.Second
	// predecessorTime is how long the member that had the role before may take to say what it carried.
	predecessorTime = 2500 * time.Millisecond
)

// recording is the traffic of this member.
type recording struct {
	mu   sync.Mutex
	r    *traffic.Recorder // nil before the first sample
	self uint8
	name string
}

// recordTraffic samples until ctx ends.
func (d *daemon) recordTraffic(ctx context.Context) {
	t := time.NewTicker(traffic.Interval)
	defer t.Stop()
	var asking sync.WaitGroup
	defer asking.Wait()
	slot := make(chan struct{}, 1) // one question at a time: the holder may be dead
	asked := time.Duration(0)
	told := ""
	for {
		holder, over, err := d.sample(ctx)
		if err != nil && err.Error() != told {
			told = err.Error()
			d.Log.Printf("traffic is not recorded: %v", err)
		}
		if now := uptime(); holder != 0 && now-asked >= tellEvery && over >= 2*traffic.Interval {
			select {
			case slot <- struct{}{}:
				asked = now
				asking.Go(func() {
					defer func() { <-slot }()
					d.askVolume(ctx, holder, over)
				})
			default:
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// sample takes one. It gives the member to ask for its volume, 0 for none, and over what time.
func (d *daemon) sample(ctx context.Context) (holder uint8, over time.Duration, err error) {
	n := d.inForce()
	var status member.Status
	var self uint8
	if c := n.Cluster; c != nil {
		self = c.Member
		limited, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		status, _ = d.monitors.client.HA(limited) // one that does not answer knows of no change
	}
	ports, err := countPorts(n)
	if err != nil {
		return 0, 0, err
	}
	now, name := uptime(), routes.Self(n)
	d.traffic.mu.Lock()
	defer d.traffic.mu.Unlock()
	if d.traffic.r == nil || d.traffic.self != self || d.traffic.name != name {
		d.traffic.r, d.traffic.self, d.traffic.name = traffic.NewRecorder(self, name), self, name
	}
	r := d.traffic.r
	r.Add(traffic.Sample{At: now, Holds: self == 0 || status.Gate.Open, Ports: ports})
	if status.Holder != 0 {
		r.Observe(now, traffic.Role{Holder: status.Holder, Term: status.Term, Since: now - time.Duration(status.Failover.Since)})
	}
	if h := r.Holder(); h != self {
		return h, r.Settled(now), nil
	}
	return 0, 0, nil
}

// askVolume asks the holder of the role what it carries.
func (d *daemon) askVolume(ctx context.Context, holder uint8, over time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, tellEvery)
	defer cancel()
	var t api.Traffic
	if err := d.askPeer(ctx, holder, "traffic", "over="+over.Round(time.Second).String(), 0, &t); err != nil || !t.Volume.Holds {
		return // whoever compares hears why
	}
	d.traffic.mu.Lock()
	defer d.traffic.mu.Unlock()
	d.traffic.r.Told(uptime(), holder, t.Volume)
}

// countPorts reads the counters of the interfaces in force.
func countPorts(n *node.Node) ([]traffic.Port, error) {
	links, err := rtnl.Links()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	stats := make(map[string]*netlink.LinkStatistics, len(links))
	for _, l := range links {
		stats[l.Attrs().Name] = l.Attrs().Statistics
	}
	var gated []string
	for i := range n.Interfaces {
		if f := &n.Interfaces[i]; len(f.VIPs) > 0 {
			gated = append(gated, f.Device)
		}
	}
	var gates map[string]gate.Counts
	if len(gated) > 0 {
		if gates, err = gate.Counters(gated); err != nil {
			return nil, err
		}
	}
	var out []traffic.Port
	for i := range n.Interfaces {
		f := &n.Interfaces[i]
		p := traffic.Port{Name: f.Name, Sync: f.Sync}
		if s := stats[f.Device]; s != nil {
			p.In, p.Out = traffic.Count{Packets: s.RxPackets, Bytes: s.RxBytes}, traffic.Count{Packets: s.TxPackets, Bytes: s.TxBytes}
		}
		g := gates[f.Device]
		p.Cluster, p.Refused = traffic.Count(g.In), traffic.Count(g.Refused)
		out = append(out, p)
	}
	return out, nil
}

var errNotCounted = &api.Error{Status: http.StatusServiceUnavailable, Message: "traffic has not been counted yet", Hint: "ask again in a few seconds"}

// volume is what this member says of its traffic.
func (d *daemon) volume(over time.Duration) (api.Traffic, error) {
	names := d.memberNames()
	d.traffic.mu.Lock()
	defer d.traffic.mu.Unlock()
	if d.traffic.r == nil {
		return api.Traffic{}, errNotCounted
	}
	return d.traffic.r.Traffic(uptime(), over, names), nil
}

// memberNames names the members of the cluster in force.
func (d *daemon) memberNames() func(uint8) string {
	n := d.inForce()
	return func(id uint8) string {
		if n.Cluster != nil {
			for _, m := range n.Cluster.Members {
				if m.ID == id && m.Name != "" {
					return m.Name
				}
			}
		}
		return routes.NameOf(id)
	}
}

// compareTraffic holds the volume against the one before the last failover; predecessor is what the member that had the role then
// says.
func (d *daemon) compareTraffic(over time.Duration, predecessor traffic.Asked) (api.TrafficComparison, error) {
	names := d.memberNames()
	d.traffic.mu.Lock()
	defer d.traffic.mu.Unlock()
	if d.traffic.r == nil {
		return api.TrafficComparison{}, errNotCounted
	}
	return d.traffic.r.Compare(uptime(), over, predecessor, names), nil
}

// askPredecessor asks the member that had the role before this one for its volume then, if it has to be asked.
func (d *daemon) askPredecessor(ctx context.Context) traffic.Asked {
	d.traffic.mu.Lock()
	var id, self uint8
	var term uint64
	need := false
	if d.traffic.r != nil {
		self = d.traffic.self
		id, term, need = d.traffic.r.Predecessor()
	}
	d.traffic.mu.Unlock()
	if !need {
		return traffic.Asked{}
	}
	ctx, cancel := context.WithTimeout(ctx, predecessorTime)
	defer cancel()
	var t api.Traffic
	if err := d.askPeer(ctx, id, "traffic", "", 0, &t); err != nil {
		return traffic.Asked{Why: err.Error()}
	}
	v := traffic.Before(t, self, term)
	if v == nil {
		return traffic.Asked{Why: "it remembers nothing of that time"}
	}
	return traffic.Asked{Volume: v}
}

func overOf(r *http.Request) (time.Duration, error) {
	return api.TimeOf(r, "over", api.DefaultOver, 2*traffic.Interval, api.MaxOver)
}

func (d *daemon) handleTraffic(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/traffic", func(w http.ResponseWriter, r *http.Request) {
		over, err := overOf(r)
		if err != nil {
			api.Reply(w, nil, err)
			return
		}
		t, err := d.volume(over)
		api.Reply(w, t, err)
	})
	mux.HandleFunc("GET /v1/traffic/compare", func(w http.ResponseWriter, r *http.Request) {
		over, err := overOf(r)
		if err != nil {
			api.Reply(w, nil, err)
			return
		}
		c, err := d.compareTraffic(over, d.askPredecessor(r.Context()))
		api.Reply(w, c, err)
	})
}
