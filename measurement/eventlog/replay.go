package eventlog

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Bank is the state of one PCR bank: what the PCRs hold if the log tells all.
type Bank struct {
	Alg      tpm2.AlgID
	size     int
	extended uint32 // bit i: the log extends PCR i
	missing  int
	values   [NumPCRs][tpm2.MaxDigestSize]byte
}

// PCR gives PCR i of the bank, and whether the log extends it: where not, the
// value is the one after Startup. It is nil for an index above 23.
func (b *Bank) PCR(i int) (value []byte, extended bool) {
	if i < 0 || i >= NumPCRs {
		return nil, false
	}
	return b.values[i][:b.size:b.size], b.extended>>i&1 == 1
}

// Extended lists, ascending, the PCRs that the log extends.
func (b *Bank) Extended() []int {
	var list []int
	for i := range NumPCRs {
		if b.extended>>i&1 == 1 {
			list = append(list, i)
		}
	}
	return list
}

// Missing counts the events that change a PCR and state no digest for this
// bank: where it is not 0, the log cannot be expected to replay in it.
func (b *Bank) Missing() int { return b.missing }

// Mismatches compares the bank with recorded values, say those of a quote,
// over the PCRs that the log extends. It gives, ascending, the indices that
// were compared and those that differ.
func (b *Bank) Mismatches(recorded map[int][]byte) (compared, differ []int) {
	for _, i := range b.Extended() {
		want, ok := recorded[i]
		if !ok {
			continue
		}
		compared = append(compared, i)
		if !bytes.Equal(want, b.values[i][:b.size]) {
			differ = append(differ, i)
		}
	}
	return compared, differ
}

// Replay extends the log's digests bank by bank, as the TPM did. Without algs
// it replays every bank of the log that can be computed here (SHA-1, SHA-256,
// SHA-384, SHA-512); with algs, those of them that the log has.
func (l *Log) Replay(algs ...tpm2.AlgID) []Bank { return l.ReplayPrefix(len(l.Events), algs...) }

// ReplayPrefix is Replay over the first n events, for finding the event after
// which a machine went another way. The startup locality is the whole log's.
func (l *Log) ReplayPrefix(n int, algs ...tpm2.AlgID) []Bank {
	events := l.Events[:max(0, min(n, len(l.Events)))]
	locality := l.initialLocality()
	list := l.Banks()
	banks := make([]Bank, 0, len(list))
	for _, alg := range list {
		if alg.DigestSize() == 0 || len(algs) > 0 && !slices.Contains(algs, alg) {
			continue
		}
		banks = append(banks, Bank{Alg: alg, size: alg.DigestSize()})
		banks[len(banks)-1].replay(events, locality)
	}
	return banks
}

func (b *Bank) replay(events []Event, locality uint8) {
	b.values[0][b.size-1] = locality
	for i := 17; i <= 22; i++ { // D-RTM PCRs start from ones (PC Client PTP, 4.6.2)
		for j := range b.size {
			b.values[i][j] = 0xff
		}
	}
	var buf [2 * tpm2.MaxDigestSize]byte
	for i := range events {
		e := &events[i]
		if !e.Extends() {
			continue
		}
		d := e.Digest(b.Alg)
		if d == nil {
			b.missing++
			continue
		}
		pcr := &b.values[e.PCR]
		copy(buf[:], pcr[:b.size])
		copy(buf[b.size:], d)
		sum(b.Alg, pcr[:], buf[:2*b.size])
		b.extended |= 1 << e.PCR
	}
}

// sum hashes without the allocations that hash.Hash costs.
func sum(alg tpm2.AlgID, out, data []byte) {
	switch alg {
	case tpm2.AlgSHA1:
		s := sha1.Sum(data)
		copy(out, s[:])
	case tpm2.AlgSHA256:
		s := sha256.Sum256(data)
		copy(out, s[:])
	case tpm2.AlgSHA384:
		s := sha512.Sum384(data)
		copy(out, s[:])
	case tpm2.AlgSHA512:
		s := sha512.Sum512(data)
		copy(out, s[:])
	}
}
