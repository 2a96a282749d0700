package wire

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
)

// KeyLen is the length of a cluster key in bytes.
const KeyLen = 32

// Key signs and checks heartbeats. It is derived from the cluster key, so that the same cluster key can
// serve other protocols without one ever accepting the other's bytes. A Key reuses its buffers and must
// not be used from two goroutines at once.
type Key struct {
	mac hash.Hash
	sum []byte
}

// NewKey derives the heartbeat key from the cluster key.
func NewKey(cluster []byte) (*Key, error) { return DeriveKey(cluster, "twinkeep heartbeat 1") }

// DeriveKey derives the key of one protocol from the cluster key, with HKDF-SHA-256 (RFC 5869). Every protocol has a
// label of its own.
func DeriveKey(cluster []byte, label string) (*Key, error) {
	if len(cluster) != KeyLen {
		return nil, fmt.Errorf("cluster key has %d bytes, want %d", len(cluster), KeyLen)
	}
	k, err := hkdf.Key(sha256.New, cluster, nil, label, KeyLen)
	if err != nil {
		return nil, fmt.Errorf("derive the key %q: %w", label, err)
	}
	return &Key{mac: hmac.New(sha256.New, k), sum: make([]byte, 0, sha256.Size)}, nil
}

func (k *Key) tag(p []byte) []byte {
	k.mac.Reset()
	k.mac.Write(p)
	k.sum = k.mac.Sum(k.sum[:0])
	return k.sum[:TagLen]
}

// Seal appends the tag over all of payload.
func (k *Key) Seal(payload []byte) []byte { return append(payload, k.tag(payload)...) }

// Open checks the tag at the end of payload and returns what it covers, or [BadTag].
func (k *Key) Open(payload []byte) ([]byte, error) {
	n := len(payload) - TagLen
	if n < 0 {
		return nil, Truncated
	}
	if !hmac.Equal(k.tag(payload[:n]), payload[n:]) {
		return nil, BadTag
	}
	return payload[:n], nil
}
