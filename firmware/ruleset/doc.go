// Package ruleset turns rules (firmware/ruleset/rules), those of the policy or of the node file, into the packet filter
// and the NAT of the box: one nftables table, replaced in one transaction, so that the old rules hold until the new ones
// are in. The counters of rules that stay go on.
//
// Heartbeats are AF_PACKET frames and do not pass here; the gate (ha/gate) has a table of its own.
package ruleset
