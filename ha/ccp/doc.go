// Package ccp turns packets of the Cluster Control Protocol into bytes and back (DESIGN §6). Heartbeats say
// "alive"; CCP says who thinks what: state reports of all members, interface probing (my port or theirs?),
// policy changes, agreement before a planned change. The package is pure: no sockets, no clocks, no state
// but the key. Everything that arrives from a network passes [ParseFrame], [Key.Open] and [Parse] before
// any decision sees it, and every refusal is a [Reason] that is counted by name. Keeping replays out (nonce
// and sequence), other clusters, and packets of one's own that come back, is up to the caller.
//
// # Frame
//
// Ethernet II, IPv4 without options, UDP 8116 → 8116 to a peer or a multicast group, right checksums, TTL
// 255; any other TTL means that the packet passed a router, and it is refused. Addresses in the frame are
// not authenticated.
//
// # Payload
//
// Big-endian: header, message, trailer. Header and messages are those of Check Point's ClusterXL as far as
// Wireshark's dissector cpha knows them, so any Wireshark shows them under "Check Point High Availability
// Protocol". The dissector finds every field from the front and does not look for an end, so the trailer
// behind changes nothing of what it shows; only in LB_CONFIRM and SYNC, which it does not take apart, is
// the trailer part of the bytes it calls "Data".
//
//	off len field (Wireshark's name)
//	  0   2 magic 0x1A90 (cpha.magic_number)
//	  2   2 protocol version 65001 (cpha.version, shown as unknown); see [Version]
//	  4   2 cluster ID, 1..255 (cpha.cluster_number)
//	  6   2 opcode (cpha.opcode)
//	  8   2 number of the interface it left by, 0..255 (cpha.src_if)
//	 10   2 random ID, the same in request and reply (cpha.random_id)
//	 12   2 member ID of the sender, 1..8 (cpha.src_id)
//	 14   2 member ID of the receiver, 0 for everyone (cpha.dst_id)
//	 16   2 policy ID, see [PolicyID] (cpha.policy_id)
//	 18   2 zero (cpha.filler)
//	 20   m message
//	      t trailer
//
// # Messages
//
//	1 MY_STATE
//	  0   2 n, number of members, 0..8 (cpha.id_num)
//	  2   2 report code: bit 0 states, bit 1 interfaces are included (cpha.report_code)
//	  4   2 mode: 0 undefined, 1 not active, 2 balance, 3 primary-up, 4 active-up (cpha.ha_mode)
//	  6   2 time unit in milliseconds (cpha.ha_time_unit)
//	      n with bit 0, n > 0: state of each member, member 1 first, which Wireshark counts as node 0
//	        (cpha.state_node): 0 down, 1 initializing, 2 standby, 3 ready, 4 active
//	      4 with bit 1: interfaces up inbound, assumed up inbound, up outbound, assumed up outbound, each
//	        0..127 (cpha.in_up, cpha.in_assume_up, cpha.out_up, cpha.out_assume_up)
//	      n with bit 1: time units since each member was heard, member 1 first; 127 is that long or
//	        longer, or never (cpha.cluster_last_packet)
//	2 QUERY_STATE, 5 IFCONF_REQ
//	        empty
//	3 IF_PROBE_REQ, 4 IF_PROBE_REPLY
//	  0   4 number of the probed interface, 0..255 (cpha.ifn)
//	6 IFCONF_REPLY
//	  0   4 number of interfaces reported: 1 (cpha.reported_ifs)
//	  4   6 MAC (cpha.ethernet_addr)
//	 10   2 1 when the interface is trusted, else 0 (cpha.if_trusted)
//	 12   4 IPv4 address (cpha.ip)
//	7 LB_CONF
//	  0   2 slot, 0..255 (cpha.slot_num)
//	  2   2 member ID, 0..8 (cpha.machine_num)
//	  4   4 seed (cpha.seed)
//	  8   4 h, number of hash buckets, 0..512 (cpha.hash_len)
//	 12   h member ID of each bucket
//	8 LB_CONFIRM
//	  0   8 slot, member ID and seed of the LB_CONF that is agreed to
//	9 POLICY_CHANGE; the policy is that of the header
//	  0   4 status: 1 new policy, 2 new policy that changes the cluster, 3 ready to change (cpha.status)
//	10 SYNC
//	  0   2 d, length of the data, 0..900
//	  2   d data
//
// # Trailer, version 1
//
//	off len field
//	  0   2 magic 0x5443
//	  2   2 length of the whole trailer, tag included: 38+x
//	  4   2 version of the sender, ≥ 1
//	  6   8 boot nonce
//	 14   8 sequence, grows by one with every CCP packet of this boot
//	 22   x extension area, 0..512: elements of type (1), length (1) and data; whatever a reader does not know it
//	        skips. Type 1 is a [Report], in IF_PROBE_REQ and IF_PROBE_REPLY
//	     16 tag: HMAC-SHA-256, first 16 bytes, over the payload from the header's magic to here
//
// The tag's key is derived from the cluster key with a label of CCP's own, so a heartbeat's tag is never
// good for a CCP packet, nor the other way round. Later versions only ever append to the extension area and
// add opcodes, so members of versions N and N+1 understand each other.
package ccp
