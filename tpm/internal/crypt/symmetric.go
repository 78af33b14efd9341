package crypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// BlockSize is the block length in bytes of AES, and no other cipher's is longer.
const BlockSize = aes.BlockSize

// CipherBlockSize is the block length in bytes of an implemented block cipher,
// 0 for any other algorithm.
func CipherBlockSize(alg tpm2.AlgID) int {
	switch alg {
	case tpm2.AlgAES, tpm2.AlgCamellia:
		return BlockSize
	case tpm2.AlgTDES:
		return des.BlockSize
	}
	return 0
}

// newCipher is AES or Camellia with a key of 128, 192 or 256 bits, or TDES with
// one of 128 or 192. It gives TPM_RC_SYMMETRIC for anything else.
func newCipher(alg tpm2.AlgID, key []byte) (cipher.Block, tpm2.RC) {
	n := len(key)
	switch {
	case alg == tpm2.AlgTDES && (n == 16 || n == 24):
		return newTDES(key), tpm2.RCSuccess
	case n != 16 && n != 24 && n != 32:
	case alg == tpm2.AlgAES:
		return newAES(key), tpm2.RCSuccess
	case alg == tpm2.AlgCamellia:
		return newCamellia(key), tpm2.RCSuccess
	}
	return nil, tpm2.RCSymmetric
}

// Encrypt encrypts data in place (Part 3, 15.2 and 15.3) and moves iv on to the
// chaining value of the next call. iv has the cipher's block length and is ignored by
// ECB; a nil iv stands for zeros and is not moved on. After a last block that is
// not full the specification does not say what the chaining value is; it is
// what libtpms gives: with CFB, the ciphertext and then the rest of the key
// stream's block.
//
// It gives TPM_RC_SYMMETRIC for a cipher or key size that is not implemented,
// TPM_RC_MODE for such a mode, and TPM_RC_SIZE where CBC or ECB meets data that
// is no whole number of blocks, or iv is of another length.
func Encrypt(alg tpm2.AlgID, key []byte, mode tpm2.AlgID, iv, data []byte) tpm2.RC {
	return symmetric(alg, key, mode, iv, data, true)
}

// Decrypt is the inverse of Encrypt.
func Decrypt(alg tpm2.AlgID, key []byte, mode tpm2.AlgID, iv, data []byte) tpm2.RC {
	return symmetric(alg, key, mode, iv, data, false)
}

func symmetric(alg tpm2.AlgID, key []byte, mode tpm2.AlgID, iv, data []byte, encrypt bool) tpm2.RC {
	block, rc := newCipher(alg, key)
	if rc != tpm2.RCSuccess {
		return rc
	}
	return runMode(block, mode, iv, data, encrypt)
}

func runMode(block cipher.Block, mode tpm2.AlgID, iv, data []byte, encrypt bool) tpm2.RC {
	if mode == tpm2.AlgECB {
		return ecb(block, data, encrypt)
	}
	if iv == nil {
		iv = make([]byte, block.BlockSize())
	}
	if len(iv) != block.BlockSize() {
		return tpm2.RCSize
	}
	switch mode {
	case tpm2.AlgCFB:
		cfb(block, iv, data, encrypt)
	case tpm2.AlgOFB:
		ofb(block, iv, data)
	case tpm2.AlgCTR:
		ctr(block, iv, data)
	case tpm2.AlgCBC:
		return cbc(block, iv, data, encrypt)
	default:
		return tpm2.RCMode
	}
	return tpm2.RCSuccess
}

func ecb(block cipher.Block, data []byte, encrypt bool) tpm2.RC {
	n := block.BlockSize()
	if len(data)%n != 0 {
		return tpm2.RCSize
	}
	for ; len(data) > 0; data = data[n:] {
		if encrypt {
			block.Encrypt(data[:n], data[:n])
		} else {
			block.Decrypt(data[:n], data[:n])
		}
	}
	return tpm2.RCSuccess
}

func cbc(block cipher.Block, iv, data []byte, encrypt bool) tpm2.RC {
	if len(data)%len(iv) != 0 {
		return tpm2.RCSize
	}
	if len(data) == 0 {
		return tpm2.RCSuccess
	}
	last := data[len(data)-len(iv):]
	if encrypt {
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)
		copy(iv, last)
		return tpm2.RCSuccess
	}
	mode := cipher.NewCBCDecrypter(block, iv)
	copy(iv, last)
	mode.CryptBlocks(data, data)
	return tpm2.RCSuccess
}

// cfb is CFB with full blocks (SP 800-38A, CFB128 and CFB64).
func cfb(block cipher.Block, iv, data []byte, encrypt bool) {
	var room [BlockSize]byte
	stream := room[:len(iv)]
	for len(data) > 0 {
		block.Encrypt(stream, iv)
		copy(iv, stream) // a last block that is not full keeps the tail
		n := min(len(data), len(iv))
		if !encrypt {
			copy(iv, data[:n])
		}
		subtle.XORBytes(data[:n], data[:n], stream[:n])
		if encrypt {
			copy(iv, data[:n])
		}
		data = data[n:]
	}
}

func ofb(block cipher.Block, iv, data []byte) {
	for len(data) > 0 {
		block.Encrypt(iv, iv)
		n := subtle.XORBytes(data, data, iv)
		data = data[n:]
	}
}

// ctr counts over the whole block, big-endian; a last block that is not full
// uses up a count as well.
func ctr(block cipher.Block, iv, data []byte) {
	if len(data) == 0 {
		return
	}
	cipher.NewCTR(block, iv).XORKeyStream(data, data)
	addCounter(iv, (len(data)+len(iv)-1)/len(iv))
}

// addCounter adds n to a big-endian counter.
func addCounter(counter []byte, n int) {
	carry := uint64(n)
	for i := len(counter) - 1; i >= 0 && carry != 0; i-- {
		carry += uint64(counter[i])
		counter[i] = byte(carry)
		carry >>= 8
	}
}

// EncryptParameter encrypts a parameter's data in place by CFB (Part 1, 21.3).
// alg is the session's hash, key its sessionKey ‖ authValue; the nonces are
// nonceTPM and nonceCaller in a response, the other way round in a command. sym
// says the cipher and its key's length: TPM_RC_SYMMETRIC for one that is not
// implemented.
func EncryptParameter(alg tpm2.AlgID, key, nonceNewer, nonceOlder []byte, sym tpm2.SymDef, data []byte) tpm2.RC {
	return parameter(alg, key, nonceNewer, nonceOlder, sym, data, true)
}

// DecryptParameter is the inverse of EncryptParameter.
func DecryptParameter(alg tpm2.AlgID, key, nonceNewer, nonceOlder []byte, sym tpm2.SymDef, data []byte) tpm2.RC {
	return parameter(alg, key, nonceNewer, nonceOlder, sym, data, false)
}

func parameter(alg tpm2.AlgID, key, newer, older []byte, sym tpm2.SymDef, data []byte, encrypt bool) tpm2.RC {
	material := KDFa(alg, key, LabelCFB, newer, older, int(sym.KeyBits)+8*CipherBlockSize(sym.Alg))
	defer clear(material)
	n := int(sym.KeyBits) / 8
	return symmetric(sym.Alg, material[:n], tpm2.AlgCFB, material[n:], data, encrypt)
}
