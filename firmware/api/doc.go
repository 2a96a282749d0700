// Package api is how the programs of a member talk: HTTP and JSON over Unix sockets in the run directory. It holds
// the typed client of all daemons, helpers for those who serve, and the types that gatewayd serves. The types of
// had are in ha/member, those of the supervisor in init/supervise.
package api
