// Package gatewayd is the daemon that makes the box follow its node file: ruleset first, closed; then addresses and
// routes; forwarding last. It serves the box's API on gatewayd.sock.
//
// A node file that is bad changes nothing. What ran before goes on, and the API says what is wrong and where.
package gatewayd
