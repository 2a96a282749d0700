package pair

import (
	"fmt"
	"strings"

	"github.com/twinkeep/twinkeep/tools/bench/topology"
)

// gatewaySysctls are those of an ordinary Linux NAT gateway in a pair.
var gatewaySysctls = []string{
	"net/ipv4/ip_forward=1",
	"net/ipv4/conf/all/rp_filter=0",
	"net/ipv4/conf/lan/rp_filter=0",
	"net/ipv4/conf/wan/rp_filter=0",
	// A connection is taken over in its middle.
	"net/netfilter/nf_conntrack_tcp_be_liberal=1",
	"net/netfilter/nf_conntrack_tcp_loose=1",
}

// nftRules translate to the WAN VIP. Ports are random: with ports kept, flows survive a failover without any
// replication, and nothing is tested. FTP in active mode has its helper.
func nftRules() string {
	return fmt.Sprintf(`table ip nat {
	chain postrouting {
		type nat hook postrouting priority srcnat
		ip saddr %s oifname "%s" snat to %s fully-random
	}
}
table ip helpers {
	ct helper ftp {
		type "ftp" protocol tcp
		l3proto ip
	}
	chain prerouting {
		type filter hook prerouting priority mangle
		tcp dport 21 ct helper set "ftp"
	}
}
`, topology.LANPrefix, topology.WAN, topology.WANVIP)
}

// keepalivedConfig has one sync group of two instances. Priorities 254 and 253 have the least skew; nopreempt
// leaves the role where it is when a gateway comes back.
func keepalivedConfig(index int, notify string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `global_defs {
	router_id gw-%[1]c
	vrrp_version 3
	vrrp_rt_priority 50
	script_user root
	enable_script_security
}
vrrp_sync_group pair {
	group {
		lan
		wan
	}
	notify_master "%[2]s primary"
	notify_backup "%[2]s backup"
	notify_fault "%[2]s fault"
}
`, 'a'+index, notify)
	for id, device := range []string{topology.LAN, topology.WAN} {
		vip := topology.LANVIP
		if device == topology.WAN {
			vip = topology.WANVIP
		}
		fmt.Fprintf(&b, `vrrp_instance %[1]s {
	state BACKUP
	interface %[1]s
	virtual_router_id %[2]d
	priority %[3]d
	advert_int 0.01
	nopreempt
	virtual_ipaddress {
		%[4]s/24
	}
}
`, device, 71+id, 254-index, vip)
	}
	return b.String()
}

// conntrackdConfig injects what the peer sends straight into the kernel (no external cache), so that nothing has
// to be committed at a takeover. The scheduler is its default, SCHED_RR at the highest priority.
func conntrackdConfig(index int, lock, ctl string) string {
	var own strings.Builder
	for i := range topology.Members {
		for _, device := range []string{topology.LAN, topology.WAN, topology.Sync} {
			fmt.Fprintf(&own, "\t\t\tIPv4_address %s\n", topology.Address(i, device).Addr())
		}
	}
	return fmt.Sprintf(`Sync {
	Mode FTFW {
		DisableExternalCache On
	}
	UDP {
		IPv4_address %s
		IPv4_Destination_Address %s
		Port 3780
		Interface %s
		SndSocketBuffer 8388608
		RcvSocketBuffer 8388608
		Checksum on
	}
	Options {
		ExpectationSync {
			ftp
		}
	}
}
General {
	HashSize 65536
	HashLimit 2400000
	LogFile off
	Syslog off
	LockFile %s
	UNIX {
		Path %s
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
%s		}
	}
}
`, topology.Address(index, topology.Sync).Addr(), topology.Address(1-index, topology.Sync).Addr(), topology.Sync, lock, ctl, own.String())
}

// notifyConfig does what conntrackd's primary-backup.sh does, but for one thing that would be unfair to it: it
// does not ask a new backup for `conntrackd -t`. Without an external cache that empties the kernel's table a
// minute later, with all that the active has replicated, and nothing fills it again.
func notifyConfig(conf string) string {
	return fmt.Sprintf(`#!/bin/sh
ctl() { conntrackd -C %s "$1"; }
case "$1" in
primary) ctl -c; ctl -f; ctl -R; ctl -B ;;
backup) ctl -n ;;
esac
exit 0
`, conf)
}
