package esp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// A power cut while a file is written or replaced leaves clusters of a FAT file
// system taken that belong to no file. An image is 40,000 clusters: after a few
// of them no upgrade would fit. reclaim frees them. It looks at a partition that
// is not mounted, and changes only entries of the allocation table whose
// clusters no file or folder reaches.
func reclaim(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := Reclaim(f)
	if err != nil || n == 0 {
		return err
	}
	return f.Sync()
}

type readerWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

// fat is the geometry of a FAT32 file system (Microsoft's specification, 2000,
// boot sector).
type fat struct {
	dev              readerWriterAt
	cluster          int64 // bytes
	fatStart, fatLen int64 // bytes
	copies           int64
	data             int64 // offset of cluster 2
	root             uint32
	table            []byte
	clusters         uint32 // the number of the last one, plus 1
}

const (
	fatFree   = 0
	fatMask   = 0x0fffffff
	fatBad    = 0x0ffffff7
	fatEnd    = 0x0ffffff8
	direntLen = 32
	maxFAT    = 64 << 20 // bytes of a table; a partition of 8 GiB
)

var errFAT = errors.New("not a FAT32 file system that is understood")

func openFAT(dev readerWriterAt) (*fat, error) {
	b := make([]byte, 512)
	if _, err := dev.ReadAt(b, 0); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	sector := int64(le.Uint16(b[11:]))
	f := &fat{
		dev: dev, cluster: int64(b[13]) * sector, fatStart: int64(le.Uint16(b[14:])) * sector, copies: int64(b[16]),
		fatLen: int64(le.Uint32(b[36:])) * sector, root: le.Uint32(b[44:]),
	}
	total := int64(le.Uint32(b[32:])) * sector
	f.data = f.fatStart + f.copies*f.fatLen
	if b[510] != 0x55 || b[511] != 0xaa || sector != 512 || f.cluster == 0 || f.cluster > 64<<10 || f.copies < 1 || f.copies > 2 ||
		f.fatLen == 0 || f.fatLen > maxFAT || total <= f.data {
		return nil, errFAT
	}
	f.clusters = uint32(min((total-f.data)/f.cluster, f.fatLen/4-2)) + 2
	f.table = make([]byte, f.fatLen)
	_, err := dev.ReadAt(f.table, f.fatStart)
	return f, err
}

func (f *fat) next(c uint32) uint32 { return binary.LittleEndian.Uint32(f.table[4*c:]) & fatMask }

// Reclaim frees clusters that no file has on a FAT32 file system that is not
// mounted, and returns how many there were. It changes nothing else.
func Reclaim(dev interface {
	io.ReaderAt
	io.WriterAt
}) (int, error) {
	f, err := openFAT(dev)
	if err != nil {
		return 0, err
	}
	used := make([]bool, f.clusters)
	if err := f.walk(f.root, used, 0); err != nil {
		return 0, err
	}
	freed := 0
	dirty := make(map[int64]bool)
	for c := uint32(2); c < f.clusters; c++ {
		if v := f.next(c); used[c] || v == fatFree || v == fatBad {
			continue
		}
		binary.LittleEndian.PutUint32(f.table[4*c:], 0)
		dirty[int64(c)*4/512] = true
		freed++
	}
	for sector := range dirty {
		for i := range f.copies {
			if _, err := dev.WriteAt(f.table[sector*512:(sector+1)*512], f.fatStart+i*f.fatLen+sector*512); err != nil {
				return 0, err
			}
		}
	}
	return freed, nil
}

// chain marks the clusters of a file.
func (f *fat) chain(c uint32, used []bool) ([]uint32, error) {
	var out []uint32
	for c != 0 && c < fatEnd {
		if c < 2 || c >= f.clusters || used[c] {
			return nil, fmt.Errorf("%w: cluster %d is outside or belongs to two files; repair the partition with fsck.vfat on another machine", errFAT, c)
		}
		used[c] = true
		out = append(out, c)
		c = f.next(c)
		if c == 0 {
			break // the end of the chain was never written; the rest is reclaimed
		}
	}
	return out, nil
}

const (
	attrLong   = 0x0f
	attrDir    = 0x10
	attrVolume = 0x08
	maxDepth   = 16
)

func (f *fat) walk(dir uint32, used []bool, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: folders are nested too deeply", errFAT)
	}
	clusters, err := f.chain(dir, used)
	if err != nil {
		return err
	}
	buf := make([]byte, f.cluster)
	for _, c := range clusters {
		if _, err := f.dev.ReadAt(buf, f.data+int64(c-2)*f.cluster); err != nil {
			return err
		}
		for e := buf; len(e) >= direntLen; e = e[direntLen:] {
			attr := e[11]
			switch {
			case e[0] == 0:
				return nil
			case e[0] == 0xe5, attr&attrLong == attrLong, attr&attrVolume != 0, e[0] == '.':
				continue
			}
			first := uint32(binary.LittleEndian.Uint16(e[20:]))<<16 | uint32(binary.LittleEndian.Uint16(e[26:]))
			if first == 0 {
				continue
			}
			if attr&attrDir != 0 {
				err = f.walk(first, used, depth+1)
			} else {
				_, err = f.chain(first, used)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
