package peerapi

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Limits of the caller's parameters.
const (
	KeyLen    = 32 // bytes of a cluster key
	MaxMember = 8  // highest member ID; the lowest is 1
)

// identity is a member's TLS key, which every holder of the cluster key can derive.
func identity(key []byte, member uint8) (ed25519.PrivateKey, error) {
	if len(key) != KeyLen {
		return nil, fmt.Errorf("cluster key has %d bytes, want %d", len(key), KeyLen)
	}
	if member < 1 || member > MaxMember {
		return nil, fmt.Errorf("member ID %d, want 1 to %d", member, MaxMember)
	}
	seed, err := hkdf.Key(sha256.New, key, nil, fmt.Sprintf("twinkeep peer tls 1 member %d", member), ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("derive the key of member %d: %w", member, err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// certificate wraps the key for TLS. Peers look at nothing but the key in it: its dates mean nothing, because a box may
// have no clock.
func certificate(key ed25519.PrivateKey, member uint8) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(member)),
		Subject:      pkix.Name{CommonName: fmt.Sprintf("twinkeep member %d", member)},
		NotBefore:    time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280, 4.1.2.5: no expiration
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate of member %d: %w", member, err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// keys are the public keys of the members.
type keys map[uint8]ed25519.PublicKey

// memberOf says whose key the other end proved to hold.
func (k keys) memberOf(cs tls.ConnectionState) (uint8, error) {
	if len(cs.PeerCertificates) == 0 {
		return 0, errors.New("no certificate")
	}
	public, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if ok {
		for member, want := range k {
			if want.Equal(public) {
				return member, nil
			}
		}
	}
	return 0, errors.New("the certificate is not of a member with this cluster key")
}

// config is the TLS configuration of self, for connections with the given members only.
func config(key []byte, self uint8, members ...uint8) (*tls.Config, keys, error) {
	own, err := identity(key, self)
	if err != nil {
		return nil, nil, err
	}
	cert, err := certificate(own, self)
	if err != nil {
		return nil, nil, err
	}
	known := keys{}
	for _, m := range members {
		k, err := identity(key, m)
		if err != nil {
			return nil, nil, err
		}
		known[m] = k.Public().(ed25519.PublicKey)
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{cert},
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true,
		// Names and chains say nothing here. VerifyConnection, which is called for every connection, wants the very key.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := known.memberOf(cs)
			return err
		},
	}, known, nil
}
