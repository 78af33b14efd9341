package identity

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
)

// Limits on private keys.
const (
	MaxPrivateKey = 64 << 10 // bytes of a file
	maxIterations = 10_000_000
	keyIterations = 600_000 // of what is written here
	keySaltSize   = 16
	maxKeySalt    = 1024
)

var (
	oidPBES2   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidSHA256  = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	errNoKey   = errors.New("there is no private key in PEM in it")
	errBadPass = errors.New("the password is not the private key's")
)

// ErrPassword is the error of ParsePrivateKey for an encrypted key without a
// password.
var ErrPassword = errors.New("the private key is encrypted and there is no password")

// The structures of RFC 8018 (PKCS #5), appendix A.
type (
	algorithm struct {
		ID         asn1.ObjectIdentifier
		Parameters asn1.RawValue `asn1:"optional"`
	}
	encryptedKey struct {
		Algorithm algorithm
		Data      []byte
	}
	pbes2 struct{ KDF, Cipher algorithm }
	kdf2  struct {
		Salt       []byte
		Iterations int
		KeyLength  int       `asn1:"optional"`
		PRF        algorithm `asn1:"optional"`
	}
)

// ParsePrivateKey reads the first private key in PEM: PKCS #8, PKCS #1 or
// SEC 1, in clear or encrypted (PBES2 with PBKDF2, and OpenSSL's older form).
// A key in clear takes no notice of the password.
func ParsePrivateKey(b []byte, password string) (crypto.Signer, error) {
	if len(b) > MaxPrivateKey {
		return nil, fmt.Errorf("a private key of %d bytes: at most %d are read", len(b), MaxPrivateKey)
	}
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			return nil, errNoKey
		}
		b = rest
		switch block.Type {
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
			return parseKeyBlock(block, password)
		}
	}
}

func parseKeyBlock(block *pem.Block, password string) (crypto.Signer, error) {
	der := block.Bytes
	//lint:ignore SA1019 such files are there, and OpenSSL still writes them when asked to
	encrypted := x509.IsEncryptedPEMBlock(block)
	if (encrypted || block.Type == "ENCRYPTED PRIVATE KEY") && password == "" {
		return nil, ErrPassword
	}
	var err error
	switch {
	case encrypted:
		//lint:ignore SA1019 as above
		if der, err = x509.DecryptPEMBlock(block, []byte(password)); err != nil {
			return nil, errBadPass
		}
	case block.Type == "ENCRYPTED PRIVATE KEY":
		if der, err = decryptPKCS8(der, password); err != nil {
			return nil, err
		}
	}
	defer clear(der)
	key, err := parseKeyDER(der)
	if err != nil && (encrypted || block.Type == "ENCRYPTED PRIVATE KEY") {
		return nil, errBadPass // which the padding shows most of the time only
	}
	return key, err
}

func parseKeyDER(der []byte) (crypto.Signer, error) {
	var key any
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		if rsaKey, err1 := x509.ParsePKCS1PrivateKey(der); err1 == nil {
			key, err = rsaKey, nil
		} else if ecKey, err2 := x509.ParseECPrivateKey(der); err2 == nil {
			key, err = ecKey, nil
		}
	}
	if signer, ok := key.(crypto.Signer); ok && err == nil {
		return signer, nil
	}
	return nil, errors.New("the private key is damaged, or of an algorithm that cannot sign certificates here")
}

// decryptPKCS8 opens an EncryptedPrivateKeyInfo (RFC 5958, 3).
func decryptPKCS8(der []byte, password string) ([]byte, error) {
	var e encryptedKey
	var scheme pbes2
	var kdf kdf2
	if rest, err := asn1.Unmarshal(der, &e); err != nil || len(rest) != 0 {
		return nil, errors.New("the encrypted private key is damaged")
	}
	if !e.Algorithm.ID.Equal(oidPBES2) {
		return nil, fmt.Errorf("the private key is encrypted by %v, which is too weak: encrypt it anew, with 'openssl pkcs8 -topk8 -v2 aes-256-cbc'", e.Algorithm.ID)
	}
	if _, err := asn1.Unmarshal(e.Algorithm.Parameters.FullBytes, &scheme); err != nil {
		return nil, errors.New("the encrypted private key is damaged")
	}
	if !scheme.KDF.ID.Equal(oidPBKDF2) {
		return nil, fmt.Errorf("the private key's password is stretched by %v: only PBKDF2 is read", scheme.KDF.ID)
	}
	if _, err := asn1.Unmarshal(scheme.KDF.Parameters.FullBytes, &kdf); err != nil ||
		kdf.Iterations < 1 || kdf.Iterations > maxIterations || len(kdf.Salt) > maxKeySalt {
		return nil, errors.New("the encrypted private key is damaged, or its password stretched without end")
	}
	size, newCipher := keyCipher(scheme.Cipher.ID)
	prf := keyPRF(kdf.PRF.ID)
	var iv []byte
	if _, err := asn1.Unmarshal(scheme.Cipher.Parameters.FullBytes, &iv); err != nil || newCipher == nil || prf == nil {
		return nil, errors.New("the private key is encrypted by an algorithm that is not read: use AES in CBC mode and PBKDF2 with SHA-256")
	}
	key, err := pbkdf2.Key(prf, password, kdf.Salt, kdf.Iterations, size)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := newCipher(key)
	if err != nil {
		return nil, err
	}
	return unpadCBC(block, iv, e.Data)
}

// unpadCBC decrypts and takes the padding off (RFC 8018, 6.1.1).
func unpadCBC(block cipher.Block, iv, data []byte) ([]byte, error) {
	n := block.BlockSize()
	if len(iv) != n || len(data) == 0 || len(data)%n != 0 {
		return nil, errors.New("the encrypted private key is damaged")
	}
	out := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, data)
	pad := int(out[len(out)-1])
	if pad < 1 || pad > n ||
		subtle.ConstantTimeCompare(out[len(out)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) != 1 {
		clear(out)
		return nil, errBadPass
	}
	return out[:len(out)-pad], nil
}

func keyCipher(id asn1.ObjectIdentifier) (size int, f func([]byte) (cipher.Block, error)) {
	switch id.String() {
	case "2.16.840.1.101.3.4.1.2":
		return 16, aes.NewCipher
	case "2.16.840.1.101.3.4.1.22":
		return 24, aes.NewCipher
	case oidAES256.String():
		return 32, aes.NewCipher
	case "1.2.840.113549.3.7":
		return 24, des.NewTripleDESCipher
	}
	return 0, nil
}

// keyPRF is the hash in PBKDF2's HMAC; SHA-1 where none is named.
func keyPRF(id asn1.ObjectIdentifier) func() hash.Hash {
	switch id.String() {
	case "", "1.2.840.113549.2.7":
		return sha1.New
	case oidSHA256.String():
		return sha256.New
	case "1.2.840.113549.2.10":
		return sha512.New384
	case "1.2.840.113549.2.11":
		return sha512.New
	}
	return nil
}

// MarshalPrivateKey writes a key in PEM as PKCS #8: in clear, or encrypted with
// AES-256 and PBKDF2 where there is a password. random is for salt and IV.
func MarshalPrivateKey(random io.Reader, key crypto.Signer, password string) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	if password == "" {
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	}
	fresh := make([]byte, keySaltSize+aes.BlockSize)
	if _, err := io.ReadFull(random, fresh); err != nil {
		return nil, err
	}
	salt, iv := fresh[:keySaltSize], fresh[keySaltSize:]
	k, err := pbkdf2.Key(sha256.New, password, salt, keyIterations, 32)
	if err != nil {
		return nil, err
	}
	defer clear(k)
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	pad := aes.BlockSize - len(der)%aes.BlockSize
	data := slices.Concat(der, bytes.Repeat([]byte{byte(pad)}, pad)) // one piece: growing would leave a copy
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)
	out, err := marshalEncrypted(salt, iv, data)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: out}), nil
}

func marshalEncrypted(salt, iv, data []byte) ([]byte, error) {
	kdf, err1 := asn1.Marshal(kdf2{Salt: salt, Iterations: keyIterations, PRF: algorithm{oidSHA256, asn1.NullRawValue}})
	rawIV, err2 := asn1.Marshal(iv)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	scheme, err := asn1.Marshal(pbes2{
		KDF:    algorithm{oidPBKDF2, asn1.RawValue{FullBytes: kdf}},
		Cipher: algorithm{oidAES256, asn1.RawValue{FullBytes: rawIV}},
	})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(encryptedKey{algorithm{oidPBES2, asn1.RawValue{FullBytes: scheme}}, data})
}
