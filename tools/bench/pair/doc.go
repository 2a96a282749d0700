// Package pair knows the systems under test: how each is configured on the two gateways of package topology,
// started, asked who is active, and told to step down. Every system gets the same network and is left alone
// otherwise; what differs is in its configuration files here.
package pair
