// Package sshd is the console over the network: an SSH server (RFC 4251 to 4254) that gives each login the console of the
// box (firmware/console) and nothing else: no shell, no forwarding, no files.
//
// It is two processes. The keeper (Run) has the privileges: it listens, decides who may connect, holds the host key,
// compares passwords and starts consoles. The front (Front) speaks SSH with the network: it runs as an own user without
// capabilities, in an empty root directory and an empty network namespace, gets each connection as a file descriptor, and
// asks the keeper for everything else over a socket (message). It is started by the first connection and ends when there
// is none. What the front cannot do by itself: read a file, connect to anything, sign but with the host key and what has
// the length of a key exchange, log in with a password that it does not know. It is believed when it says that a key of
// the list has signed: the SSH library verifies that there.
//
// Neither is waited for by anything that carries traffic.
package sshd
