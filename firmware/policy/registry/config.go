package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	oras "oras.land/oras-go/v2/registry"
)

// FileName is the file with the server's settings in a gateway's config directory.
const FileName = "manager.yaml"

const maxConfig = 64 << 10

// Config says where the management server is and how to be let in.
type Config struct {
	Address    string `yaml:"address"`            // host, or host:port
	Repository string `yaml:"repository"`         // of the policy, e.g. policies/office
	Username   string `yaml:"username,omitempty"` // for registries that want one; "gateway" when empty
	Token      string `yaml:"token,omitempty"`    // or a password; empty: anonymous
	// CA is the only authority that is trusted for the server's certificate, in PEM. When it is empty, the system's
	// authorities are: an appliance image has none.
	CA string `yaml:"ca,omitempty"`
	// Poll is the time between two looks for something newer, on the active member; DefaultPoll when 0.
	Poll time.Duration `yaml:"poll,omitempty"`
}

// DefaultPoll is between two looks at the server. A recovering member and an operator do not wait for it.
const DefaultPoll = 5 * time.Minute

// LoadConfig reads and checks a settings file.
func LoadConfig(path string) (Config, error) {
	var c Config
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxConfig {
		err = fmt.Errorf("%d bytes, the most is %d", info.Size(), maxConfig)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return c, fmt.Errorf("management server's settings: %w", err)
	}
	return ParseConfig(path, data)
}

// ParseConfig reads settings from data; name is for errors.
func ParseConfig(name string, data []byte) (c Config, err error) {
	if err := yaml.UnmarshalWithOptions(data, &c, yaml.Strict()); err != nil {
		return c, fmt.Errorf("%s: %s", name, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	if _, err := c.reference(); err != nil {
		return c, fmt.Errorf("%s: %w", name, err)
	}
	if c.Poll < 0 || c.Poll > 0 && c.Poll < time.Second {
		return c, fmt.Errorf("%s: poll %v: want 1s or more", name, c.Poll)
	}
	if c.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(c.CA)) {
		return c, fmt.Errorf("%s: ca: no certificate in PEM", name)
	}
	return c, nil
}

func (c Config) reference() (oras.Reference, error) {
	ref := oras.Reference{Registry: c.Address, Repository: c.Repository}
	if err := ref.ValidateRegistry(); err != nil || c.Address == "" {
		return ref, fmt.Errorf("address %q: want host or host:port, without https://", c.Address)
	}
	if err := ref.ValidateRepository(); err != nil {
		return ref, fmt.Errorf("repository %q: want a path as policies/office", c.Repository)
	}
	return ref, nil
}

// transport is HTTP over TLS with limits in time and size. Each connection is closed soon after use: thousands of gateways
// that poll once a minute must not hold one open each.
func (c Config) transport() (*http.Transport, error) {
	// The next poll resumes the session, which spares both sides the signature.
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	if c.CA != "" {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(c.CA))
		pinned(cfg, pool)
	} else {
		pool, err := x509.SystemCertPool()
		if err != nil || pool.Equal(x509.NewCertPool()) {
			return nil, errors.New("this system trusts no certificate authority: give the server's as ca in " + FileName)
		}
		cfg.RootCAs = pool
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:        cfg,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		MaxResponseHeaderBytes: 32 << 10,
		MaxIdleConns:           2,
		IdleConnTimeout:        5 * time.Second, // HTTP/1.1: a poll is one request, and HTTP/2 costs the server more memory
	}, nil
}

// pinned trusts the pool whatever the date. A gateway without a clock must reach its server, and what comes from there is
// believed for its signature and its revision alone.
func pinned(cfg *tls.Config, pool *x509.CertPool) {
	cfg.InsecureSkipVerify = true // VerifyConnection does it
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errors.New("no certificate")
		}
		leaf := cs.PeerCertificates[0]
		opts := x509.VerifyOptions{
			Roots: pool, DNSName: cs.ServerName, Intermediates: x509.NewCertPool(), CurrentTime: leaf.NotBefore.Add(time.Second),
		}
		for _, cert := range cs.PeerCertificates[1:] {
			opts.Intermediates.AddCert(cert)
		}
		_, err := leaf.Verify(opts)
		return err
	}
}
