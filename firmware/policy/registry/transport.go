package registry

import "net/http"

// Transport is HTTP to the management server, as a client of it uses it, for whatever else comes from there.
func (c Config) Transport() (*http.Transport, error) { return c.transport() }
