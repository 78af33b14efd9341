package crypt

import (
	"encoding/binary"
	"errors"
	"hash"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// derivationLimit is the length in bytes of the stream that a derived object's
// secrets come from (TPM_MAX_DERIVATION_BITS).
const derivationLimit = 8192 / 8

// errDerivationLimit reports that a derived object needs more than there is.
var errDerivationLimit = errors.New("crypt: the object needs more than a derivation gives")

// Derivation gives a derived object's secrets (Part 1, 28.4): KDFa's output
// for the whole length that there may be, as far as it is read. The same
// parent, label and context give the same object.
type Derivation struct {
	mac   hash.Hash
	fixed []byte // what KDFa hashes behind its counter
	block []byte // the last block
	rest  []byte // what of it is still to be read
	count uint32 // blocks so far
}

// NewDerivation begins the stream of one object. alg is the hash algorithm of
// the parent's scheme, secret the parent's sensitive value.
func NewDerivation(alg tpm2.AlgID, secret, label, context []byte) *Derivation {
	fixed := append([]byte(nil), label...)
	// Unlike those that the TPM itself uses, a caller's label may end in NUL.
	if n := len(label); n == 0 || label[n-1] != 0 {
		fixed = append(fixed, 0)
	}
	fixed = append(fixed, context...)
	return &Derivation{mac: NewHMAC(alg, secret), fixed: binary.BigEndian.AppendUint32(fixed, 8*derivationLimit)}
}

// Read fills p. An error says that what was read would, with the rest of the
// last block, exceed 1,024 bytes.
func (d *Derivation) Read(p []byte) (int, error) {
	if int(d.count)*d.mac.Size()+len(p) > derivationLimit {
		return 0, errDerivationLimit
	}
	for done := 0; done < len(p); {
		if len(d.rest) == 0 {
			d.next()
		}
		n := copy(p[done:], d.rest)
		d.rest = d.rest[n:]
		done += n
	}
	return len(p), nil
}

func (d *Derivation) next() {
	d.count++
	d.mac.Reset()
	var counter [4]byte
	binary.BigEndian.PutUint32(counter[:], d.count)
	d.mac.Write(counter[:])
	d.mac.Write(d.fixed)
	d.block = d.mac.Sum(d.block[:0])
	d.rest = d.block
}

// Wipe destroys what has been drawn and not read.
func (d *Derivation) Wipe() { clear(d.block) }
