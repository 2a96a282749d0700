// Package apid is the API over the network: HTTPS with tokens, for programs that look after a fleet.
//
// It is two processes. The front speaks TLS and HTTP with the network; it is nobody, has an empty root directory, a network
// namespace without interfaces, and no key. The keeper has the key and the tokens. What the front passes on, it asks the daemons
// for, whose own API it is: routes.go has the list, and nothing else can be reached.
//
// It is closed unless the policy (services.api) or the node file (api) opens it and there is a token.
package apid
