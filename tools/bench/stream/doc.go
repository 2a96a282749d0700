// Package stream measures an outage: numbered datagrams, one a millisecond, from a client through a NAT gateway to
// an echo server and back. Client and server live in one process on one machine, so both directions are timed by
// one clock, CLOCK_MONOTONIC.
//
// It speaks the messages of tools/lab/probe and differs from that probe in what it keeps: the time of every
// datagram at the sender, at the server and back, so that a trial can look at any window around an event, at the
// forward direction alone, and at how late the sender itself was.
package stream
