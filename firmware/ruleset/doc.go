// Package ruleset turns a node file into the packet filter and NAT of the box: one nftables table, replaced in one
// transaction, so that the old rules hold until the new ones are in.
//
// Heartbeats are AF_PACKET frames and do not pass here; the gate (ha/gate) has a table of its own.
package ruleset
