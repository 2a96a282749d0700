// Package probe measures what a failover costs those who use the gateway: numbered UDP datagrams and a
// long-lived TCP connection, each with an echo server that also tells the client which source address it saw.
//
// Every time is CLOCK_MONOTONIC of the probing machine; nothing compares clocks of two machines. A UDP socket is
// opened, in the network namespace of the calling thread, before StartUDP and ServeUDP return, so that a bench
// can start one from a thread that has entered a namespace. Probes end by themselves (Duration) and are bounded
// in rate and memory.
package probe
