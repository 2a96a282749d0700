package statesyncd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/ha/statesync"
)

func (d *daemon) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		c, err := d.current()
		var s api.SyncStatus
		if err == nil {
			s, err = c.status(r.Context())
		}
		api.Reply(w, s, err)
	})
	mux.HandleFunc("POST /v1/barrier", func(w http.ResponseWriter, r *http.Request) {
		c, err := d.current()
		var reply api.BarrierReply
		if err == nil {
			reply, err = c.serveBarrier(r)
		}
		api.Reply(w, reply, err)
	})
	mux.HandleFunc("GET /v1/diff", func(w http.ResponseWriter, r *http.Request) {
		c, err := d.current()
		var reply api.SyncDiff
		if err == nil {
			reply, err = c.serveDiff(r)
		}
		api.Reply(w, reply, err)
	})
	// had says by this that the role has changed here, so that nobody waits for the next question.
	mux.HandleFunc("POST /v1/role", func(w http.ResponseWriter, _ *http.Request) {
		c, err := d.current()
		if err == nil {
			poke(c.roleNow)
		}
		api.Reply(w, api.Message{Message: "asking had"}, err)
	})
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, _ *http.Request) {
		poke(d.reload)
		api.Reply(w, api.Message{Message: "reading the node file again; see 'sync'"}, nil)
	})
	mux.HandleFunc("/", api.NotFound)
	return mux
}

var errEnded = &api.Error{Status: http.StatusConflict, Message: "state sync is starting anew"}

// MaxBarrier bounds how long a barrier waits.
const MaxBarrier = 10 * time.Second

var barrierNumber atomic.Uint64

func (c *core) serveBarrier(r *http.Request) (api.BarrierReply, error) {
	var ask api.Barrier
	if err := json.NewDecoder(io.LimitReader(r.Body, 4096)).Decode(&ask); err != nil && !errors.Is(err, io.EOF) {
		return api.BarrierReply{}, &api.Error{Status: http.StatusBadRequest, Message: "read the request: " + err.Error()}
	}
	timeout := time.Duration(ask.TimeoutMS) * time.Millisecond
	if timeout <= 0 || timeout > MaxBarrier {
		return api.BarrierReply{}, &api.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("timeout_ms: %d is not between 1 and %d", ask.TimeoutMS, MaxBarrier.Milliseconds())}
	}
	result, ok := c.askBarrier(r.Context(), barrierNumber.Add(1), timeout)
	if !ok {
		return api.BarrierReply{}, errEnded
	}
	reply := api.BarrierReply{OK: len(result.missing) == 0, Took: member.Duration(result.took)}
	for _, id := range result.missing {
		reply.Missing = append(reply.Missing, c.name(id))
	}
	for _, id := range result.others {
		reply.NotInSync = append(reply.NotInSync, c.name(id))
	}
	return reply, nil
}

// status builds what the console shows.
func (c *core) status(ctx context.Context) (api.SyncStatus, error) {
	var m statesync.Status
	var out api.SyncStatus
	if !c.do(ctx, func() {
		m = c.machine.Status()
		c.rates.fill(&out)
		out.RoleError = c.roleError
		out.Sessions = map[string]uint64{}
		for r, n := range c.refused {
			out.Sessions[string(r)] = n
		}
		for _, p := range m.Peers {
			if s := c.sessions[p.Member]; s != nil {
				now, peak, sent := s.Backlog()
				out.Peers = append(out.Peers, api.SyncPeer{Member: p.Member, Via: s.Via, Address: s.Remote().String(), Queue: now, QueuePeak: peak, SentBytes: sent})
			} else {
				out.Peers = append(out.Peers, api.SyncPeer{Member: p.Member})
			}
		}
	}) {
		return out, errEnded
	}
	now := c.now()
	out.Member, out.MemberName = c.node.Cluster.Member, c.name(c.node.Cluster.Member)
	out.InSync, out.Text, out.Since = m.InSync, m.Text, member.Duration(now-m.Since)
	out.Holder, out.Term = m.Role.Holder, m.Role.Term
	out.Entries, out.Expectations, out.Full = m.Entries, m.Expectations, m.Full
	out.Stats = m.Stats
	out.TableCount, out.TableMax = c.table.Size()
	out.SkippedMessages = c.kernel.Skipped.Load()
	out.Held, out.HeldLate, out.HeldDropped = c.held.Load(), c.late.Load(), c.dropped.Load()
	out.RSS, out.CPU = usage()
	for i, p := range m.Peers {
		o := &out.Peers[i]
		o.Name, o.Connected, o.Since = c.name(p.Member), p.Up, member.Duration(now-p.Since)
		o.Holder, o.Term, o.InSync, o.Full, o.Text, o.Entries = p.Holder, p.Term, p.State.InSync, p.State.Full, p.State.Text, int(p.State.Entries)
		o.Lag, o.LagPeak, o.Unacked = member.Duration(p.Lag), member.Duration(p.Peak), p.Unacked
		o.Digest = "-"
		if p.Compared > 0 {
			if o.Digest = "equal"; p.Differs > 0 {
				o.Digest = fmt.Sprintf("%d of %d buckets differ", p.Differs, statesync.Buckets)
			}
		}
		o.Repairing = p.Repairing
	}
	return out, nil
}

// diffTimeout is how long a comparison may take.
const diffTimeout = 8 * time.Second

func (c *core) serveDiff(r *http.Request) (api.SyncDiff, error) {
	peer, err := c.diffPeer(r.FormValue("peer"))
	if err != nil {
		return api.SyncDiff{}, err
	}
	result := make(chan statesync.Diff, 1)
	if !c.do(r.Context(), func() {
		if err = c.machine.AskDiff(c.now(), peer); err == nil {
			c.diffs = append(c.diffs, result)
		}
	}) {
		return api.SyncDiff{}, errEnded
	}
	if err != nil {
		return api.SyncDiff{}, &api.Error{Status: http.StatusConflict, Message: err.Error(), Hint: "see sync"}
	}
	select {
	case d := <-result:
		return c.describe(d), nil
	case <-r.Context().Done():
	case <-time.After(diffTimeout):
	}
	c.do(context.Background(), func() { c.machine.DropDiff(); c.diffs = nil })
	return api.SyncDiff{}, &api.Error{Status: http.StatusGatewayTimeout, Message: "the comparison with " + c.name(peer) + " took too long", Hint: "see sync"}
}

// diffPeer finds the peer to compare with: by name or ID, or the only or first connected one.
func (c *core) diffPeer(name string) (uint8, error) {
	for _, m := range c.node.Cluster.Members {
		if m.ID != c.node.Cluster.Member && (name == "" || m.Name == name || strconv.Itoa(int(m.ID)) == name) {
			return m.ID, nil
		}
	}
	return 0, &api.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("there is no peer %q", name), Hint: "see cluster state"}
}

func (c *core) describe(d statesync.Diff) api.SyncDiff {
	out := api.SyncDiff{Peer: c.name(d.Peer), Buckets: d.Buckets, Trimmed: d.Trimmed, Expectations: d.Expected, Here: []string{}, There: []string{}, Changed: []string{}}
	for i := range d.Here {
		out.Here = append(out.Here, describe(&d.Here[i]))
	}
	for i := range d.There {
		out.There = append(out.There, describe(&d.There[i]))
	}
	for i := range d.Changed {
		out.Changed = append(out.Changed, describe(&d.Changed[i][0])+"  |  there: "+describe(&d.Changed[i][1]))
	}
	return out
}

var protocols = map[uint8]string{statesync.ICMP: "icmp", statesync.TCP: "tcp", statesync.UDP: "udp", statesync.GRE: "gre", statesync.ICMPv6: "icmpv6", statesync.SCTP: "sctp"}

// tcpStates is enum tcp_conntrack of linux/netfilter/nf_conntrack_tcp.h.
var tcpStates = []string{"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"}

// describe is a connection in one line.
func describe(f *statesync.Flow) string {
	name := protocols[f.Orig.Proto]
	if name == "" {
		name = strconv.Itoa(int(f.Orig.Proto))
	}
	end := func(a statesync.Addr, port uint16) string {
		if f.Orig.Proto == statesync.ICMP || f.Orig.Proto == statesync.ICMPv6 {
			return a.Netip(f.Family).String()
		}
		return fmt.Sprintf("%v:%d", a.Netip(f.Family), port)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s -> %s", name, end(f.Orig.Src, f.Orig.SrcPort), end(f.Orig.Dst, f.Orig.DstPort))
	if src, dst := f.NAT(); src || dst {
		fmt.Fprintf(&b, " as %s -> %s", end(f.Reply.Dst, f.Reply.DstPort), end(f.Reply.Src, f.Reply.SrcPort))
	}
	if f.Has&statesync.HasTCP != 0 && int(f.TCP.State) < len(tcpStates) {
		b.WriteString(" " + tcpStates[f.TCP.State])
	}
	if f.Has&statesync.HasMark != 0 {
		fmt.Fprintf(&b, " mark %d", f.Mark)
	}
	return b.String()
}

// usage is this process's resident memory in bytes and CPU time.
func usage() (rss uint64, cpu time.Duration) {
	b, _ := os.ReadFile("/proc/self/statm")
	if f := strings.Fields(string(b)); len(f) > 1 {
		n, _ := strconv.ParseUint(f[1], 10, 64)
		rss = n * uint64(os.Getpagesize())
	}
	return rss, cpuTime()
}
