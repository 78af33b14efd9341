package swtpm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// swtpm puts a header before a state: version, minimum version, size of the
// header, flags and length of all; then parts, each with a tag and a length: the
// state in clear, or encrypted with its HMAC and its IV. A state that migrates is
// such a file without a header in a part of another tag, which may be encrypted
// once more.

// Flags of the header.
const (
	flagEncrypted    = 1 << iota // with the file key
	flagMigrationKey             // with the migration key
	flagMigration                // it is a state that migrates
	flagLongKey                  // the file key has 256 bits
	flagLongMigrationKey
)

// Tags of the parts.
const (
	tagPlain              = 1
	tagEncrypted          = 2
	tagHMAC               = 3
	tagMigration          = 4
	tagEncryptedMigration = 5
	tagIV                 = 6
	tagMigrationIV        = 7
)

// Sizes in bytes.
const (
	foreignHeader = 10
	foreignPart   = 6 // before what is in a part
	// maxForeign is the largest file of swtpm that is read.
	maxForeign = 2 << 20
)

// errForeign is in the chain of every error about a file that swtpm did not
// write, or that was cut or altered.
var errForeign = errors.New("it is no state of swtpm, or it is damaged")

// errEncrypted says that the state is encrypted and no key was given.
var errEncrypted = errors.New("it is encrypted: give the key or the passphrase that swtpm had")

// errPlain says that a key was given and the state is not encrypted: anybody may
// have put it there. swtpm refuses it as well.
var errPlain = errors.New("it is not encrypted, and a key was given: leave the key out if swtpm had none")

// errWrongKey says that a key does not fit, or that the file was altered.
var errWrongKey = errors.New("the key is another one, or the file was altered")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errForeign, fmt.Sprintf(format, args...))
}

// isForeign reports whether bytes have swtpm's header.
func isForeign(b []byte) bool {
	return len(b) >= foreignHeader && b[0] == 2 && binary.BigEndian.Uint16(b[2:]) == foreignHeader &&
		uint64(binary.BigEndian.Uint32(b[6:])) == uint64(len(b))
}

// decodeForeign gives the state of libtpms in a file of swtpm or in a blob that
// migrates. key is nil where there is none.
func decodeForeign(b []byte, key *ForeignKey) ([]byte, error) {
	if len(b) > maxForeign {
		return nil, damaged("%d bytes are more than it can have", len(b))
	}
	if !isForeign(b) || b[1] > 2 {
		return nil, damaged("its header is not there")
	}
	flags := binary.BigEndian.Uint16(b[4:])
	if flags >= flagLongMigrationKey<<1 {
		return nil, damaged("its header has flags that there are not")
	}
	body := b[foreignHeader:]
	var err error
	switch {
	case flags&flagMigrationKey != 0:
		return nil, errors.New("it is encrypted with a migration key, which this version cannot read: migrate without one, for example over TLS")
	case flags&flagMigration != 0:
		if body, err = onlyPart(body, tagMigration); err != nil {
			return nil, err
		}
	}
	switch {
	case flags&flagEncrypted == 0 && key != nil:
		return nil, errPlain
	case flags&flagEncrypted == 0:
		return onlyPart(body, tagPlain)
	case key == nil:
		return nil, errEncrypted
	case (flags&flagLongKey != 0) != (len(key.bytes) == longKey):
		return nil, fmt.Errorf("the key has %d bits, and the state is encrypted with one of another length", 8*len(key.bytes))
	}
	return key.open(body)
}

// part is one of a file.
type part struct {
	tag  uint16
	data []byte
}

// maxParts bounds the parts: an encrypted file has three.
const maxParts = 8

func parseParts(b []byte) (list []part, err error) {
	for len(b) > 0 {
		if len(b) < foreignPart || len(list) == maxParts {
			return nil, damaged("it is cut")
		}
		n := binary.BigEndian.Uint32(b[2:])
		if uint64(n) > uint64(len(b)-foreignPart) {
			return nil, damaged("it is cut")
		}
		list = append(list, part{binary.BigEndian.Uint16(b), b[foreignPart : foreignPart+n]})
		b = b[foreignPart+n:]
	}
	return list, nil
}

// onlyPart is what is in a file with one part.
func onlyPart(b []byte, tag uint16) ([]byte, error) {
	list, err := parseParts(b)
	if err != nil {
		return nil, err
	}
	if len(list) != 1 || list[0].tag != tag {
		return nil, damaged("it has other parts than it says")
	}
	return list[0].data, nil
}

func appendPart(b []byte, tag uint16, data []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, tag)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// encodeForeign makes the file that swtpm has of a state of libtpms; with a key
// it is encrypted. The error is random's.
func encodeForeign(state []byte, key *ForeignKey, random io.Reader) ([]byte, error) {
	flags, body := uint16(0), appendPart(nil, tagPlain, state)
	if key != nil {
		var err error
		if body, err = key.seal(state, random); err != nil {
			return nil, err
		}
		if flags = flagEncrypted; len(key.bytes) == longKey {
			flags |= flagLongKey
		}
	}
	b := []byte{2, 1, 0, foreignHeader}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, uint32(foreignHeader+len(body)))
	return append(b, body...), nil
}

// open decrypts the parts of an encrypted file. The HMAC covers the IV as well;
// very old files have none.
func (k *ForeignKey) open(b []byte) ([]byte, error) {
	list, err := parseParts(b)
	if err != nil {
		return nil, err
	}
	parts := make(map[uint16][]byte, len(list))
	for _, p := range list {
		if parts[p.tag] != nil || p.tag != tagEncrypted && p.tag != tagHMAC && p.tag != tagIV {
			return nil, damaged("it has other parts than it says")
		}
		parts[p.tag] = p.data
	}
	sealed, iv := parts[tagEncrypted], parts[tagIV]
	if len(sealed) == 0 || len(sealed)%len(k.bytes) != 0 || iv != nil && len(iv) != len(k.bytes) {
		return nil, damaged("it has parts of other sizes than there are")
	}
	if !hmac.Equal(k.mac(sealed, iv), parts[tagHMAC]) {
		return nil, errWrongKey
	}
	if iv == nil {
		iv = make([]byte, len(k.bytes))
	}
	plain := make([]byte, len(sealed))
	cipher.NewCBCDecrypter(k.block(), iv[:aes.BlockSize]).CryptBlocks(plain, sealed)
	// The padding fills a block as long as the key.
	n := int(plain[len(plain)-1])
	if n == 0 || n > len(k.bytes) || !bytes.Equal(plain[len(plain)-n:], bytes.Repeat([]byte{byte(n)}, n)) {
		clear(plain)
		return nil, damaged("its padding is none")
	}
	return plain[:len(plain)-n], nil
}

// seal is what open opens.
func (k *ForeignKey) seal(state []byte, random io.Reader) ([]byte, error) {
	iv := make([]byte, len(k.bytes))
	if _, err := io.ReadFull(random, iv); err != nil {
		return nil, err
	}
	n := len(k.bytes) - len(state)%len(k.bytes)
	plain := append(append([]byte(nil), state...), bytes.Repeat([]byte{byte(n)}, n)...)
	defer clear(plain)
	sealed := make([]byte, len(plain))
	cipher.NewCBCEncrypter(k.block(), iv[:aes.BlockSize]).CryptBlocks(sealed, plain)
	b := appendPart(nil, tagEncrypted, sealed)
	b = appendPart(b, tagHMAC, k.mac(sealed, iv))
	return appendPart(b, tagIV, iv), nil
}

func (k *ForeignKey) mac(sealed, iv []byte) []byte {
	h := hmac.New(sha256.New, k.bytes)
	h.Write(sealed)
	h.Write(iv)
	return h.Sum(nil)
}

func (k *ForeignKey) block() cipher.Block {
	block, err := aes.NewCipher(k.bytes)
	if err != nil {
		panic("swtpm: " + err.Error()) // a ForeignKey has 128 or 256 bits
	}
	return block
}
