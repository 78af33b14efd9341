package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Programs that sign by a token.
const (
	tokenTool    = "pkcs11-tool"     // of OpenSC
	tokenModule  = "libp11-kit.so.0" // all modules that the host has set up
	tokenTimeout = time.Minute
	pinVariable  = "SWTPM_PKCS11_PIN"
)

// A tokenKey is a private key on a PKCS #11 token. The token's module is code
// of its maker, so it runs in a process of its own, pkcs11-tool, which is handed
// a digest and gives a signature.
type tokenKey struct {
	public      crypto.PublicKey // the issuer's certificate has it
	module      string
	token       string
	label, id   string // one of them at least; id is in hexadecimal
	pin         string
	environment []string // of the module, besides our own
}

// parseTokenURI reads a pkcs11: URI (RFC 7512), which must name the token, and
// the key by its label (object) or its id. Of the rest, module-path and
// pin-value are heeded.
func parseTokenURI(uri string) (*tokenKey, error) {
	path, query, _ := strings.Cut(strings.TrimPrefix(uri, "pkcs11:"), "?")
	k := &tokenKey{module: tokenModule}
	for _, part := range append(strings.Split(path, ";"), strings.Split(query, "&")...) {
		name, coded, _ := strings.Cut(part, "=")
		value, err := url.PathUnescape(coded)
		if err != nil || strings.Contains(value, "\x00") && name != "id" {
			return nil, fmt.Errorf("the URI of the signing key has a bad '%s'", name)
		}
		switch name {
		case "token":
			k.token = value
		case "object":
			k.label = value
		case "id":
			k.id = hex.EncodeToString([]byte(value))
		case "pin-value":
			k.pin = value
		case "module-path":
			if k.module = value; !filepath.IsAbs(value) {
				return nil, errors.New("the URI of the signing key has a module-path that is not absolute")
			}
		}
	}
	if k.token == "" || k.label == "" && k.id == "" {
		return nil, errors.New("the URI of the signing key must name the token (token=) and the key on it (object= or id=)")
	}
	return k, nil
}

// openToken is the key of a pkcs11: URI. Its public half is the issuer's; what
// another key signs is found out when the certificate is signed.
func openToken(uri, pin string, public crypto.PublicKey, environment []string) (crypto.Signer, error) {
	k, err := parseTokenURI(uri)
	if err != nil {
		return nil, err
	}
	if k.pin == "" {
		k.pin = pin
	}
	if k.pin == "" {
		return nil, fmt.Errorf("there is no PIN for the token %s: set %s", k.token, pinVariable)
	}
	k.public, k.environment = public, environment
	return k, nil
}

// Public is the key's public half.
func (k *tokenKey) Public() crypto.PublicKey { return k.public }

// Sign has the token sign a digest: RSA by PKCS #1 v1.5, or ECDSA.
func (k *tokenKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	switch k.public.(type) {
	case *rsa.PublicKey:
		info, err := digestInfo(digest, opts.HashFunc())
		if err != nil {
			return nil, err
		}
		return k.sign("RSA-PKCS", info)
	case *ecdsa.PublicKey:
		raw, err := k.sign("ECDSA", digest)
		if err != nil {
			return nil, err
		}
		half := len(raw) / 2
		return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
	}
	return nil, errors.New("a token signs by RSA or ECDSA, and the issuer's certificate is of neither")
}

// digestInfo is what PKCS #1 v1.5 pads (RFC 8017, 9.2).
func digestInfo(digest []byte, hash crypto.Hash) ([]byte, error) {
	if hash != crypto.SHA256 {
		return nil, fmt.Errorf("a token signs with SHA-256, not with %v", hash)
	}
	return asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, Parameters: asn1.NullRawValue}, digest})
}

// sign has the token sign what the mechanism takes. The program finds a key by
// its id alone, and takes any for none.
func (k *tokenKey) sign(mechanism string, input []byte) ([]byte, error) {
	id := k.id
	if id == "" {
		list, err := k.run(nil, "--list-objects", "--type=privkey")
		if err != nil {
			return nil, err
		}
		if id, err = findLabel(string(list), k.label); err != nil {
			return nil, err
		}
	}
	return k.run(input, "--sign", "--mechanism="+mechanism, "--id="+id)
}

// findLabel finds the id of the one key with a label in a list of them.
func findLabel(list, label string) (id string, err error) {
	found, here := 0, false
	for line := range strings.Lines(list) {
		if !strings.HasPrefix(line, " ") { // another object
			here = false
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		switch strings.TrimSpace(name) {
		case "label":
			if here = strings.TrimSpace(value) == label; here {
				found++
			}
		case "ID":
			if here {
				id = strings.TrimSpace(value)
			}
		}
	}
	if _, err := hex.DecodeString(id); found != 1 || id == "" || err != nil {
		return "", fmt.Errorf("%d private keys on the token are called '%s', not one that has an id: name the key by id=", found, label)
	}
	return id, nil
}

// run calls the program. The PIN goes by its environment, which its user and
// root alone can see.
func (k *tokenKey) run(input []byte, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), tokenTimeout)
	defer cancel()
	args = append([]string{"--module=" + k.module, "--token-label=" + k.token, "--login", "--pin=env:" + pinVariable}, args...)
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, tokenTool, args...)
	cmd.Env = append(append(os.Environ(), k.environment...), pinVariable+"="+k.pin)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &errs
	switch err := cmd.Run(); {
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("there is no %s on PATH, which signs by tokens: install opensc", tokenTool)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("the token '%s' has not answered within %v", k.token, tokenTimeout)
	case err != nil || out.Len() == 0:
		return nil, fmt.Errorf("the token '%s' does not sign: %s", k.token, tokenError(errs.String()))
	}
	return out.Bytes(), nil
}

// tokenError finds in what the program and its modules have written why it
// failed.
func tokenError(text string) string {
	why := "it does not say why"
	for line := range strings.Lines(text) {
		if said, found := strings.CutPrefix(strings.TrimSpace(line), "error: "); found {
			why = said
		}
	}
	return why
}
