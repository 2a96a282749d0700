// Package agent is the lab's hand inside a VM: JSON lines over a virtio-serial port, so that scenarios ask and
// act without scraping a console. Server is the guest's side (package main in cmd/lab-agent), Client the host's.
//
//	{"id": 7, "method": "exec", "params": {"argv": ["ip", "addr"]}}
//	{"id": 7, "result": {"exit": 0, "stdout": "…"}}
//
// A line holds at most 1 MiB. At most 32 requests run at a time, the next ones wait. Answers come in the order in
// which the work ends. An empty line is ignored: a client starts with one, to end what an earlier client of the
// port left half-written.
package agent

// PortName is the name of the virtio-serial port.
const PortName = "org.twinkeep.agent"
