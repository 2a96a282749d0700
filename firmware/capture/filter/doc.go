// Package filter compiles filter expressions in the syntax of tcpdump (pcap-filter(7)) to programs of the kernel's packet filter
// (classic BPF), for Ethernet. It is pure, and knows no libpcap: the firmware is one static binary.
//
// # Syntax
//
//	[ip|ip6|arp|rarp] [src|dst|src or dst|src and dst] host ADDRESS
//	[ip|ip6|arp|rarp] [src|dst|…] net NETWORK        10.1.0.0/16, 10.1, 10.1.0.0 mask 255.255.0.0, 2001:db8::/32
//	[tcp|udp|sctp] [src|dst|…] port NUMBER, portrange A-B
//	ether [src|dst|…] host MAC
//	ip|ip6|ether proto NUMBER|NAME, proto NUMBER|NAME
//	[ether] broadcast, [ether|ip|ip6] multicast
//	ip, ip6, arp, rarp, tcp, udp, sctp, icmp, icmp6, igmp, igrp, pim, vrrp, carp, ah, esp
//	vlan [ID]
//	less LENGTH, greater LENGTH
//	inbound, outbound
//	A RELATION B, where RELATION is = == != < <= > >= and A, B are made of numbers, len, PROTOCOL[OFFSET:SIZE], + - * / % & | ^ << >>,
//	  and names such as tcpflags, tcp-syn, icmptype, icmp-echo
//	not, and, or (! && ||), parentheses; "host A or B" and "port (80 or 443)" repeat what stands before
//
// As with tcpdump, and and or have the same precedence, left to right, and vlan moves what stands behind it by the length of a tag, so
// it is "udp and not vlan", not the other way round. Ports
// are looked for in first fragments only, and in IPv6 packets without extension headers.
//
// # What differs from tcpdump
//
// Names of hosts and networks are not looked up. Names of ports are those of [Ports], for all protocols. Protocol names need no backslash.
// What is not in the list above (protochain, gateway, mpls, pppoes, geneve, type, ip broadcast and others) is an error that says so.
package filter
