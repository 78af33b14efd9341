package cca

import (
	"encoding/hex"
	"fmt"
	"maps"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/psa"
)

// KindCCA is the name of the kind.
const KindCCA = "cca"

// Kinds is the CCA attestation token.
func Kinds() []scheme.Kind {
	return []scheme.Kind{scheme.New(scheme.Kind{Name: KindCCA, Title: "an attestation token of an Arm CCA realm", Type: rats.TypeCCA,
		Takes: scheme.TakesNonce | scheme.TakesKey | scheme.TakesReferences, One: true}, Appraise,
		func(in *scheme.Input) error { return psa.CheckOwn(in, KindCCA) })}
}

// Appraise examines one token: the platform's signature by an endorsed key, the
// realm's by the key that the platform vouches for, the nonce, the platform's
// state, and what was measured.
func Appraise(in *scheme.Input) *scheme.Result {
	t, err := ParseToken(in.Files[0].Data)
	if err != nil {
		return scheme.Malformed("token", fmt.Errorf("%s: %w", in.Files[0].Name, err))
	}
	r := scheme.NewResult()
	t.facts(r)
	if psa.Signed(r, t.Platform, in, "platform signature") {
		r.Facts["platform_signature"] = "valid"
		r.Claim(rats.InstanceIdentity, rats.InstanceKnown)
		r.Claim(rats.Hardware, rats.HardwareGenuine)
	} else if r.Verdict == scheme.Invalid {
		r.Facts["platform_signature"] = "invalid"
	}
	t.realm(r)
	psa.Nonce(r, in, t.RealmClaims.Challenge)
	psa.Lifecycle(r, t.PlatformClaims)
	psa.References(r, in, KindCCA)
	r.Finish(rats.InstanceIdentity, rats.Configuration, rats.Executables)
	return r
}

// realm checks that the realm's token is signed by its key, and that this key is
// the one the platform vouches for.
func (t *Token) realm(r *scheme.Result) {
	key, err := t.RealmClaims.Key()
	if err == nil {
		err = t.Realm.Verify(key)
	}
	if err != nil {
		r.Facts["realm_signature"] = "invalid"
		r.Break(scheme.ReasonSignature, "realm signature", fmt.Errorf("the realm's token is not signed by the key in it: %w", err))
	} else {
		r.Facts["realm_signature"] = "valid"
		r.Hold("realm signature", t.Realm.Algorithm())
	}
	if err := t.bound(); err != nil {
		r.Facts["binding"] = "invalid"
		r.Break(scheme.ReasonBinding, "binding", err)
		return
	}
	r.Facts["binding"] = "valid"
	r.Hold("binding", "the platform's challenge is the digest of the realm's key")
}

func (t *Token) facts(r *scheme.Result) {
	p, c := t.PlatformClaims, t.RealmClaims
	maps.Copy(r.Facts, p.Facts())
	rems := make([]string, len(c.Extensible))
	for i, m := range c.Extensible {
		rems[i] = hex.EncodeToString(m)
		r.Facts[fmt.Sprintf("rem%d", i)] = rems[i]
	}
	maps.Copy(r.Facts, scheme.Facts{
		"tag": tagCollection, "platform_signature": "unchecked", "platform_challenge": hex.EncodeToString(p.Nonce),
		"realm_challenge": hex.EncodeToString(c.Challenge), "rim": hex.EncodeToString(c.Initial), "rems": rems,
		"personalization_value": hex.EncodeToString(c.Personalization), "realm_hash_algorithm": c.Hash,
	})
	if len(p.Unknown) > 0 {
		r.Leave("", "unknown claims", fmt.Sprintf("the platform's token has claims that are not known here: %.200s", fmt.Sprint(p.Unknown)))
	}
}
