package netconf

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// procNet is the sysctl tree of the network namespace of the calling thread.
const procNet = "/proc/sys/net"

// perInterface holds on "all", on "default" and on every interface, because the kernel combines "all" with the
// interface by OR for some and by maximum for others (Documentation/networking/ip-sysctl.rst).
var perInterface = []struct{ family, name, value string }{
	// An ARP request is answered by the interface that has the address, with its own MAC. Otherwise the parent NIC
	// answers for the VIP on its macvlan, and frames reach it past the gate.
	{"ipv4", "arp_ignore", "1"},
	{"ipv4", "arp_announce", "2"},
	// Traffic comes in on the macvlan and its answer leaves by the parent: never the reverse path.
	{"ipv4", "rp_filter", "0"},
	// A redirect would send clients to a private address, around the shared one.
	{"ipv4", "send_redirects", "0"},
	{"ipv4", "accept_redirects", "0"},
	{"ipv6", "accept_redirects", "0"},
}

// conntrack lets a member carry on with connections it has seen the middle of only.
var conntrack = []struct{ name, value string }{
	{"nf_conntrack_tcp_be_liberal", "1"},
	{"nf_conntrack_tcp_loose", "1"},
	{"nf_conntrack_acct", "1"}, // packet and byte counters of connections
}

// parameters sets what must hold before the first packet is forwarded.
func (r *Result) parameters() error {
	var errs []error
	for _, p := range perInterface {
		dirs, err := filepath.Glob(filepath.Join(procNet, p.family, "conf", "*"))
		if err != nil {
			return err
		}
		var set []string
		for _, dir := range dirs {
			changed, err := setParameter(filepath.Join(dir, p.name), p.value)
			if errors.Is(err, fs.ErrNotExist) {
				continue // the interface went away meanwhile
			}
			if changed {
				set = append(set, filepath.Base(dir))
			}
			errs = append(errs, err)
		}
		if len(set) > 0 {
			r.changed("net.%s.conf.{%s}.%s = %s", p.family, strings.Join(set, ","), p.name, p.value)
		}
	}
	for _, p := range conntrack {
		changed, err := setParameter(filepath.Join(procNet, "netfilter", p.name), p.value)
		if changed {
			r.changed("net.netfilter.%s = %s", p.name, p.value)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: is the module nf_conntrack loaded?", err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Forward lets the kernel forward packets. Call it when the ruleset is in, never before: without rules everything
// would pass. It reports whether that was a change.
func Forward() (bool, error) {
	changed, err := setParameter(filepath.Join(procNet, "ipv4", "ip_forward"), "1")
	if _, none := os.Stat(filepath.Join(procNet, "ipv6")); none == nil {
		changed6, err6 := setParameter(filepath.Join(procNet, "ipv6", "conf", "all", "forwarding"), "1")
		changed, err = changed || changed6, errors.Join(err, err6)
	}
	if err != nil {
		return changed, fmt.Errorf("forward packets: %w", err)
	}
	return changed, nil
}

// setParameter writes a kernel parameter when it has another value, and reports whether it did.
func setParameter(path, value string) (bool, error) {
	old, err := os.ReadFile(path)
	if err != nil || string(bytes.TrimSpace(old)) == value {
		return false, err
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return false, err
	}
	return true, nil
}
