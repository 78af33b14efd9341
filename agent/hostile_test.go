package agent

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/google/go-tpm/tpm2"
)

// liar is a TPM that answers every command with the same parameters, under a
// header that fits.
type liar struct{ params []byte }

func (l liar) Send(cmd []byte) ([]byte, error) {
	head := binary.BigEndian.AppendUint16(nil, binary.BigEndian.Uint16(cmd))
	head = binary.BigEndian.AppendUint32(head, uint32(10+len(l.params)))
	return append(append(head, 0, 0, 0, 0), l.params...), nil
}

func (liar) Close() error { return nil }

// FuzzTPM collects from a TPM that answers anything.
func FuzzTPM(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x80, 0, 0, 1, 0, 0, 0, 2, 0, 0})
	f.Add(tpm2.Marshal(tpm2.New2B(akTemplate())))
	f.Fuzz(func(t *testing.T, params []byte) {
		if len(params) > 4096 {
			return
		}
		_, _ = Identify(liar{params})
		_, _ = Collect(liar{params}, Options{Nonce: rats.Nonce("12345678"), Now: time.Now()})
	})
}

// TestAnswerOfAnySize wants a socket whose answers have no good size to be left.
func TestAnswerOfAnySize(t *testing.T) {
	for _, size := range []uint32{0, 9, maxResponse + 1, 1<<32 - 1} {
		here, there := net.Pipe()
		go func() {
			_, _ = there.Read(make([]byte, 64))
			_, _ = there.Write(binary.BigEndian.AppendUint32([]byte{0x80, 1}, size))
			_, _ = there.Write([]byte{0, 0, 0, 0})
		}()
		if _, err := (&socket{here}).Send(make([]byte, 10)); err == nil {
			t.Errorf("an answer of %d bytes was taken", size)
		}
		here.Close()
		there.Close()
	}
}
