package tpm

import (
	"bytes"
	"crypto"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// nullHashCheck is the ticket of who has none.
var nullHashCheck = tpm2.Marshal((*tpm2.HashCheckTicket)(&tpm2.Ticket{
	Tag: tpm2.STHashCheck, Hierarchy: tpm2.Hierarchy(tpm2.RHNull)}))

// wireScheme is a scheme as a parameter, whether or not it is one.
func wireScheme(s tpm2.Scheme) []byte {
	if s.Alg == tpm2.AlgNull {
		return u16(uint16(s.Alg))
	}
	return append(u16(uint16(s.Alg)), u16(uint16(s.Hash))...)
}

func TestSignAndVerify(t *testing.T) {
	for name, c := range map[string]struct {
		key    tpm2.Public
		scheme tpm2.Scheme
	}{
		"rsassa":            {rsaKey(signingKey, schemeOf(tpm2.AlgNull)), schemeOf(tpm2.AlgRSASSA)},
		"rsassa sha1":       {rsaKey(signingKey, schemeOf(tpm2.AlgNull)), tpm2.Scheme{Alg: tpm2.AlgRSASSA, Hash: tpm2.AlgSHA1}},
		"rsapss sha512":     {rsaKey(signingKey, schemeOf(tpm2.AlgNull)), tpm2.Scheme{Alg: tpm2.AlgRSAPSS, Hash: tpm2.AlgSHA512}},
		"ecdsa of the key":  {eccKey(signingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256), schemeOf(tpm2.AlgNull)},
		"ecdsa P384 sha384": {eccKey(signingKey, schemeOf(tpm2.AlgNull), tpm2.CurveP384), tpm2.Scheme{Alg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA384}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true)
			h := r.addKey(c.key, tpm2.RHOwner)
			scheme := c.scheme
			if scheme.Alg == tpm2.AlgNull {
				scheme = c.key.Scheme
			}
			hash, _ := scheme.Hash.Hash()
			digest := digestOf(hash, []byte("hello"))
			body := r.must(tpm2.RCSuccess, tpm2.CCSign, []tpm2.Handle{h}, password(""), buf16(digest), wireScheme(c.scheme), nullHashCheck)
			var sig tpm2.Signature
			decode(t, params(t, body), &sig)
			pub := r.e.state.objects.Get(h).Public
			if sig.Alg != scheme.Alg || sig.Hash != scheme.Hash || !verify(&pub, &sig, digest) {
				t.Fatalf("signature %+v does not verify", sig)
			}
			body = r.must(tpm2.RCSuccess, tpm2.CCVerifySignature, []tpm2.Handle{h}, nil, buf16(digest), tpm2.Marshal(&sig))
			var ticket tpm2.VerifiedTicket
			decode(t, body, &ticket)
			if want := r.e.verifiedTicket(tpm2.RHOwner, digest, pub.Name()); !bytes.Equal(ticket.Digest, want.Digest) ||
				ticket.Hierarchy != tpm2.Hierarchy(tpm2.RHOwner) {
				t.Errorf("ticket %+v", ticket)
			}
			digest[0] ^= 1
			r.must(tpm2.RCSignature.P(2), tpm2.CCVerifySignature, []tpm2.Handle{h}, nil, buf16(digest), tpm2.Marshal(&sig))
		})
	}
}

func TestSignRefuses(t *testing.T) {
	r := newRig(t, true)
	digest := make([]byte, 32)
	signer := r.addKey(eccKey(signingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256), tpm2.RHOwner)
	decrypter := r.addKey(rsaKey(usable|tpm2.ObjDecrypt, schemeOf(tpm2.AlgNull)), tpm2.RHOwner)
	restricted := r.addKey(eccKey(attestingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256), tpm2.RHOwner)
	null, rsassa, sha384 := wireScheme(schemeOf(tpm2.AlgNull)), wireScheme(schemeOf(tpm2.AlgRSASSA)),
		wireScheme(tpm2.Scheme{Alg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA384})
	for _, c := range []struct {
		name           string
		key            tpm2.Handle
		digest, scheme []byte
		want           tpm2.RC
	}{
		{"not a signing key", decrypter, digest, rsassa, tpm2.RCKey.H(1)},
		{"another scheme than the key's", signer, digest, rsassa, tpm2.RCScheme.P(2)},
		{"another hash than the key's", signer, digest, sha384, tpm2.RCScheme.P(2)},
		{"a digest too short", signer, digest[1:], null, tpm2.RCSize.P(1)},
		{"a restricted key without a ticket", restricted, digest, null, tpm2.RCTicket.P(3)},
		{"an unknown scheme", signer, digest, u16(0x7777), tpm2.RCScheme.P(2)},
	} {
		rc, _ := r.run(tpm2.CCSign, []tpm2.Handle{c.key}, password(""), buf16(c.digest), c.scheme, nullHashCheck)
		if rc != c.want {
			t.Errorf("%s: %v, want %v", c.name, rc, c.want)
		}
	}
	r.must(tpm2.RCTag.P(3), tpm2.CCSign, []tpm2.Handle{signer}, password(""), buf16(digest), null,
		u16(uint16(tpm2.STVerified)), u32(uint32(tpm2.RHNull)), buf16(nil))
	r.must(tpm2.RCAttributes.H(1), tpm2.CCVerifySignature, []tpm2.Handle{decrypter}, nil, buf16(digest),
		tpm2.Marshal(&tpm2.Signature{Alg: tpm2.AlgRSASSA, Hash: tpm2.AlgSHA256, RSA: make([]byte, 256)}))
	r.must(tpm2.RCScheme.P(2), tpm2.CCVerifySignature, []tpm2.Handle{signer}, nil, buf16(digest),
		tpm2.Marshal(&tpm2.Signature{Alg: tpm2.AlgRSASSA, Hash: tpm2.AlgSHA256, RSA: make([]byte, 256)}))
}

// TestRestrictedKeySignsWhatTheTPMHashed: a ticket from TPM2_Hash opens a
// restricted key, but there is none for data that looks like an attestation.
func TestRestrictedKeySignsWhatTheTPMHashed(t *testing.T) {
	r := newRig(t, true)
	h := r.addKey(eccKey(attestingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256), tpm2.RHOwner)
	null := wireScheme(schemeOf(tpm2.AlgNull))
	hashOf := func(data string) (tpm2.Digest, tpm2.HashCheckTicket) {
		body := r.must(tpm2.RCSuccess, tpm2.CCHash, nil, nil, buf16([]byte(data)), u16(uint16(tpm2.AlgSHA256)), u32(uint32(tpm2.RHOwner)))
		var digest tpm2.Digest
		var ticket tpm2.HashCheckTicket
		decode(t, body, &digest, &ticket)
		if !bytes.Equal(digest, digestOf(crypto.SHA256, []byte(data))) {
			t.Fatalf("digest of %q: %x", data, digest)
		}
		return digest, ticket
	}
	for _, data := range []string{"", "abc", "a message"} {
		digest, ticket := hashOf(data)
		sign := func(want tpm2.RC, digest tpm2.Digest) {
			t.Helper()
			r.must(want, tpm2.CCSign, []tpm2.Handle{h}, password(""), buf16(digest), null, tpm2.Marshal(&ticket))
		}
		sign(tpm2.RCSuccess, digest)
		ticket.Digest = bytes.Clone(ticket.Digest)
		ticket.Digest[0] ^= 1
		sign(tpm2.RCTicket.P(3), digest)
		ticket.Digest[0] ^= 1
		ticket.Hierarchy = tpm2.Hierarchy(tpm2.RHPlatform)
		sign(tpm2.RCTicket.P(3), digest)
		ticket.Hierarchy = tpm2.Hierarchy(tpm2.RHOwner)
		sign(tpm2.RCTicket.P(3), make(tpm2.Digest, 32))
	}
	digest, ticket := hashOf("\xFFTCG says so")
	if tpm2.Handle(ticket.Hierarchy) != tpm2.RHNull || len(ticket.Digest) != 0 {
		t.Fatalf("a ticket for what looks like an attestation: %+v", ticket)
	}
	r.must(tpm2.RCTicket.P(3), tpm2.CCSign, []tpm2.Handle{h}, password(""), buf16(digest), null, tpm2.Marshal(&ticket))
}

func TestVerifyGivesNoTicketWithoutAHierarchy(t *testing.T) {
	r := newRig(t, true)
	h := r.addKey(hmacKey(signingKey, schemeOf(tpm2.AlgHMAC)), tpm2.RHNull)
	digest := make([]byte, 32)
	body := r.must(tpm2.RCSuccess, tpm2.CCSign, []tpm2.Handle{h}, password(""), buf16(digest), wireScheme(schemeOf(tpm2.AlgNull)), nullHashCheck)
	body = r.must(tpm2.RCSuccess, tpm2.CCVerifySignature, []tpm2.Handle{h}, nil, buf16(digest), params(t, body))
	var ticket tpm2.VerifiedTicket
	decode(t, body, &ticket)
	if tpm2.Handle(ticket.Hierarchy) != tpm2.RHNull || len(ticket.Digest) != 0 {
		t.Errorf("ticket %+v", ticket)
	}
}
