// Package sysctl sets kernel parameters from tables. The network part also
// applies inside a network namespace, where `twinkeep run` and the tests live.
package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Root is where the kernel's parameters are.
const Root = "/proc/sys"

// Param is one kernel parameter.
type Param struct {
	// Key is the name as sysctl(8) writes it, e.g. "net.ipv4.ip_forward".
	Key   string
	Value string
	// Optional parameters may be absent from the kernel, or from a network
	// namespace.
	Optional bool
}

// Network is what every member sets before traffic flows; all of it is per
// network namespace.
//
//   - arp_ignore=1: without it a physical NIC answers ARP for a VIP with its own
//     MAC and the gate is bypassed. arp_announce=2: ARP requests never carry a
//     VIP as sender from another interface.
//   - rp_filter=0: the reply to a VIP leaves by another interface (the macvlan)
//     than a strict check would expect. "all" and an interface combine by
//     maximum, so both must be 0.
//   - tcp_be_liberal, tcp_loose: after a takeover the windows in the replicated
//     table lag behind the connection; dropping such segments would break it.
//   - accept_ra=0: forwarding routers have static configuration.
var Network = []Param{
	{"net.ipv4.ip_forward", "1", false},
	{"net.ipv4.conf.all.arp_ignore", "1", false},
	{"net.ipv4.conf.default.arp_ignore", "1", false},
	{"net.ipv4.conf.all.arp_announce", "2", false},
	{"net.ipv4.conf.default.arp_announce", "2", false},
	{"net.ipv4.conf.all.rp_filter", "0", false},
	{"net.ipv4.conf.default.rp_filter", "0", false},
	{"net.ipv4.conf.all.send_redirects", "0", false},
	{"net.ipv4.conf.default.send_redirects", "0", false},
	{"net.ipv4.conf.all.accept_redirects", "0", false},
	{"net.ipv4.conf.default.accept_redirects", "0", false},
	{"net.ipv4.conf.all.accept_source_route", "0", false},
	{"net.ipv4.conf.default.accept_source_route", "0", false},
	{"net.ipv4.icmp_echo_ignore_broadcasts", "1", true},
	{"net.ipv6.conf.all.forwarding", "1", true},
	{"net.ipv6.conf.default.forwarding", "1", true},
	{"net.ipv6.conf.all.accept_redirects", "0", true},
	{"net.ipv6.conf.default.accept_redirects", "0", true},
	{"net.ipv6.conf.all.accept_ra", "0", true},
	{"net.ipv6.conf.default.accept_ra", "0", true},
	{"net.ipv6.conf.all.accept_source_route", "0", true},
	{"net.netfilter.nf_conntrack_acct", "1", true},
	{"net.netfilter.nf_conntrack_tcp_be_liberal", "1", true},
	{"net.netfilter.nf_conntrack_tcp_loose", "1", true},
}

// Machine is what PID 1 sets besides, once for the whole machine.
//
//   - printk: only what is worse than an error reaches the console, which
//     belongs to the operator; dmesg has everything.
//   - panic=10, panic_on_oops=1: a gateway with a broken kernel must reset and
//     leave the role to its peer, after the message had time to reach the
//     serial line.
//   - ctrl-alt-del=0: the kernel sends SIGINT to PID 1 instead of resetting.
//   - sched_rr_timeslice_ms=4: one tick at HZ=250. A thread of had that waits
//     for another one in a loop gives way that soon (docs/decisions/0007).
//   - rmem_max: the netlink sockets of state sync ask for large buffers.
var Machine = []Param{
	{"kernel.printk", "3 4 1 3", true},
	{"kernel.panic", "10", false},
	{"kernel.panic_on_oops", "1", false},
	{"kernel.ctrl-alt-del", "0", true},
	{"kernel.sysrq", "0", true},
	{"kernel.kptr_restrict", "1", true},
	{"kernel.sched_rr_timeslice_ms", "4", true},
	{"net.core.rmem_max", "67108864", true},
	{"net.core.wmem_max", "67108864", true},
	{"net.core.netdev_max_backlog", "4096", true},
	{"net.core.bpf_jit_enable", "1", true},
	{"vm.overcommit_memory", "0", true},
}

// Failure is a parameter that could not be set.
type Failure struct {
	Param Param
	Err   error
}

func (f Failure) Error() string {
	return fmt.Sprintf("set kernel parameter %s=%s: %v", f.Param.Key, f.Param.Value, f.Err)
}

func (f Failure) Unwrap() error { return f.Err }

// Apply writes every parameter of the table below root (Root, outside tests)
// and returns those that could not be set. It goes on after a failure. An
// optional parameter that does not exist is no failure.
func Apply(root string, table []Param) []Failure {
	var failures []Failure
	for _, p := range table {
		err := write(root, p)
		if err == nil || p.Optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		failures = append(failures, Failure{p, err})
	}
	return failures
}

func write(root string, p Param) error {
	// Not created: a parameter is a file that the kernel provides.
	f, err := os.OpenFile(Path(root, p.Key), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(p.Value + "\n")
	return err
}

// Path is the file of a parameter. As sysctl(8) has it, a slash in a key stands
// for a dot in a name, for interfaces such as "G1.7" (net.ipv4.conf.G1/7.rp_filter).
func Path(root, key string) string {
	swap := strings.NewReplacer(".", "/", "/", ".")
	return filepath.Join(root, swap.Replace(key))
}

// Conntrack sizes the connection table for a machine with that many bytes of
// memory: an entry takes about 400 bytes with its NAT extension, and the table
// may fill an eighth of the memory. The result is between 65,536 and 2,097,152
// entries; with a bucket for each the chains stay short.
func Conntrack(memory uint64) []Param {
	const entry = 400
	entries := min(max(memory/8/entry, 1<<16), 1<<21)
	return []Param{
		{"net.netfilter.nf_conntrack_buckets", strconv.FormatUint(entries, 10), true},
		{"net.netfilter.nf_conntrack_max", strconv.FormatUint(entries, 10), true},
	}
}
