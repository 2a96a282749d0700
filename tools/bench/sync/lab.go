package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/ha/statesync/ctnl"
	"github.com/twinkeep/twinkeep/init/unixhttp"
	"github.com/twinkeep/twinkeep/tools/bench/topology"
)

// side is one of two gateways, joined by a cable.
type side struct {
	ns     topology.Namespace
	index  int
	dir    string
	table  *ctnl.Table
	daemon *exec.Cmd
	pid    int
	out    bytes.Buffer
	end    []func()

	settings   string // more lines of the node file's section cluster
	interfaces string // more lines of the node file's interfaces
}

// lab is two sides, A with the role.
type lab struct {
	o              *options
	a, b           *side
	client, server topology.Namespace // where there are packets
}

func newLab(o *options) (*lab, error) {
	l := &lab{o: o}
	for i, s := range []**side{&l.a, &l.b} {
		*s = &side{ns: topology.Namespace(fmt.Sprintf("tks%d-%d", os.Getpid(), i)), index: i, dir: filepath.Join(o.dir, fmt.Sprint(i))}
		os.RemoveAll((*s).dir)
		if err := os.MkdirAll((*s).dir, 0o755); err != nil {
			return l, err
		}
		if out, err := exec.Command("ip", "netns", "add", string((*s).ns)).CombinedOutput(); err != nil {
			return l, fmt.Errorf("make a namespace: %s", out)
		}
	}
	if out, err := exec.Command("ip", "-netns", string(l.a.ns), "link", "add", "sync", "type", "veth", "peer", "name", "sync", "netns", string(l.b.ns)).CombinedOutput(); err != nil {
		return l, fmt.Errorf("join the namespaces: %s", out)
	}
	for i, s := range []*side{l.a, l.b} {
		err := s.ns.Batch("link set lo up", "link set sync up", fmt.Sprintf("addr add 169.254.77.%d/24 dev sync", i+1))
		if err == nil {
			err = s.ns.Set("net/netfilter/nf_conntrack_events=1", "net/netfilter/nf_conntrack_tcp_be_liberal=1", "net/netfilter/nf_conntrack_tcp_loose=1")
		}
		if err == nil {
			err = s.ns.Do(func() (err error) { s.table, err = ctnl.OpenTable(); return err })
		}
		if err != nil {
			return l, err
		}
	}
	return l, nil
}

func (l *lab) close() {
	for _, s := range []*side{l.a, l.b} {
		if s == nil {
			continue
		}
		s.stop()
		for _, f := range s.end {
			f()
		}
		if s.table != nil {
			s.table.Close()
		}
		s.ns.Run("", "conntrack", "-F") // here rather than by the kernel during the next trial
		exec.Command("ip", "netns", "del", string(s.ns)).Run()
	}
	for _, ns := range []topology.Namespace{l.client, l.server} {
		if ns != "" {
			exec.Command("ip", "netns", "del", string(ns)).Run()
		}
	}
	time.Sleep(500 * time.Millisecond)
}

func (s *side) stop() {
	if s.daemon != nil {
		syscall.Kill(s.pid, syscall.SIGKILL)
		s.daemon.Process.Kill()
		s.daemon.Wait()
		s.daemon = nil
	}
}

// start starts a daemon and finds its process.
func (s *side) start(name string, args ...string) error {
	s.daemon = s.ns.Command(context.Background(), args...)
	s.daemon.Stdout, s.daemon.Stderr = &s.out, &s.out
	if err := s.daemon.Start(); err != nil {
		return err
	}
	for range 200 {
		time.Sleep(10 * time.Millisecond)
		pids, err := s.ns.Processes()
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.TrimSpace(string(comm)) == name {
				s.pid = pid
				return nil
			}
		}
	}
	return fmt.Errorf("%s did not start: %s", name, s.out.String())
}

// cpu is what the daemon has used, user and system.
func (s *side) cpu() time.Duration {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// rss is the daemon's resident memory in bytes.
func (s *side) rss() int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.pid))
	if f := strings.Fields(string(b)); len(f) > 1 {
		n, _ := strconv.Atoi(f[1])
		return n * os.Getpagesize()
	}
	return 0
}

// count is the size of the side's kernel table, without what the cable's own traffic makes.
func (s *side) count() int { n, _ := s.table.Size(); return n }

// Twinkeep

const key = "dGVzdCBrZXkgb2YgdGhlIG5hbWVzcGFjZSBsYWIgMTI="

func (s *side) startTwinkeep(binary string) error {
	text := fmt.Sprintf(`version: 1
hostname: gw-%d
cluster:
  id: 9
  name: bench
  member: %d
  key: %s
  members:
    - {id: 1, name: gw-1, priority: 100}
    - {id: 2, name: gw-2, priority: 90}
%sinterfaces:
  - {name: sync, sync: true, address: 169.254.77.%d/24, place: 0/5/0}
%s`, s.index+1, s.index+1, key, s.settings, s.index+1, s.interfaces)
	if err := os.WriteFile(filepath.Join(s.dir, "node.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	if err := s.had(); err != nil {
		return err
	}
	return s.start("twinkeep", binary, "statesyncd", "--config", s.dir, "--state", s.dir, "--run", s.dir)
}

// had stands in for the daemon that knows the role: A has it.
func (s *side) had() error {
	ln, err := unixhttp.Listen(filepath.Join(s.dir, api.HadSocket))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	status := member.Status{Member: uint8(s.index + 1), Holder: 1, Term: 1, State: [...]string{"ACTIVE", "STANDBY"}[s.index]}
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { api.Reply(w, status, nil) })
	mux.HandleFunc("POST /v1/sync", func(w http.ResponseWriter, _ *http.Request) { api.Reply(w, api.Message{}, nil) })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); unixhttp.Serve(ctx, ln, mux) }()
	s.end = append(s.end, func() { cancel(); <-done })
	return nil
}

func (s *side) sync() (st api.SyncStatus) {
	st, _ = api.NewClient(s.dir).Sync(context.Background())
	return st
}

// conntrackd

func (s *side) startConntrackd() error {
	conf := filepath.Join(s.dir, "conntrackd.conf")
	text := fmt.Sprintf(`Sync {
	Mode FTFW {
		DisableExternalCache On
	}
	UDP {
		IPv4_address 169.254.77.%d
		IPv4_Destination_Address 169.254.77.%d
		Port 3780
		Interface sync
		SndSocketBuffer 8388608
		RcvSocketBuffer 8388608
		Checksum on
	}
}
General {
	HashSize 65536
	HashLimit 2400000
	LogFile off
	Syslog off
	LockFile %[3]s/lock
	UNIX {
		Path %[3]s/ctl
	}
	NetlinkBufferSize 8388608
	NetlinkBufferSizeMaxGrowth 67108864
	Filter From Kernelspace {
		Protocol Accept {
			TCP
			UDP
			ICMP
		}
		Address Ignore {
			IPv4_address 127.0.0.1
			IPv4_address 169.254.77.1
			IPv4_address 169.254.77.2
		}
	}
}
`, s.index+1, 2-s.index, s.dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	return s.start("conntrackd", "conntrackd", "-C", conf)
}

func (s *side) ctl(flag string) error {
	return s.ns.Run("", "conntrackd", "-C", filepath.Join(s.dir, "conntrackd.conf"), flag)
}

// start starts both daemons of a system, and waits until they talk.
func (l *lab) start(name string, sides ...*side) error {
	for _, s := range sides {
		var err error
		if name == "conntrackd" {
			err = s.startConntrackd()
		} else {
			err = s.startTwinkeep(l.o.binary)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settle waits until the pair is in sync.
func (l *lab) settle(name string) error {
	if name == "conntrackd" {
		time.Sleep(2 * time.Second)
		return nil
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if l.a.sync().InSync && l.b.sync().InSync {
			return nil
		}
	}
	s, _ := json.Marshal(l.b.sync())
	return fmt.Errorf("the pair is not in sync: %s\n%s\n%s", s, l.a.out.String(), l.b.out.String())
}

// flow is the i-th of many: many clients and source ports, each translated to a port of its own.
func flow(i int) statesync.KernelOp {
	f := statesync.Flow{Family: statesync.Inet, Has: statesync.HasTimeout, Timeout: 300, Status: statesync.StatusConfirmed}
	src, _ := statesync.AddrOf(netip.AddrFrom4([4]byte{10, byte(1 + i/(200*250)), byte(1 + i%250), byte(1 + i/250%200)}))
	dst, _ := statesync.AddrOf(netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + i/60000)}))
	vip, _ := statesync.AddrOf(netip.MustParseAddr("192.0.2.1"))
	port := uint16(1024 + i%60000)
	f.Orig = statesync.Tuple{Proto: statesync.UDP, Src: src, SrcPort: uint16(1024 + i*31%60000), Dst: dst, DstPort: 53}
	f.Reply = statesync.Tuple{Proto: statesync.UDP, Src: dst, SrcPort: 53, Dst: vip, DstPort: port}
	return statesync.KernelOp{Kind: statesync.KernelCreate, Key: uint64(i), Flow: f}
}

// tcp makes it an established connection, as a joining standby has to load.
func tcp(op statesync.KernelOp) statesync.KernelOp {
	f := &op.Flow
	f.Orig.Proto, f.Reply.Proto = statesync.TCP, statesync.TCP
	f.Has |= statesync.HasTCP
	f.TCP.State = 3
	f.Timeout = 3600
	f.Status |= statesync.StatusSeenReply | statesync.StatusAssured
	return op
}
