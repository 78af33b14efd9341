package crypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

const (
	drbgKeySize  = 32
	drbgSeedSize = drbgKeySize + BlockSize
	// dfChains is the number of chaining values that together make a seed.
	dfChains = drbgSeedSize / BlockSize
	// labelPrimary tells primary keys from other uses of a seed.
	labelPrimary = "Primary Object Creation\x00"
)

// DRBG is the generator from which the TCG reference code derives primary keys:
// CTR_DRBG with AES-256 (SP 800-90A, 10.2.1) over a derivation function of its
// own. The same seed and template give the same stream, hence the same key, on
// every implementation that follows it, libtpms among them.
//
// Each Read is one generate request, followed by a state update: a stream read
// in other portions is another stream.
type DRBG struct {
	state [drbgSeedSize]byte // key ‖ V
	// original: RSA primes are drawn as before revision 155.
	original bool
}

// Levels of a hierarchy's seed, those that libtpms calls seed-compatibility
// levels: how RSA primes are drawn from it, as the reference code did before
// revision 155, or since.
const (
	SeedOriginal uint8 = 0
	SeedLatest   uint8 = 1
)

// NewPrimaryDRBG seeds a generator for one primary object: seed and level are the
// hierarchy's, name the Name of the template as the caller gave it (with its
// unique field), sensitive the caller's sensitive data.
func NewPrimaryDRBG(seed []byte, level uint8, name, sensitive []byte) *DRBG {
	df := newDF(len(seed) + len(labelPrimary) + len(name) + len(sensitive))
	df.write(seed)
	df.write([]byte(labelPrimary))
	df.write(name)
	df.write(sensitive)
	d := &DRBG{original: level == SeedOriginal}
	d.Reseed(df.sum())
	return d
}

// Read fills p; it never fails.
func (d *DRBG) Read(p []byte) (int, error) {
	block := d.cipher()
	d.stream(block, p)
	d.update(block, nil)
	return len(p), nil
}

// AddData stirs data into the state, through the derivation function. The
// reference code does so with the proofs of the storage and the endorsement
// hierarchy before it draws the seedValue of an Endorsement primary. No data
// leaves the state as it is.
func (d *DRBG) AddData(data []byte) {
	if len(data) == 0 {
		return
	}
	df := newDF(len(data))
	df.write(data)
	d.Reseed(df.sum())
}

// Reseed mixes full entropy into the state, without a derivation function.
func (d *DRBG) Reseed(entropy [drbgSeedSize]byte) { d.update(d.cipher(), entropy[:]) }

// Wipe destroys the state.
func (d *DRBG) Wipe() { clear(d.state[:]) }

func (d *DRBG) cipher() cipher.Block { return newAES(d.state[:drbgKeySize]) }

// stream fills p with encryptions of V, counted up before each block.
func (d *DRBG) stream(block cipher.Block, p []byte) {
	v := d.state[drbgKeySize:]
	for len(p) >= BlockSize {
		addCounter(v, 1)
		block.Encrypt(p, v)
		p = p[BlockSize:]
	}
	if len(p) > 0 {
		var last [BlockSize]byte
		addCounter(v, 1)
		block.Encrypt(last[:], v)
		copy(p, last[:])
	}
}

func (d *DRBG) update(block cipher.Block, data []byte) {
	var next [drbgSeedSize]byte
	d.stream(block, next[:])
	subtle.XORBytes(next[:], next[:], data) // no data XORs nothing
	d.state = next
}

// df is the reference code's derivation function. It departs from SP 800-90A,
// 10.3.2: the two length words overwrite the head of the first chaining value,
// the input starts at byte 4 of the first block, and what is XORed and
// encrypted runs on from one chaining value to the next within a block.
type df struct {
	block cipher.Block
	chain [dfChains][BlockSize]byte
	buf   [BlockSize]byte
	n     int
}

func newDF(length int) *df {
	var key [drbgKeySize]byte
	for i := range key {
		key[i] = byte(i)
	}
	d := &df{block: newAES(key[:])}
	for i := range d.chain {
		d.chain[i][3] = byte(i)
	}
	d.compress()
	binary.BigEndian.PutUint32(d.chain[0][:], uint32(length))
	binary.BigEndian.PutUint32(d.chain[0][4:], drbgSeedSize)
	d.n = 4
	return d
}

func (d *df) compress() {
	var x [BlockSize]byte
	for i := range d.chain {
		subtle.XORBytes(x[:], x[:], d.chain[i][:])
		subtle.XORBytes(x[:], x[:], d.buf[:])
		d.block.Encrypt(d.chain[i][:], x[:])
	}
	clear(d.buf[:])
	d.n = 0
}

func (d *df) write(p []byte) {
	for len(p) > 0 {
		n := copy(d.buf[d.n:], p)
		p = p[n:]
		if d.n += n; d.n == BlockSize {
			d.compress()
		}
	}
}

func (d *df) sum() (seed [drbgSeedSize]byte) {
	d.buf[d.n] = 0x80
	d.compress()
	for i := range d.chain {
		copy(seed[i*BlockSize:], d.chain[i][:])
	}
	return seed
}

// newAES is aes.NewCipher for keys whose length is right by construction.
func newAES(key []byte) cipher.Block {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("crypt: " + err.Error())
	}
	return block
}
