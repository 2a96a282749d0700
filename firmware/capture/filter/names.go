package filter

import "golang.org/x/sys/unix"

// EtherTypes, from IEEE's registry.
const (
	etherIP   = 0x0800
	etherARP  = 0x0806
	etherRARP = 0x8035
	etherIP6  = 0x86dd
	tag8021Q  = 0x8100
	tag8021ad = 0x88a8
	tag9100   = 0x9100 // stacked tags before 802.1ad
)

var etherTypes = map[string]uint32{"ip": etherIP, "arp": etherARP, "rarp": etherRARP, "ip6": etherIP6, "lldp": 0x88cc}

// family is the versions of IP that a protocol runs over.
type family uint8

const (
	over4 family = 1 << iota
	over6
	overBoth = over4 | over6
)

// protocol is one above IP.
type protocol struct {
	number uint32
	over   family
}

// protocols are those with a keyword.
var protocols = map[string]protocol{
	"tcp": {unix.IPPROTO_TCP, overBoth}, "udp": {unix.IPPROTO_UDP, overBoth}, "sctp": {unix.IPPROTO_SCTP, overBoth},
	"icmp": {unix.IPPROTO_ICMP, over4}, "icmp6": {unix.IPPROTO_ICMPV6, over6}, "igmp": {unix.IPPROTO_IGMP, over4}, "igrp": {9, over4},
	"pim": {unix.IPPROTO_PIM, overBoth}, "vrrp": {112, over4}, "carp": {112, over4}, "ah": {unix.IPPROTO_AH, overBoth}, "esp": {unix.IPPROTO_ESP, overBoth},
}

// numbered are protocols that have a name only behind proto.
var numbered = map[string]uint32{"gre": unix.IPPROTO_GRE, "ipip": unix.IPPROTO_IPIP, "ospf": 89, "ipv6-icmp": unix.IPPROTO_ICMPV6}

// Ports are the names that can stand for a port.
var Ports = map[string]uint16{
	"ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "bootps": 67, "bootpc": 68, "tftp": 69, "http": 80, "kerberos": 88, "pop3": 110,
	"ntp": 123, "imap": 143, "snmp": 161, "snmp-trap": 162, "bgp": 179, "ldap": 389, "https": 443, "isakmp": 500, "syslog": 514, "ipsec-nat-t": 4500,
	"imaps": 993, "ldaps": 636, "radius": 1812, "sip": 5060,
}

// constants are the names of numbers in A RELATION B, as in pcap-filter(7).
var constants = map[string]uint32{
	"tcpflags": 13, "tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32, "tcp-ece": 64, "tcp-cwr": 128,
	"icmptype": 0, "icmpcode": 1, "icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5, "icmp-echo": 8, "icmp-routeradvert": 9,
	"icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12, "icmp-tstamp": 13, "icmp-tstampreply": 14, "icmp-ireq": 15, "icmp-ireqreply": 16,
	"icmp-maskreq": 17, "icmp-maskreply": 18,
	"icmp6type": 0, "icmp6code": 1, "icmp6-destinationunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3, "icmp6-parameterproblem": 4, "icmp6-echo": 128,
	"icmp6-echoreply": 129, "icmp6-routersolicit": 133, "icmp6-routeradvert": 134, "icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136, "icmp6-redirect": 137,
}

// Summary tells in one sentence what can be compiled.
const Summary = "filters are tcpdump's: [src|dst] host, net, port, portrange; ether host; tcp, udp, icmp, icmp6, arp, ip, ip6, vrrp, ip proto N; vlan [ID]; inbound, outbound; tcp[tcpflags] & tcp-syn != 0, len > 100; and, or, not, ( )"

// absent are words of pcap-filter(7) that this package does not know, with what to write instead.
var absent = map[string]string{
	"protochain": "proto, which looks at the first header only", "gateway": "ether host MAC and not host ADDRESS", "mpls": "ether proto 0x8847", "pppoed": "ether proto 0x8863",
	"pppoes": "ether proto 0x8864", "stp": "ether host 01:80:c2:00:00:00", "geneve": "udp port 6081", "vxlan": "udp port 4789", "action": "", "rnr": "", "rulenum": "", "reason": "",
	"rset": "", "ruleset": "", "srnr": "", "subrulenum": "", "type": "", "subtype": "", "dir": "", "lat": "", "moprc": "", "mopdl": "", "decnet": "", "atalk": "ether proto 0x809b",
	"aarp": "ether proto 0x80f3", "iso": "", "clnp": "", "esis": "", "isis": "", "ipx": "ether proto 0x8137", "netbeui": "", "fddi": "", "tr": "", "wlan": "", "link": "ether",
	"ppp": "", "slip": "", "ifname": "the name of the interface in front of the filter", "on": "the name of the interface in front of the filter", "ifindex": "",
}
