package apid

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/twinkeep/twinkeep/init/vault"
)

// Files in the state directory.
const (
	keyFile  = "api/key.pem"
	certFile = "api/cert.der"
)

// loadKey reads the server's key, and makes one where there is none. As with SSH's host key, a damaged one is put aside, and what
// could not be kept comes with a note.
func loadKey(stateDir string) (key *ecdsa.PrivateKey, note string, err error) {
	path := filepath.Join(stateDir, keyFile)
	data, err := os.ReadFile(path)
	if err == nil {
		if key, err = parseKey(data); err == nil {
			return key, "", nil
		}
		note = fmt.Sprintf("the key of the API was damaged (%v) and is now %s.damaged: there is a new one, of which clients will warn", err, path)
		err = os.Rename(path, path+".damaged")
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	key, makeErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if makeErr != nil {
		return nil, "", makeErr
	}
	der, makeErr := x509.MarshalPKCS8PrivateKey(key)
	if makeErr != nil {
		return nil, "", makeErr
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = vault.Write(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	if err != nil {
		note = fmt.Sprintf("the key of the API is not kept, and will be another one after a restart: %v", err)
	}
	return key, note, nil
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("it is not an ECDSA P-256 key")
	}
	return key, nil
}

// Pin names a public key as curl's --pinnedpubkey takes it, and RFC 7469.
func Pin(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return "sha256//" + base64.StdEncoding.EncodeToString(sum[:]), nil
}

// certificate signs the key by itself, for the addresses the member has now. It has no end (RFC 5280, 4.1.2.5) and begins before any
// clock: a box without a battery knows no date. What clients pin is the key, which outlives it.
func certificate(key *ecdsa.PrivateKey, hostname string, addresses []netip.Addr) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: subject(hostname)},
		NotBefore: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	if hostname != "" {
		c.DNSNames = []string{hostname}
	}
	for _, a := range addresses {
		c.IPAddresses = append(c.IPAddresses, net.IP(a.AsSlice()))
	}
	return x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
}

// fits reports whether a certificate is what certificate would make now.
func fits(c *x509.Certificate, key *ecdsa.PrivateKey, s settings) bool {
	same := len(c.IPAddresses) == len(s.addresses)
	for i := range s.addresses {
		same = same && c.IPAddresses[i].Equal(net.IP(s.addresses[i].AsSlice()))
	}
	return same && key.PublicKey.Equal(c.PublicKey) && c.Subject.CommonName == subject(s.hostname)
}

func subject(hostname string) string { return "Twinkeep API " + hostname }
