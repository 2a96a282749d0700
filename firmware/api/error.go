package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"github.com/twinkeep/twinkeep/firmware/node"
)

// Error is what went wrong at a daemon, with what to do about it. Daemons send it as the body of every answer that
// is not 2xx.
type Error struct {
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"`
	// Problems are the faults of a node file that was refused.
	Problems []node.Problem `json:"problems,omitempty"`
	// Status is the HTTP status, 0 when there was no answer. The server sets it from here.
	Status int `json:"-"`
	// Cause is the error on this side, if any.
	Cause error `json:"-"`
}

// Error gives the message and the hint.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + ": " + e.Hint
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// unreachable explains why a daemon gave no answer.
func unreachable(socket, path string, err error) *Error {
	daemon := map[string]string{InitSocket: "the supervisor", GatewaydSocket: "gatewayd", HadSocket: "had", StatesyncdSocket: "statesyncd", HaldSocket: "hald", UpgradedSocket: "upgraded", SSHSocket: "sshd", RemoteSocket: "apid"}[socket]
	why, hint := err.Error(), ""
	var timeout net.Error
	var op *net.OpError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		why = "there is no " + path
		hint = "it is not running; see log, then service restart " + daemon
	case errors.Is(err, syscall.ECONNREFUSED):
		why = "nobody listens on " + path
		hint = "it has ended; see log, then service restart " + daemon
	case errors.Is(err, fs.ErrPermission):
		why = path + " is not open to this user"
		hint = "become root"
	case errors.As(err, &timeout) && timeout.Timeout():
		why = "no answer in time on " + path
		hint = "see log, then service restart " + daemon
	case errors.As(err, &op):
		why = op.Err.Error()
	}
	if socket == InitSocket {
		hint = "is this the right --run directory? Start a member with: twinkeep run"
	}
	return &Error{Message: fmt.Sprintf("%s does not answer: %s", daemon, why), Hint: hint, Cause: err}
}
