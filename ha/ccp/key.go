package ccp

import (
	"encoding/binary"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// Key signs and checks CCP packets. It reuses its buffers and must not be used from two goroutines at once.
type Key struct{ key *wire.Key }

// NewKey derives the CCP key from the cluster key. Its label differs from the heartbeats', so that neither protocol
// accepts the other's bytes.
func NewKey(cluster []byte) (*Key, error) {
	k, err := wire.DeriveKey(cluster, "twinkeep ccp 1")
	return &Key{k}, err
}

// Seal appends the tag over all of payload.
func (k *Key) Seal(payload []byte) []byte { return k.key.Seal(payload) }

// Open checks the tag at the end of payload and returns what it covers. What another product sends is told
// apart from a wrong key: it is [ForeignCCP] or [NotCCP], not [wire.BadTag].
func (k *Key) Open(payload []byte) ([]byte, error) {
	if err := ours(payload); err != nil {
		return nil, err
	}
	if len(payload) < minPayload {
		return nil, wire.Truncated
	}
	return k.key.Open(payload)
}

// ours looks at the two fields every CCP packet of every product starts with.
func ours(p []byte) error {
	be := binary.BigEndian
	switch {
	case len(p) < 4:
		return wire.Truncated
	case be.Uint16(p) != Magic:
		return NotCCP
	case be.Uint16(p[2:]) != Version:
		return ForeignCCP
	}
	return nil
}
