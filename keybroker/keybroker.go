// Package keybroker keeps secrets encrypted and releases them on proof.
//
// A secret is released only on an Attestation Result (EAR) that a trusted
// Verifier signed, that is fresh, answers the nonce of this exchange, affirms,
// and was reached under the policy that the secret's Rule names. It is then
// encrypted to the attester's key in that result.
//
// That key is bound to the Evidence so: the attester makes an ephemeral key on
// P-256 and quotes under rats.BindKey(nonce, key), so the TPM's signature covers
// the key together with the PCRs that show which software made it. The private
// half never leaves that software. Whoever steals the EAR, or copies the sealed
// secret, can read nothing; and a machine that is changed afterwards cannot get
// the secret again, as a new quote would show the change. Sealing is JWE (RFC
// 7516) with ECDH-ES+A256KW and A256GCM.
package keybroker

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/ashlar-cloud/ashlar/rats"
)

// Limits.
const (
	MaxSecret = 64 << 10 // bytes of a secret
	maxRecord = 256 << 10
	kekSize   = 32 // AES-256
	// MaxResultAge is the oldest result that releases anything.
	MaxResultAge = 10 * time.Minute
)

const (
	recordFormat  = "ashlar-secret"
	recordVersion = 1
	suffix        = ".secret" // of a secret's file
)

// Rule says what a secret needs besides a result that affirms.
type Rule struct {
	// PolicyID must be among the result's appraisal policies; empty for any.
	PolicyID string `json:"policyID,omitempty"`
}

// record is a secret's file: its rule in clear, authenticated with the rest.
type record struct {
	Format     string `json:"format"`
	Version    int    `json:"version"`
	Name       string `json:"name"`
	Rule       Rule   `json:"rule"`
	Nonce      []byte `json:"nonce"`
	Ciphertext []byte `json:"ciphertext"` // AES-256-GCM
}

// Broker holds secrets in a folder.
type Broker struct {
	dir  string
	aead cipher.AEAD
}

// Refusal is why a secret was not released.
type Refusal struct {
	// Reason is a word for machines: "not-affirming", "policy", "no-key", or one
	// of rats.Refusal.
	Reason string
	Why    string // one sentence
}

// Error gives the sentence.
func (r *Refusal) Error() string { return r.Why }

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// Open opens the folder, making it and its key-encryption key (the file "kek",
// mode 0600) where they are missing. A folder that others may write to and a key
// file that others may read are refused, and so is a folder with secrets whose key
// is missing: a new key would not open them.
func Open(dir string) (*Broker, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder of secrets: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot use the folder of secrets: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("the folder of secrets %s can be written by others (mode %04o): chmod 700 it, and look whether its files are yours", dir, info.Mode().Perm())
	}
	kek, err := loadKEK(dir)
	if err != nil {
		return nil, err
	}
	defer clear(kek)
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, fmt.Errorf("cannot use the key-encryption key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("cannot use the key-encryption key: %w", err)
	}
	return &Broker{dir: dir, aead: aead}, nil
}

func loadKEK(dir string) ([]byte, error) {
	path := filepath.Join(dir, "kek")
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeKEK(dir, path); err != nil {
			return nil, err
		}
		info, err = os.Lstat(path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the key-encryption key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the key-encryption key %s is no regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the key-encryption key %s can be read by others (mode %04o): chmod 600 it, and change the secrets", path, info.Mode().Perm())
	}
	if info.Size() != kekSize {
		return nil, fmt.Errorf("the key-encryption key %s has %d bytes, not %d: it is cut or altered", path, info.Size(), kekSize)
	}
	kek, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the key-encryption key: %w", err)
	}
	if len(kek) != kekSize {
		return nil, fmt.Errorf("the key-encryption key %s changed while it was read", path)
	}
	return kek, nil
}

// makeKEK makes the key of a folder that has no secrets yet. Of several processes
// that do so at once one wins, and the key is there whole or not at all.
func makeKEK(dir, path string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot look into the folder of secrets: %w", err)
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), suffix) {
			return fmt.Errorf("the key-encryption key %s is missing, and there are secrets that only it opens, such as %s: restore it", path, f.Name())
		}
	}
	kek := make([]byte, kekSize)
	defer clear(kek)
	if _, err := rand.Read(kek); err != nil {
		return fmt.Errorf("cannot draw a key-encryption key: %w", err)
	}
	return writeWhole(dir, kek, func(temp string) error {
		if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return os.Remove(temp)
	})
}

// writeWhole writes a file of mode 0600 under a name of its own in dir, and lets
// place give it the name it shall have, when its content is on the disk.
func writeWhole(dir string, b []byte, place func(temp string) error) error {
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return fmt.Errorf("cannot write to the folder of secrets: %w", err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = place(f.Name())
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // gone already, or left over: the error says enough
		return fmt.Errorf("cannot write to the folder of secrets: %w", err)
	}
	return nil
}

// syncDir makes names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (b *Broker) path(name string) (string, error) {
	if !nameForm.MatchString(name) {
		return "", fmt.Errorf("%q is no name for a secret: use up to 64 of a-z, 0-9, dot, underscore and hyphen, a letter or digit first", name)
	}
	return filepath.Join(b.dir, name+suffix), nil
}

// bound is what the ciphertext is authenticated with, so that neither name nor
// rule can be exchanged.
func (r *record) bound() []byte {
	d, err := json.Marshal([]any{r.Format, r.Version, r.Name, r.Rule})
	if err != nil {
		panic("keybroker: a record that does not marshal: " + err.Error())
	}
	return d
}

// Put stores a secret under a name, in place of one that is there.
func (b *Broker) Put(name string, secret []byte, rule Rule) error {
	path, err := b.path(name)
	if err != nil {
		return err
	}
	if len(secret) == 0 || len(secret) > MaxSecret {
		return fmt.Errorf("the secret has %d bytes: 1 to %d are allowed", len(secret), MaxSecret)
	}
	r := record{Format: recordFormat, Version: recordVersion, Name: name, Rule: rule, Nonce: make([]byte, b.aead.NonceSize())}
	if _, err := rand.Read(r.Nonce); err != nil {
		return fmt.Errorf("cannot draw a nonce: %w", err)
	}
	r.Ciphertext = b.aead.Seal(nil, r.Nonce, secret, r.bound())
	out, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("cannot write the secret: %w", err)
	}
	return writeWhole(b.dir, out, func(temp string) error { return os.Rename(temp, path) })
}

func (b *Broker) load(name string) (*record, []byte, error) {
	path, err := b.path(name)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("there is no secret %q", name)
	} else if err != nil {
		return nil, nil, fmt.Errorf("cannot read the secret: %w", err)
	}
	defer f.Close()
	raw, err := rats.ReadLimited(f, maxRecord, path)
	if err != nil {
		return nil, nil, err
	}
	var r record
	if err := json.Unmarshal(raw, &r); err != nil || r.Format != recordFormat || r.Version != recordVersion ||
		r.Name != name || len(r.Nonce) != b.aead.NonceSize() {
		return nil, nil, fmt.Errorf("the secret's file %s is cut, altered, or of another version", path)
	}
	secret, err := b.aead.Open(nil, r.Nonce, r.Ciphertext, r.bound())
	if err != nil {
		return nil, nil, fmt.Errorf("the secret's file %s does not decrypt: it is altered, or was written under another key-encryption key", path)
	}
	return &r, secret, nil
}

// Trust says whose results release secrets, in which exchange.
type Trust struct {
	Keys   []*ecdsa.PublicKey // Verifiers
	Issuer string             // their name; empty for any
	Nonce  rats.Nonce         // of this exchange; required
	Now    time.Time
}

// Release gives the secret, sealed to the attester's key, as a compact JWE. A
// result that does not entitle to it gives a *Refusal, before the secret is
// even read.
func (b *Broker) Release(name, ear string, t Trust) (string, error) {
	if len(t.Nonce) == 0 {
		return "", errors.New("a release needs the nonce of this exchange: without it an old result could be used again")
	}
	r, err := rats.Verify(ear, rats.Expect{Keys: t.Keys, Issuer: t.Issuer, Nonce: t.Nonce, Now: t.Now, MaxAge: MaxResultAge})
	var bad *rats.Refusal
	if errors.As(err, &bad) {
		return "", &Refusal{bad.Reason, bad.Why}
	}
	if err != nil {
		return "", err
	}
	sub, err := entitled(r)
	if err != nil {
		return "", err
	}
	rec, secret, err := b.load(name)
	if err != nil {
		return "", err
	}
	defer clear(secret)
	if id := rec.Rule.PolicyID; id != "" && !slices.Contains(sub.PolicyIDs, id) {
		return "", &Refusal{"policy", fmt.Sprintf("the secret %q is released only under the policy %s, and the result was reached under %q", name, id, sub.PolicyIDs)}
	}
	return seal(secret, sub.AttesterKey)
}

// entitled gives the one submodule of a result that affirms and has a key.
func entitled(r *rats.AttestationResult) (*rats.Appraisal, error) {
	if s := r.Status(); s != rats.TierAffirming {
		why := fmt.Sprintf("the attestation result is %q, not \"affirming\"", s)
		for _, a := range r.Submods {
			if failed := a.Failed(); len(failed) > 0 {
				why += ": " + failed[0].Why
				if len(failed) > 1 {
					why += fmt.Sprintf(" (and %d more)", len(failed)-1)
				}
				break
			}
		}
		return nil, &Refusal{"not-affirming", why}
	}
	for _, a := range r.Submods {
		if t := a.Vector.Tier(); t == rats.TierWarning || t == rats.TierContraindicated {
			return nil, &Refusal{"not-affirming", fmt.Sprintf("the attestation result says \"affirming\", and its trustworthiness vector says %q", t)}
		}
	}
	if len(r.Submods) != 1 {
		return nil, &Refusal{"no-key", "the attestation result has several submodules: which one's key to seal to is not clear"}
	}
	for _, a := range r.Submods {
		if len(a.AttesterKey) > 0 {
			return &a, nil
		}
	}
	return nil, &Refusal{"no-key", "the attestation result proves no key of the attester: collect the evidence with a key (--key-out)"}
}

func seal(secret, spki []byte) (string, error) {
	key, err := rats.ParseAttesterKey(spki)
	if err != nil {
		return "", &Refusal{"no-key", err.Error()}
	}
	enc, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.ECDH_ES_A256KW, Key: key}, nil)
	if err != nil {
		return "", fmt.Errorf("cannot seal the secret: %w", err)
	}
	jwe, err := enc.Encrypt(secret)
	if err != nil {
		return "", fmt.Errorf("cannot seal the secret: %w", err)
	}
	return jwe.CompactSerialize()
}

// OpenSealed is the attester's half: it opens what Release gave.
func OpenSealed(sealed string, key *ecdsa.PrivateKey) ([]byte, error) {
	if len(sealed) > 2*MaxSecret {
		return nil, errors.New("the sealed secret is too long")
	}
	jwe, err := jose.ParseEncryptedCompact(sealed, []jose.KeyAlgorithm{jose.ECDH_ES_A256KW}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return nil, errors.New("this is no sealed secret: it is cut, altered or something else")
	}
	secret, err := jwe.Decrypt(key)
	if err != nil {
		return nil, errors.New("the secret is sealed to another key, or altered")
	}
	return secret, nil
}
