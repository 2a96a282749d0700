// Package link is the way between two members for state sync: one TCP connection with TLS 1.3, authenticated in both
// directions by a key that is derived from the cluster key, so that nothing has to be set up; and the beacons by
// which members find each other's addresses.
package link
