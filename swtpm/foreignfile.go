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

// errNoMigrationKey says that a state that came in is encrypted for its way.
var errNoMigrationKey = errors.New("it is encrypted under a migration key, and there is none here (--migration-key)")

// errKeyLength says that a key cannot be the right one.
var errKeyLength = errors.New("it is encrypted under a key of another length (mode=)")

// errWrongKey says that a key does not fit, or that the file was altered.
var errWrongKey = errors.New("the key is another one, or the file was altered")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errForeign, fmt.Sprintf(format, args...))
}

// foreignOpener is what a file of swtpm's is decrypted with; either may be nil.
type foreignOpener struct {
	file, migration *Key
	plain           bool // a state in clear is taken although there is a key for files
}

// isForeign reports whether bytes have swtpm's header.
func isForeign(b []byte) bool {
	return len(b) >= foreignHeader && b[0] == 2 && binary.BigEndian.Uint16(b[2:]) == foreignHeader &&
		uint64(binary.BigEndian.Uint32(b[6:])) == uint64(len(b))
}

// decodeForeign gives the state of libtpms in a file of swtpm or in a blob that
// migrates.
func decodeForeign(b []byte, keys foreignOpener) ([]byte, error) {
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
	case flags&flagMigrationKey != 0 && keys.migration == nil:
		return nil, errNoMigrationKey
	case flags&flagMigrationKey != 0:
		body, err = keys.migration.openForeign(body, flags&flagLongMigrationKey != 0, tagEncryptedMigration, tagMigrationIV)
	case flags&flagMigration != 0:
		body, err = onlyPart(body, tagMigration)
	}
	switch {
	case err != nil:
		return nil, err
	case flags&flagEncrypted == 0 && keys.file != nil && !keys.plain:
		return nil, errPlain
	case flags&flagEncrypted == 0:
		return onlyPart(body, tagPlain)
	case keys.file == nil:
		return nil, errEncrypted
	}
	return keys.file.openForeign(body, flags&flagLongKey != 0, tagEncrypted, tagIV)
}

// openForeign decrypts what swtpm has encrypted under the key; long says what it was
// encrypted under.
func (k *Key) openForeign(b []byte, long bool, data, iv uint16) ([]byte, error) {
	c, err := k.cbc()
	if err != nil {
		return nil, err
	}
	defer c.wipe()
	if long != (len(c.bytes) == longKey) {
		return nil, fmt.Errorf("%w, this one has %d bits", errKeyLength, 8*len(c.bytes))
	}
	return c.open(b, data, iv)
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
func encodeForeign(state []byte, key *Key, random io.Reader) ([]byte, error) {
	flags, body := uint16(0), appendPart(nil, tagPlain, state)
	if key != nil {
		c, err := key.cbc()
		if err != nil {
			return nil, err
		}
		defer c.wipe()
		if body, err = c.seal(state, random); err != nil {
			return nil, err
		}
		if flags = flagEncrypted; len(c.bytes) == longKey {
			flags |= flagLongKey
		}
	}
	b := []byte{2, 1, 0, foreignHeader}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, uint32(foreignHeader+len(body)))
	return append(b, body...), nil
}

// cbcKey is swtpm's own key, 128 or 256 bits.
type cbcKey struct{ bytes []byte }

func (k *cbcKey) wipe() { clear(k.bytes) }

// open decrypts the parts of an encrypted file, which have the tags given. The HMAC covers the IV as well;
// very old files have none.
func (k *cbcKey) open(b []byte, dataTag, ivTag uint16) ([]byte, error) {
	list, err := parseParts(b)
	if err != nil {
		return nil, err
	}
	parts := make(map[uint16][]byte, len(list))
	for _, p := range list {
		if parts[p.tag] != nil || p.tag != dataTag && p.tag != tagHMAC && p.tag != ivTag {
			return nil, damaged("it has other parts than it says")
		}
		parts[p.tag] = p.data
	}
	sealed, iv := parts[dataTag], parts[ivTag]
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
func (k *cbcKey) seal(state []byte, random io.Reader) ([]byte, error) {
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

func (k *cbcKey) mac(sealed, iv []byte) []byte {
	h := hmac.New(sha256.New, k.bytes)
	h.Write(sealed)
	h.Write(iv)
	return h.Sum(nil)
}

func (k *cbcKey) block() cipher.Block {
	block, err := aes.NewCipher(k.bytes)
	if err != nil {
		panic("swtpm: " + err.Error()) // a cbcKey has 128 or 256 bits
	}
	return block
}
