package link

import (
	"encoding/binary"

	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// Port is TCP's for the stream and UDP's for beacons.
const Port = 8117

// Beacon tells members on one network that state sync listens at its sender's address. A recording of one, sent again,
// makes a member dial an address where nobody has the cluster key.
type Beacon struct {
	Cluster, Member uint8
	Nonce           uint64 // of the sender's boot
}

const beaconMagic = 0x544b5342 // "TKSB"

// beaconLen is magic u32, version u8, cluster u8, member u8, reserved u8, nonce u64, big-endian; the tag follows.
const beaconLen = 16

// Codec seals and opens beacons. It must not be used from two goroutines at once.
type Codec struct{ key *wire.Key }

// NewCodec derives the key of beacons.
func NewCodec(cluster []byte) (*Codec, error) {
	k, err := wire.DeriveKey(cluster, labelBeacon)
	return &Codec{k}, err
}

// Append appends a sealed beacon to an empty buffer.
func (c *Codec) Append(b []byte, v Beacon) []byte {
	b = binary.BigEndian.AppendUint32(b, beaconMagic)
	b = append(b, statesync.Version, v.Cluster, v.Member, 0)
	return c.key.Seal(binary.BigEndian.AppendUint64(b, v.Nonce))
}

// Parse opens a beacon. Its version is not judged: that is for the hello, which can say why.
func (c *Codec) Parse(b []byte) (v Beacon, err error) {
	if len(b) < beaconLen || len(b) > 512 || binary.BigEndian.Uint32(b) != beaconMagic {
		return v, statesync.BadFrame
	}
	if b, err = c.key.Open(b); err != nil {
		return v, err
	}
	if len(b) < beaconLen {
		return v, statesync.Truncated
	}
	return Beacon{Cluster: b[5], Member: b[6], Nonce: binary.BigEndian.Uint64(b[8:])}, nil
}
