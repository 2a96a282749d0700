// Package capture keeps and judges what was seen on the wire: a writer and a reader of pcapng files with
// nanosecond times and directions, and the checks that the demo makes on them.
//
// pcapng and not the old pcap, because whether a frame came from the station or went to it decides who used a
// shared address, and only pcapng has a field for that (epb_flags). tcpdump, tshark and Wireshark read it, the
// latter two show the direction as frame.packet_flags_direction.
package capture
