package swtpm

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/ashlar-cloud/ashlar/internal/seal"
)

// Key is the key of a TPM's states, of its files or of those that migrate: bytes, or
// a passphrase. States of ours are sealed under it by internal/seal; those of swtpm
// are encrypted under what swtpm makes of it.
type Key struct {
	seal   *seal.Key
	secret []byte // the same that seal has
	kdf    string // of a passphrase, to swtpm's key; empty for bytes
	size   int    // of swtpm's key, in bytes
}

// Wipe overwrites the key, which must not be used afterwards. There may be none.
func (k *Key) Wipe() {
	if k != nil {
		k.seal.Wipe()
	}
}

// passphrase reports whether there is a key, and it is a passphrase.
func (k *Key) passphrase() bool { return k != nil && k.kdf != "" }

// Lengths of swtpm's keys in bytes.
const (
	shortKey = 16
	longKey  = 32
)

// Limits on what a key is read from, in bytes.
const (
	maxKeyFile    = 2 + 2*longKey + 1 // as much as swtpm reads: 0x, digits, and one more
	maxPassphrase = 64 << 10
)

// keyOption is the value of swtpm's options --key and --migration-key.
type keyOption struct {
	file, pwdfile     string
	fd, pwdfd         int // -1 where not given
	format, mode, kdf string
	remove            bool
}

// parseKeyOption reads the option as swtpm does: what is given twice counts the first
// time, and a name without a value has the value "true".
func parseKeyOption(option string) (o keyOption, err error) {
	v := make(map[string]string)
	for _, part := range strings.FieldsFunc(option, func(r rune) bool { return r == ',' }) {
		name, value, given := strings.Cut(part, "=")
		switch name {
		case "file", "fd", "pwdfile", "pwdfd", "format", "mode", "kdf", "remove":
		default:
			given, value = true, ""
		}
		switch {
		case given && value == "":
			return o, fmt.Errorf("a key has no %q: it has file=, fd=, pwdfile= or pwdfd=, and format=, mode=, kdf= and remove=", part)
		case !given:
			value = "true"
		}
		if _, again := v[name]; !again {
			v[name] = value
		}
	}
	o = keyOption{file: v["file"], pwdfile: v["pwdfile"], fd: -1, pwdfd: -1, format: v["format"], mode: v["mode"], kdf: v["kdf"]}
	for name, to := range map[string]*int{"fd": &o.fd, "pwdfd": &o.pwdfd} {
		if v[name] == "" {
			continue
		}
		if *to, err = strconv.Atoi(v[name]); err != nil || *to < 0 {
			return o, fmt.Errorf("%s=%s is no descriptor", name, v[name])
		}
	}
	o.remove = strings.EqualFold(v["remove"], "true") || v["remove"] == "1"
	return o, nil
}

// close closes the descriptors that the option names: nobody else shall read them.
func (o *keyOption) close() {
	for _, fd := range []int{o.fd, o.pwdfd} {
		if fd >= 0 {
			_ = syscall.Close(fd)
		}
	}
}

// ReadKey reads the key that the value of swtpm's options --key or --migration-key
// names: file=FILE or fd=N, perhaps with format=hex (the default) or binary; or
// pwdfile=FILE or pwdfd=N, perhaps with kdf=pbkdf2 (the default) or sha512; and mode=
// aes-128-cbc (or aes-cbc, the default) or aes-256-cbc, which tells how long a key is.
// Descriptors are closed, and with remove=true the files are removed when they were
// read. mode and kdf concern states of swtpm only: ours need the passphrase.
func ReadKey(option string) (*Key, error) {
	o, err := parseKeyOption(option)
	if err != nil {
		return nil, err
	}
	defer o.close()
	k := &Key{size: shortKey}
	switch o.mode {
	case "", "aes-cbc", "aes-128-cbc":
	case "aes-256-cbc":
		k.size = longKey
	default:
		return nil, fmt.Errorf("there is no mode %q: there are aes-cbc and aes-256-cbc", o.mode)
	}
	switch {
	case o.file == "" && o.fd < 0 && o.pwdfile == "" && o.pwdfd < 0:
		return nil, errors.New("a key is read from file=FILE, fd=N, pwdfile=FILE or pwdfd=N")
	case o.format != "" && o.format != "hex" && o.format != "binary":
		return nil, fmt.Errorf("there is no format %q: there are hex and binary", o.format)
	case o.file != "" || o.fd >= 0:
		err = k.readBytes(&o)
	default:
		err = k.readPassphrase(&o)
	}
	if err != nil {
		return nil, err
	}
	if o.remove {
		for _, path := range []string{o.file, o.pwdfile} {
			if path != "" {
				_ = os.Remove(path) // as swtpm: an attempt
			}
		}
	}
	return k, nil
}

func (k *Key) readBytes(o *keyOption) error {
	b, err := readSecret(o.file, o.fd, maxKeyFile, maxKeyFile)
	if err != nil {
		return err
	}
	defer clear(b)
	if k.secret, err = parseKey(b, o.format == "binary", k.size); err != nil {
		return err
	}
	k.size = len(k.secret)
	k.seal = seal.NewKey(k.secret, false)
	return nil
}

// parseKey reads the content of a key file, for a key of size bytes: hexadecimal
// digits, perhaps after 0x, or the key itself, which may be a short one instead.
func parseKey(file []byte, binary bool, size int) ([]byte, error) {
	if binary {
		if len(file) != size && len(file) != shortKey {
			return nil, fmt.Errorf("the key has %d bytes, not the %d of the mode", len(file), size)
		}
		return bytes.Clone(file), nil
	}
	digits := bytes.TrimPrefix(file, []byte("0x"))
	if i := bytes.IndexAny(digits, " \t\r\n\v\f\x00"); i >= 0 {
		digits = digits[:i]
	}
	key := make([]byte, hex.DecodedLen(len(digits)))
	_, err := hex.Decode(key, digits)
	switch {
	case err != nil || len(key) == 0:
		err = errors.New("the key is not written in hexadecimal digits")
	case len(key) != size:
		err = fmt.Errorf("the key has %d bytes, not the %d of the mode", len(key), size)
	default:
		return key, nil
	}
	clear(key)
	return nil, err
}

func (k *Key) readPassphrase(o *keyOption) (err error) {
	switch k.kdf = o.kdf; k.kdf {
	case "":
		k.kdf = "pbkdf2"
	case "pbkdf2", "sha512":
	default:
		return fmt.Errorf("there is no kdf %q: there are pbkdf2 and sha512", o.kdf)
	}
	if k.secret, err = readSecret(o.pwdfile, o.pwdfd, 1024, maxPassphrase); err != nil {
		return err
	}
	if len(k.secret) == 0 {
		return errors.New("the passphrase is empty")
	}
	k.seal = seal.NewKey(k.secret, true)
	return nil
}

// readSecret reads a file, or a descriptor where path is empty: as swtpm does, until a
// read gives less than it could, so that a pipe need not be closed at its other end.
func readSecret(path string, fd, step, limit int) (_ []byte, err error) {
	from := path
	if path == "" {
		from = fmt.Sprintf("descriptor %d", fd)
	} else {
		if fd, err = syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		defer syscall.Close(fd)
	}
	b := make([]byte, limit+1) // one piece: growing would leave copies
	defer clear(b)
	for n := 0; ; {
		k, err := syscall.Read(fd, b[n:min(n+step, len(b))])
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return nil, fmt.Errorf("%s cannot be read: %w", from, err)
		}
		n += k
		switch {
		case k == step && n <= limit && limit > step:
			continue
		case n > limit:
			return nil, fmt.Errorf("%s has more than %d bytes", from, limit)
		}
		return bytes.Clone(b[:n]), nil
	}
}

// cbc is swtpm's key, which the caller wipes.
func (k *Key) cbc() (*cbcKey, error) {
	switch k.kdf {
	case "":
		return &cbcKey{bytes.Clone(k.secret)}, nil
	case "sha512":
		sum := sha512.Sum512(k.secret)
		defer clear(sum[:])
		return &cbcKey{bytes.Clone(sum[:k.size])}, nil
	}
	key, err := pbkdf2.Key(sha512.New, string(k.secret), []byte("swtpm"), 1000, k.size)
	if err != nil {
		return nil, err
	}
	return &cbcKey{key}, nil
}
