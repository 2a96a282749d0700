package link

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

	"github.com/twinkeep/twinkeep/ha/wire"
)

// Labels of the keys derived from the cluster key (wire.DeriveKey).
const (
	labelTLS    = "twinkeep statesync tls 1"
	labelHash   = "twinkeep statesync hash 1"
	labelBeacon = "twinkeep statesync beacon 1"
)

// ErrWrongKey means that the other end does not have this cluster's key.
var ErrWrongKey = errors.New("the other end has another cluster key")

func derive(cluster []byte, label string, n int) ([]byte, error) {
	if len(cluster) != wire.KeyLen {
		return nil, fmt.Errorf("cluster key has %d bytes, want %d", len(cluster), wire.KeyLen)
	}
	return hkdf.Key(sha256.New, cluster, nil, label, n)
}

// HashSecret is the secret of the table's hash (statesync.Config.Secret).
func HashSecret(cluster []byte) (out [16]byte, err error) {
	b, err := derive(cluster, labelHash, len(out))
	copy(out[:], b)
	return out, err
}

// Config makes the TLS configuration of both ends. All members have one key pair, derived from the cluster key; each
// end proves that it has it and accepts nothing else. Certificates are only the form in which TLS carries the key:
// names and dates in them mean nothing, so no clock matters.
func Config(cluster []byte) (*tls.Config, error) {
	seed, err := derive(cluster, labelTLS, ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	private := ed25519.NewKeyFromSeed(seed)
	public := private.Public().(ed25519.PublicKey)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "twinkeep cluster"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return nil, fmt.Errorf("make the certificate of state sync: %w", err)
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: private}},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // VerifyConnection does it
		SessionTicketsDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) != 1 {
				return ErrWrongKey
			}
			if key, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey); !ok || !key.Equal(public) {
				return ErrWrongKey
			}
			return nil
		},
	}, nil
}
