// Package wireshark holds twinkeep.lua, Wireshark's dissector for heartbeats (UDP 999), and its test. CCP needs none: Wireshark
// knows it as CPHA.
package wireshark
