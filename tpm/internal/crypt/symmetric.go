package crypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// BlockSize is the block length in bytes of every symmetric cipher
// implemented: AES with keys of 128 and 256 bits.
const BlockSize = aes.BlockSize

// SymmetricKeyBits tells whether alg is an implemented block cipher and takes
// keys of that many bits (Part 2, TPMI_AES_KEY_BITS).
func SymmetricKeyBits(alg tpm2.AlgID, bits uint16) bool {
	return alg == tpm2.AlgAES && (bits == 128 || bits == 256)
}

// Encrypt encrypts data in place (Part 3, 15.2 and 15.3) and moves iv on to the
// chaining value of the next call. iv has BlockSize bytes and is ignored by
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
	if !SymmetricKeyBits(alg, uint16(8*min(len(key), 64))) {
		return tpm2.RCSymmetric
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return tpm2.RCSymmetric
	}
	return runMode(block, mode, iv, data, encrypt)
}

func runMode(block cipher.Block, mode tpm2.AlgID, iv, data []byte, encrypt bool) tpm2.RC {
	if mode == tpm2.AlgECB {
		return ecb(block, data, encrypt)
	}
	if iv == nil {
		iv = make([]byte, BlockSize)
	}
	if len(iv) != BlockSize {
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
	if len(data)%BlockSize != 0 {
		return tpm2.RCSize
	}
	for ; len(data) > 0; data = data[BlockSize:] {
		if encrypt {
			block.Encrypt(data[:BlockSize], data[:BlockSize])
		} else {
			block.Decrypt(data[:BlockSize], data[:BlockSize])
		}
	}
	return tpm2.RCSuccess
}

func cbc(block cipher.Block, iv, data []byte, encrypt bool) tpm2.RC {
	if len(data)%BlockSize != 0 {
		return tpm2.RCSize
	}
	if len(data) == 0 {
		return tpm2.RCSuccess
	}
	last := data[len(data)-BlockSize:]
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

// cfb is CFB with full blocks (SP 800-38A, CFB128).
func cfb(block cipher.Block, iv, data []byte, encrypt bool) {
	var stream [BlockSize]byte
	for len(data) > 0 {
		block.Encrypt(stream[:], iv)
		copy(iv, stream[:]) // a last block that is not full keeps the tail
		n := min(len(data), BlockSize)
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
	addCounter(iv, (len(data)+BlockSize-1)/BlockSize)
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

// EncryptParameter encrypts a parameter's data in place with AES-CFB (Part 1,
// 21.3). alg is the session's hash, key its sessionKey ‖ authValue; the nonces
// are nonceTPM and nonceCaller in a response, the other way round in a command.
// keyBits is 128 or 256.
func EncryptParameter(alg tpm2.AlgID, key, nonceNewer, nonceOlder []byte, keyBits uint16, data []byte) tpm2.RC {
	return parameter(alg, key, nonceNewer, nonceOlder, keyBits, data, true)
}

// DecryptParameter is the inverse of EncryptParameter.
func DecryptParameter(alg tpm2.AlgID, key, nonceNewer, nonceOlder []byte, keyBits uint16, data []byte) tpm2.RC {
	return parameter(alg, key, nonceNewer, nonceOlder, keyBits, data, false)
}

func parameter(alg tpm2.AlgID, key, newer, older []byte, keyBits uint16, data []byte, encrypt bool) tpm2.RC {
	material := KDFa(alg, key, LabelCFB, newer, older, int(keyBits)+8*BlockSize)
	defer clear(material)
	n := int(keyBits) / 8
	return symmetric(tpm2.AlgAES, material[:n], tpm2.AlgCFB, material[n:], data, encrypt)
}
