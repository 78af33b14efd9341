package swtpm

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
)

// ForeignKey is the key of a state that swtpm has encrypted, 128 or 256 bits.
type ForeignKey struct{ bytes []byte }

// Wipe overwrites the key, which must not be used afterwards. There may be none.
func (k *ForeignKey) Wipe() {
	if k != nil {
		clear(k.bytes)
	}
}

// Lengths of keys in bytes.
const (
	shortKey = 16
	longKey  = 32
)

// ForeignMode is a cipher as swtpm names it: "aes-128-cbc" (or "aes-cbc"), its
// default, or "aes-256-cbc".
type ForeignMode string

func (m ForeignMode) keySize() (int, error) {
	switch m {
	case "", "aes-cbc", "aes-128-cbc":
		return shortKey, nil
	case "aes-256-cbc":
		return longKey, nil
	}
	return 0, fmt.Errorf("there is no mode %q: there are aes-128-cbc and aes-256-cbc", string(m))
}

// ReadForeignKey reads the key that the value of swtpm's option --key names:
// file=FILE, perhaps with format=hex (the default) or binary, or pwdfile=FILE,
// perhaps with kdf=pbkdf2 (the default) or sha512; and mode= a ForeignMode.
func ReadForeignKey(option string) (*ForeignKey, error) {
	v := make(map[string]string)
	for _, p := range strings.Split(option, ",") {
		name, value, _ := strings.Cut(p, "=")
		switch name {
		case "file", "format", "pwdfile", "kdf", "mode":
			v[name] = value
		default:
			return nil, fmt.Errorf("a key has no %q: it has file, format, pwdfile, kdf and mode", name)
		}
	}
	if f := v["format"]; f != "" && f != "hex" && f != "binary" {
		return nil, fmt.Errorf("there is no format %q: there are hex and binary", f)
	}
	if (v["file"] == "") == (v["pwdfile"] == "") {
		return nil, errors.New("a key is read from file=FILE or from pwdfile=FILE")
	}
	b, err := os.ReadFile(v["file"] + v["pwdfile"])
	if err != nil {
		return nil, err
	}
	defer clear(b)
	if v["file"] != "" {
		return ParseForeignKey(b, v["format"] == "binary", ForeignMode(v["mode"]))
	}
	return ForeignKeyOf(b, v["kdf"], ForeignMode(v["mode"]))
}

// ParseForeignKey reads the content of a key file: hexadecimal digits, perhaps
// after 0x, or the key itself where binary is set.
func ParseForeignKey(file []byte, binary bool, mode ForeignMode) (*ForeignKey, error) {
	size, err := mode.keySize()
	if err != nil {
		return nil, err
	}
	key := file
	if !binary {
		digits := bytes.TrimPrefix(file, []byte("0x"))
		if i := bytes.IndexAny(digits, " \t\r\n\v\f"); i >= 0 {
			digits = digits[:i]
		}
		key = make([]byte, hex.DecodedLen(len(digits)))
		defer clear(key)
		if _, err := hex.Decode(key, digits); err != nil {
			return nil, errors.New("the key is not written in hexadecimal digits")
		}
	}
	if len(key) != size {
		return nil, fmt.Errorf("the key has %d bytes, not the %d of the mode", len(key), size)
	}
	return &ForeignKey{bytes.Clone(key)}, nil
}

// ForeignKeyOf derives the key from a passphrase, the whole content of its file:
// by kdf "pbkdf2", swtpm's default, or "sha512".
func ForeignKeyOf(passphrase []byte, kdf string, mode ForeignMode) (*ForeignKey, error) {
	size, err := mode.keySize()
	if err != nil {
		return nil, err
	}
	var key []byte
	switch kdf {
	case "", "pbkdf2":
		key, err = pbkdf2.Key(sha512.New, string(passphrase), []byte("swtpm"), 1000, size)
	case "sha512":
		sum := sha512.Sum512(passphrase)
		key = bytes.Clone(sum[:size])
		clear(sum[:])
	default:
		err = fmt.Errorf("there is no kdf %q: there are pbkdf2 and sha512", kdf)
	}
	if err != nil {
		return nil, err
	}
	return &ForeignKey{key}, nil
}
