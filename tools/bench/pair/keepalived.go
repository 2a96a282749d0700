package pair

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/tools/bench/topology"
)

// Keepalived is keepalived for the addresses and conntrackd for the connections, in the most aggressive setting
// that stayed stable on this network: adverts every 10 ms, the least that VRRPv3 has, in real time.
type Keepalived struct {
	files
	past uint64 // takeovers in logs that are gone
}

// NewKeepalived makes the pair's files below dir.
func NewKeepalived(dir string) *Keepalived { return &Keepalived{files: files{dir}} }

// Name implements System.
func (*Keepalived) Name() string { return "keepalived + conntrackd" }

// Setting implements System.
func (*Keepalived) Setting() string { return "adverts 10 ms, rt 50" }

// Events implements System.
func (*Keepalived) Events() []Event { return []Event{Death, Kill, Planned} }

// Files of a gateway.
const (
	keepalivedConf = "keepalived.conf"
	keepalivedLog  = "keepalived.log"
	keepalivedPID  = "keepalived.pid"
	conntrackdConf = "conntrackd.conf"
	conntrackdLog  = "conntrackd.log"
	conntrackdLock = "conntrackd.lock"
	conntrackdCtl  = "conntrackd.ctl"
	notifyScript   = "notify"
)

// Boot implements System.
func (k *Keepalived) Boot(g *topology.Gateway) error {
	var addresses []string
	for _, device := range []string{topology.LAN, topology.WAN, topology.Sync} {
		addresses = append(addresses, fmt.Sprintf("addr add %s dev %s", topology.Address(g.Index, device), device))
	}
	if err := g.NS.Batch(addresses...); err != nil {
		return err
	}
	if err := g.NS.Run(nftRules(), "nft", "-f", "-"); err != nil {
		return err
	}
	// The rules came first: without them there is no connection tracking to set, nor anything to forward by.
	if err := g.NS.Set(gatewaySysctls...); err != nil {
		return err
	}
	for _, stale := range []string{conntrackdLock, conntrackdCtl, keepalivedPID, "vrrp.pid"} {
		_ = os.Remove(k.path(g, stale)) // left behind by SIGKILL
	}
	conf := k.path(g, conntrackdConf)
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{
		{conntrackdConf, conntrackdConfig(g.Index, k.path(g, conntrackdLock), k.path(g, conntrackdCtl)), 0o644},
		{notifyScript, notifyConfig(conf), 0o755},
		{keepalivedConf, keepalivedConfig(g.Index, k.path(g, notifyScript)), 0o644},
	} {
		if err := k.write(g, f.name, f.text, f.mode); err != nil {
			return err
		}
	}
	if err := k.start(g, g.NS.Command(context.Background(), "conntrackd", "-C", conf), conntrackdLog); err != nil {
		return err
	}
	if err := wait("conntrackd on "+g.Name, func() bool { _, err := os.Stat(k.path(g, conntrackdCtl)); return err == nil }); err != nil {
		return fmt.Errorf("%w: %s", err, k.tail(g, conntrackdLog, 5))
	}
	return k.keepalived(g)
}

// keepalived starts it with a new log, so that the log tells its state.
func (k *Keepalived) keepalived(g *topology.Gateway) error {
	k.past += k.takeovers(g)
	if err := os.RemoveAll(k.path(g, keepalivedLog)); err != nil {
		return err
	}
	return k.start(g, g.NS.Command(context.Background(), "keepalived", "--dont-fork", "--log-console", "--vrrp",
		"--use-file", k.path(g, keepalivedConf), "--pid", k.path(g, keepalivedPID), "--vrrp_pid", k.path(g, "vrrp.pid")), keepalivedLog)
}

// Role implements System: the active has the VIP.
func (k *Keepalived) Role(g *topology.Gateway) Role {
	if k.pid(g) == 0 {
		return Starting
	}
	holds := false
	err := g.NS.Do(func() error {
		ifi, err := net.InterfaceByName(topology.LAN)
		if err != nil {
			return err
		}
		addrs, err := ifi.Addrs()
		for _, a := range addrs {
			holds = holds || strings.HasPrefix(a.String(), topology.LANVIP.String()+"/")
		}
		return err
	})
	log := k.log(g)
	switch {
	case err != nil:
		return Starting
	case holds:
		return Active
	case strings.LastIndex(log, enteringBackup) > strings.LastIndex(log, enteringMaster):
		return Standby
	}
	return Starting
}

// What keepalived prints about the instance of the LAN; the sync group makes that of the WAN follow.
const (
	enteringMaster = "(" + topology.LAN + ") Entering MASTER STATE"
	enteringBackup = "(" + topology.LAN + ") Entering BACKUP STATE"
)

// log is what keepalived has printed since it was started, empty before that.
func (k *Keepalived) log(g *topology.Gateway) string {
	data, _ := os.ReadFile(k.path(g, keepalivedLog))
	return string(data)
}

func (k *Keepalived) takeovers(g *topology.Gateway) uint64 {
	return uint64(strings.Count(k.log(g), enteringMaster))
}

// Takeovers implements System.
func (k *Keepalived) Takeovers(lab *topology.Lab) uint64 {
	n := k.past
	for _, g := range lab.Gateways {
		n += k.takeovers(g)
	}
	return n
}

// Inflict implements System: Planned is what `systemctl stop keepalived` does.
func (k *Keepalived) Inflict(e Event, g *topology.Gateway) error {
	if e != Planned {
		return fmt.Errorf("keepalived has no event %s", e)
	}
	pid := k.pid(g)
	if pid == 0 {
		return fmt.Errorf("keepalived does not run on %s: %s", g.Name, k.tail(g, keepalivedLog, 5))
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		return fmt.Errorf("stop keepalived on %s: %w", g.Name, err)
	}
	return nil
}

// Resume implements System.
func (k *Keepalived) Resume(_ Event, g *topology.Gateway) error {
	if err := wait("the end of keepalived on "+g.Name, func() bool { return k.pid(g) == 0 }); err != nil {
		return err
	}
	return k.keepalived(g)
}

// pid of keepalived's parent process, 0 if it does not run.
func (k *Keepalived) pid(g *topology.Gateway) int {
	data, err := os.ReadFile(k.path(g, keepalivedPID))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || unix.Kill(pid, 0) != nil {
		return 0
	}
	return pid
}

// Evidence implements System. keepalived does not say why.
func (*Keepalived) Evidence(*topology.Gateway) string { return "" }

// Log implements System.
func (k *Keepalived) Log(g *topology.Gateway) string {
	return k.tail(g, keepalivedLog, 15) + "\n" + k.tail(g, conntrackdLog, 5)
}
