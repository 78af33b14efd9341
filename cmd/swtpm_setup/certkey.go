package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strconv"
	"strings"

	"github.com/ashlar-cloud/ashlar/identity"
)

// Limits on what comes as text.
const (
	maxHex      = 10 << 10 // digits of one number
	maxPassword = 255      // bytes of one in a file
	minRSABits  = 1024     // the shortest that a TPM makes
)

// publicKey is the key to be certified, in the one form that was given.
func (o *certOptions) publicKey() (crypto.PublicKey, error) {
	isECC := o.eccX != "" || o.eccY != "" || o.curve != ""
	switch {
	case o.pubkey != "" && (o.modulus != "" || isECC), o.modulus != "" && isECC:
		return nil, errors.New("give one key: --pubkey, --modulus or --ecc-x and --ecc-y")
	case o.pubkey != "":
		return readPublicKey(o.pubkey)
	case o.modulus != "":
		return rsaKey(o.modulus, o.exponent)
	case o.eccX != "" && o.eccY != "":
		return eccKey(o.eccX, o.eccY, o.curve)
	case isECC:
		return nil, errors.New("--ecc-x and --ecc-y must both be given")
	}
	return nil, errors.New("there is no key to be certified: give --pubkey, --modulus or --ecc-x and --ecc-y")
}

func readPublicKey(path string) (crypto.PublicKey, error) {
	b, err := readLimited(path, identity.MaxPublic)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("public key %s: there is no PUBLIC KEY in PEM in it", path)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("public key %s: it is damaged, or of an algorithm that is not supported", path)
	}
	return key, nil
}

func rsaKey(modulus string, exponent uint32) (crypto.PublicKey, error) {
	n, err := unhex(modulus)
	if err != nil {
		return nil, fmt.Errorf("--modulus: %w", err)
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent)}
	switch {
	case key.N.BitLen() < minRSABits:
		return nil, fmt.Errorf("--modulus: it has %d bits, and no TPM makes RSA keys of less than %d", key.N.BitLen(), minRSABits)
	case exponent < 3 || exponent%2 == 0:
		return nil, fmt.Errorf("--exponent: %d is not that of an RSA key, which is odd and at least 3", exponent)
	}
	return key, nil
}

func eccKey(x, y, curve string) (crypto.PublicKey, error) {
	var c elliptic.Curve
	switch curve {
	case "", "secp256r1":
		c = elliptic.P256()
	case "secp384r1":
		c = elliptic.P384()
	case "secp521r1":
		c = elliptic.P521()
	default:
		return nil, fmt.Errorf("--ecc-curveid: '%.40s' is none of secp256r1, secp384r1, secp521r1", curve)
	}
	size := (c.Params().BitSize + 7) / 8
	point := []byte{4} // not compressed
	for _, s := range []struct{ option, digits string }{{"--ecc-x", x}, {"--ecc-y", y}} {
		b, err := unhex(s.digits)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.option, err)
		}
		n := new(big.Int).SetBytes(b)
		if n.BitLen() > 8*size {
			return nil, fmt.Errorf("%s: it is longer than the curve's %d bytes", s.option, size)
		}
		point = append(point, n.FillBytes(make([]byte, size))...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(c, point)
	if err != nil {
		return nil, errors.New("the point of --ecc-x and --ecc-y is not on its curve")
	}
	return key, nil
}

// unhex reads hexadecimal digits of either case.
func unhex(s string) ([]byte, error) {
	switch {
	case len(s) > maxHex:
		return nil, fmt.Errorf("%d hexadecimal digits are more than %d", len(s), maxHex)
	case len(s)%2 != 0:
		return nil, fmt.Errorf("the number of hexadecimal digits, %d, is odd", len(s))
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, errors.New("there is something else than hexadecimal digits in it")
	}
	return b, nil
}

// readPassword takes a password as --signkey-pwd gives it: pass:PASSWORD,
// file:PATH, fd:N, env:NAME or the password itself. A file's is at most 255
// bytes, the rest is not read, and a newline is part of it, as with swtpm_cert.
func readPassword(s string) (string, error) {
	kind, rest, found := strings.Cut(s, ":")
	if !found {
		return s, nil
	}
	switch kind {
	case "pass":
		return rest, nil
	case "env":
		if value, ok := os.LookupEnv(rest); ok {
			return value, nil
		}
		return "", fmt.Errorf("there is no environment variable '%s' for the password", rest)
	case "file":
		f, err := os.Open(rest)
		if err != nil {
			return "", err
		}
		return passwordFrom(f)
	case "fd":
		n, err := strconv.ParseUint(rest, 10, 31)
		if err != nil {
			return "", fmt.Errorf("'%s' is no file descriptor for the password", rest)
		}
		return passwordFrom(os.NewFile(uintptr(n), "fd:"+rest))
	}
	return s, nil
}

// passwordFrom reads a password up to its first NUL, and closes the file.
func passwordFrom(f *os.File) (string, error) {
	defer f.Close()
	buf := make([]byte, maxPassword)
	defer clear(buf)
	n, err := f.Read(buf)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("the password cannot be read: %w", err)
	}
	password, _, _ := strings.Cut(string(buf[:n]), "\x00")
	return password, nil
}
