package psa

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/internal/cose"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// KindPSA is the name of the kind.
const KindPSA = "psa"

// Kinds is the PSA attestation token.
func Kinds() []scheme.Kind {
	return []scheme.Kind{scheme.New(scheme.Kind{Name: KindPSA, Title: "a PSA attestation token of an Arm device", Type: rats.TypePSA,
		Takes: scheme.TakesNonce | scheme.TakesKey | scheme.TakesReferences, One: true}, Appraise,
		func(in *scheme.Input) error { return CheckOwn(in, KindPSA) })}
}

// CheckOwn says which key or reference value of the caller cannot be read.
func CheckOwn(in *scheme.Input, kind string) error {
	if _, err := Keys(in); err != nil {
		return err
	}
	if in.References == nil {
		return nil
	}
	_, err := scheme.ParseValues(in.References.Data, kind)
	return err
}

// Keys gives the keys that the caller vouches for: the one that is demanded, or
// those endorsed, as public keys or in certificates.
func Keys(in *scheme.Input) ([]crypto.PublicKey, error) {
	files := in.Endorsements
	if in.Key != nil {
		files = []scheme.File{*in.Key}
	}
	var list []crypto.PublicKey
	for _, f := range files {
		if certs, err := identity.ParseCertificates(f.Data); err == nil {
			for _, c := range certs {
				list = append(list, c.PublicKey)
			}
			continue
		}
		k, err := identity.ParseKey(f.Data)
		if err != nil {
			return nil, fmt.Errorf("%s endorses no device: it is neither a certificate nor a public key", f.Name)
		}
		list = append(list, k.Crypto)
	}
	return list, nil
}

// Appraise examines one token: its claims, its signature by an endorsed Initial
// Attestation Key, its nonce, the state of the device, and its software.
func Appraise(in *scheme.Input) *scheme.Result {
	f := in.Files[0]
	if len(f.Data) > MaxToken {
		return scheme.Malformed("token", fmt.Errorf("%s is %d bytes long: at most %d are read", f.Name, len(f.Data), MaxToken))
	}
	msg, err := cose.Parse(f.Data)
	if err != nil {
		return scheme.Malformed("token", fmt.Errorf("%s: %w", f.Name, err))
	}
	c, err := ParseClaims(msg.Payload)
	if err == nil && c.HashAlgorithm != "" {
		err = errors.New("it is the token of a CCA platform without its realm's: give the whole as kind cca")
	}
	if err != nil {
		return scheme.Malformed("token", fmt.Errorf("%s: %w", f.Name, err))
	}
	r := scheme.NewResult()
	maps.Copy(r.Facts, c.Facts())
	sum := sha256.Sum256(msg.Payload)
	maps.Copy(r.Facts, scheme.Facts{"cose_tag": msg.Tag, "claims": len(c.Keys), "claim_keys": c.Keys, "payload_sha256": hex.EncodeToString(sum[:])})
	if len(c.Unknown) > 0 {
		r.Leave("", "unknown claims", fmt.Sprintf("the token has claims that are not known here: %.200s", fmt.Sprint(c.Unknown)))
	}
	if Signed(r, msg, in, "token signature") {
		r.Claim(rats.InstanceIdentity, rats.InstanceKnown)
		r.Claim(rats.Hardware, rats.HardwareGenuine)
	}
	Nonce(r, in, c.Nonce)
	Lifecycle(r, c)
	References(r, in, KindPSA)
	r.Finish(rats.InstanceIdentity, rats.Configuration, rats.Executables)
	return r
}

// Signed checks a message's signature by a key that the caller vouches for, and
// records the outcome under a name; without a key it is left open.
func Signed(r *scheme.Result, msg *cose.Message, in *scheme.Input, name string) bool {
	keys, err := Keys(in)
	switch {
	case err != nil:
		r.Break(scheme.ReasonMalformed, "key", err)
		return false
	case msg.Tag == cose.TagMac0:
		r.Leave(scheme.ReasonNoKey, name, "the token has a MAC, which only who has the device's secret key can check: have the device sign its tokens")
		return false
	case len(keys) == 0:
		r.Leave(scheme.ReasonNoKey, name, "no key was given to check the token with: give the device's public key, or its certificate, as an endorsement")
		return false
	}
	for _, k := range keys {
		if err = msg.Verify(k); err == nil {
			r.Hold(name, msg.Algorithm())
			return true
		}
	}
	r.Break(scheme.ReasonSignature, name, fmt.Errorf("the token is signed by none of the %d keys given: it was altered, or is another device's: %w", len(keys), err))
	return false
}

// Nonce compares the nonce in a token with the one that was sent. One that is
// shorter than a token's must be stood at its beginning, with zeros after it.
func Nonce(r *scheme.Result, in *scheme.Input, found []byte) {
	if !in.HasNonce {
		r.Leave("", "nonce", "no nonce was given, so the token may be an old one")
		return
	}
	want := append(bytes.Clone(in.Nonce), make([]byte, max(0, len(found)-len(in.Nonce)))...)
	if len(in.Nonce) == 0 || !bytes.Equal(want, found) {
		r.Fail(scheme.ReasonNonce, rats.InstanceIdentity, rats.CryptoFailed, rats.Claim{Name: "nonce",
			Expected: in.Nonce.String(), Found: hex.EncodeToString(found),
			Why: "the token was made under another nonce: it is a replay, or answers another challenge"})
		return
	}
	r.Hold("nonce", in.Nonce.String())
}

// Lifecycle judges the state of the device: only a secured one is approved.
func Lifecycle(r *scheme.Result, c *Claims) {
	const name = "life cycle"
	found := fmt.Sprintf("%s (0x%04x)", c.State(), c.Lifecycle)
	switch c.State() {
	case StateSecured:
		r.Hold(name, found)
		if r.Verdict == scheme.Valid {
			r.Claim(rats.Configuration, rats.ConfigApproved)
		}
	case StateDebug, StateRecoverableDebug:
		r.Warn(scheme.ReasonDebug, rats.Configuration, rats.ConfigUnsupported, rats.Claim{Name: name, Expected: "secured", Found: found,
			Why: "the device can be debugged: what it says of itself may be a debugger's"})
	default:
		r.Warn(scheme.ReasonLifecycle, rats.Configuration, rats.ConfigUnsupported, rats.Claim{Name: name, Expected: "secured", Found: found,
			Why: fmt.Sprintf("the device is in the state %s, in which its keys are not yet, or no longer, protected", found)})
	}
}

// References compares a valid Result with the reference values, if there are any.
func References(r *scheme.Result, in *scheme.Input, kind string) {
	if in.References == nil || r.Verdict != scheme.Valid {
		return
	}
	v, err := scheme.ParseValues(in.References.Data, kind)
	if err != nil {
		r.Break(scheme.ReasonMalformed, "reference values", fmt.Errorf("%s: %w", in.References.Name, err))
		return
	}
	r.Compare(v, func(fact string) rats.Category {
		switch {
		case fact == "instance_id":
			return rats.InstanceIdentity
		case fact == "rim", strings.HasPrefix(fact, "rem"), strings.HasPrefix(fact, "components."), strings.HasPrefix(fact, "signers."):
			return rats.Executables
		}
		return rats.Configuration
	})
}
