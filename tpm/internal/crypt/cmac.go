package crypt

import (
	"bytes"
	"crypto/cipher"
	"crypto/subtle"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// CMAC is a running MAC of a block cipher (SP 800-38B). A copy of it runs on by
// itself. The zero value is none.
type CMAC struct {
	alg   tpm2.AlgID
	key   []byte // never changed
	chain [BlockSize]byte
	n     int // bytes of data in chain since it was encrypted
}

// NewCMAC starts a CMAC; the key is copied. It gives TPM_RC_SYMMETRIC for a
// cipher or key size that is not implemented.
func NewCMAC(alg tpm2.AlgID, key []byte) (CMAC, tpm2.RC) {
	_, rc := newCipher(alg, key)
	return CMAC{alg: alg, key: bytes.Clone(key)}, rc
}

// cipher is the cipher with the key, which NewCMAC or Walk has checked.
func (m *CMAC) cipher() cipher.Block {
	block, rc := newCipher(m.alg, m.key)
	if rc != tpm2.RCSuccess {
		panic("crypt: a CMAC without a cipher")
	}
	return block
}

// Update takes in data.
func (m *CMAC) Update(data []byte) {
	block := m.cipher()
	chain := m.chain[:block.BlockSize()]
	for len(data) > 0 {
		// A full block waits: the last one is treated otherwise.
		if m.n == len(chain) {
			block.Encrypt(chain, chain)
			m.n = 0
		}
		n := subtle.XORBytes(chain[m.n:], chain[m.n:], data)
		m.n += n
		data = data[n:]
	}
}

// Sum is the MAC of what came in, of the cipher's block length.
func (m *CMAC) Sum() []byte {
	block := m.cipher()
	subkey := make([]byte, block.BlockSize())
	defer clear(subkey)
	block.Encrypt(subkey, subkey)
	double(subkey)
	out := bytes.Clone(m.chain[:len(subkey)])
	if m.n < len(subkey) {
		out[m.n] ^= 0x80
		double(subkey)
	}
	subtle.XORBytes(out, out, subkey)
	block.Encrypt(out, out)
	return out
}

// double multiplies a block by x. What a bit that falls out adds is that of
// 128-bit blocks for TDES too, whose own would be 0x1B: so the reference code
// has it, and what it has signed shall verify.
func double(b []byte) {
	out := b[0] >> 7
	for i := range b[:len(b)-1] {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[len(b)-1] = b[len(b)-1]<<1 ^ -out&0x87
}

// Walk visits the running MAC, its key with it. The decoded one shares no memory
// with the input.
func (m *CMAC) Walk(c *tpm2.Codec) {
	def := tpm2.SymDefObject{Alg: m.alg, KeyBits: uint16(8 * len(m.key)), Mode: tpm2.AlgCMAC}
	def.Walk(c)
	size := CipherBlockSize(def.Alg)
	if c.Decoding() && c.RC() == tpm2.RCSuccess && (size == 0 || def.Mode != tpm2.AlgCMAC) {
		c.Fail(tpm2.RCValue)
	}
	key, chain, n := m.key, m.chain[:size], uint8(m.n)
	c.Raw(&key, int(def.KeyBits)/8)
	c.Raw(&chain, size)
	c.U8(&n)
	if !c.Decoding() || c.RC() != tpm2.RCSuccess {
		return
	}
	next, rc := NewCMAC(def.Alg, key)
	if rc != tpm2.RCSuccess || int(n) > size {
		c.Fail(tpm2.RCValue)
		return
	}
	copy(next.chain[:], chain)
	next.n = int(n)
	*m = next
}
