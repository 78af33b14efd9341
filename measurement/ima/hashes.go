package ima

import (
	"bytes"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Hashes is the result of recomputing every entry's template hash.
type Hashes struct {
	Alg        tpm2.AlgID // of the logged template hashes, AlgNull where unknown
	OK         int
	Violations int
	Bad        []int // numbers of the entries whose hash is not that of their fields
	Unknown    int   // entries whose hash no algorithm known here gives
}

// CheckHashes recomputes the template hashes. Their algorithm follows from
// their length; where no entry of a log confirms SHA-256 for 32 bytes, it may
// as well be SM3 or SHA3, and its hashes are unknown rather than bad.
//
// The check says where a log is damaged. What proves a log is FindPrefix, which
// computes from the fields alone.
func (l *Log) CheckHashes() Hashes {
	h := Hashes{Alg: tpm2.AlgNull}
	for _, a := range tpm2.HashAlgs() {
		if a.DigestSize() == l.hashSize {
			h.Alg = a
		}
	}
	for i := range l.Entries {
		e := &l.Entries[i]
		if e.Violation() {
			h.Violations++
			continue
		}
		var out [tpm2.MaxDigestSize]byte
		e.hash(h.Alg, &out)
		if bytes.Equal(out[:l.hashSize], e.TemplateHash) {
			h.OK++
		} else {
			h.Bad = append(h.Bad, e.Number)
		}
	}
	if h.OK == 0 && h.Alg != tpm2.AlgSHA1 && len(h.Bad) > 0 {
		h.Alg, h.Unknown, h.Bad = tpm2.AlgNull, len(h.Bad), nil
	}
	return h
}
