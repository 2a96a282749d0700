package vswitch

import (
	"encoding/binary"
	"fmt"
	"io"
)

// ReadFrame reads one frame of QEMU's stream framing. io.EOF means that the peer closed between two frames. The
// frame is freshly allocated: the switch shares it between ports, queues and hooks, nobody may write to it.
func ReadFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return nil, fmt.Errorf("frame length %d is over %d: the stream is out of step, is the peer a QEMU -netdev stream?", n, MaxFrame)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(r, frame); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read frame of %d bytes: %w", n, err)
	}
	return frame, nil
}

// WriteFrame writes one frame of QEMU's stream framing in a single write.
func WriteFrame(w io.Writer, frame []byte) error {
	if len(frame) > MaxFrame {
		return fmt.Errorf("frame of %d bytes is over %d", len(frame), MaxFrame)
	}
	buf := make([]byte, 4+len(frame))
	binary.BigEndian.PutUint32(buf, uint32(len(frame)))
	copy(buf[4:], frame)
	_, err := w.Write(buf)
	return err
}
