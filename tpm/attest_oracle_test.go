package tpm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// side is one of the two TPMs of a pair, with what it answered.
type side struct {
	t   *testing.T
	run func(cmd []byte) []byte
	// answers are the code and length of each response: what must be the same
	// where the bytes cannot be.
	answers []string
}

// do runs a command, notes the answer and gives what follows the header, nil
// where the command was refused.
func (s *side) do(what string, cmd []byte) []byte {
	s.t.Helper()
	resp := s.run(cmd)
	s.answers = append(s.answers, fmt.Sprintf("%s: %v, %d bytes", what, code(resp), len(resp)))
	if code(resp) != tpm2.RCSuccess {
		return nil
	}
	return resp[headerSize:]
}

// made is a primary key, with what proves how it was made.
type made struct {
	handle tpm2.Handle
	pub    tpm2.Public
	hash   tpm2.Digest
	ticket tpm2.CreationTicket
}

func (s *side) primary(hierarchy tpm2.Handle, template tpm2.Public) (m made) {
	s.t.Helper()
	body := s.do("CreatePrimary", frame(tpm2.CCCreatePrimary, []tpm2.Handle{hierarchy}, password(""),
		tpm2.Marshal(&tpm2.SensitiveCreate{}), tpm2.Marshal(&tpm2.SizedPublic{Public: template}), buf16([]byte("outside")), u32(0)))
	if body == nil {
		s.t.Fatal(s.answers[len(s.answers)-1])
	}
	m.handle = tpm2.Handle(binary.BigEndian.Uint32(body))
	var pub tpm2.SizedPublic
	var data tpm2.SizedCreationData
	var name tpm2.Name
	decode(s.t, params(s.t, body[4:]), &pub, &data, &m.hash, &m.ticket, &name)
	m.pub = pub.Public
	return m
}

// attested checks an attestation's signature outside the TPM.
func (s *side) attested(what string, key *made, body []byte) (a tpm2.Attest) {
	s.t.Helper()
	var raw tpm2.SizedAttest
	var sig tpm2.Signature
	decode(s.t, params(s.t, body), &raw, &sig)
	hash, _ := sig.Hash.Hash()
	if err := tpm2.Unmarshal(raw, &a); err != nil || !verify(&key.pub, &sig, digestOf(hash, raw)) {
		s.t.Errorf("%s: %v, signature %+v", what, err, sig)
	}
	return a
}

// life is what an attestation key does: it quotes, certifies how it was made,
// signs what the TPM has hashed, and nothing else.
func (s *side) life(hierarchy tpm2.Handle, template tpm2.Public) {
	s.t.Helper()
	key := s.primary(hierarchy, template)
	null, h := u16(uint16(tpm2.AlgNull)), []tpm2.Handle{key.handle}
	list := tpm2.PCRSelectionList{bankPCRs(tpm2.AlgSHA384, 1, 16), bankPCRs(tpm2.AlgSHA1, 23)}
	quote := s.do("Quote", frame(tpm2.CCQuote, h, password(""), buf16([]byte("nonce")), null, tpm2.Marshal(&list)))
	a := s.attested("Quote", &key, quote)
	if want := key.pub.Scheme.Hash.Digest(make([]byte, 48+48+20)); !bytes.Equal(a.Quote.Digest, want) {
		s.t.Errorf("the PCRs' digest is %x, want %x", a.Quote.Digest, want)
	}
	qualified := append(tpm2.Name{0, 11}, tpm2.AlgSHA256.Digest(u32(uint32(hierarchy)), key.pub.Name())...)
	if !bytes.Equal(a.QualifiedSigner, qualified) {
		s.t.Errorf("qualified signer %x, want %x", a.QualifiedSigner, qualified)
	}
	creation := func(what string, ticket tpm2.CreationTicket) []byte {
		return s.do(what, frame(tpm2.CCCertifyCreation, []tpm2.Handle{key.handle, key.handle}, password(""), buf16(nil),
			buf16(key.hash), null, tpm2.Marshal(&ticket)))
	}
	s.attested("CertifyCreation", &key, creation("CertifyCreation", key.ticket))
	forged := key.ticket
	forged.Digest = append(bytes.Clone(forged.Digest[:len(forged.Digest)-1]), forged.Digest[len(forged.Digest)-1]^1)
	creation("CertifyCreation with a forged ticket", forged)
	forged.Digest = nil
	creation("CertifyCreation with an empty ticket", forged)

	for _, data := range []string{"message", "\xFFTCG", "\xFFTC", ""} {
		s.signHashed(h, data, hierarchy, u16(uint16(template.Scheme.Hash)))
	}
	s.do("flush", frame(tpm2.CCFlushContext, nil, nil, u32(uint32(key.handle))))
}

// signHashed lets the TPM hash data, by command and by sequence, and a
// restricted key sign the digest with the ticket for it.
func (s *side) signHashed(h []tpm2.Handle, data string, hierarchy tpm2.Handle, alg []byte) {
	s.t.Helper()
	null := u16(uint16(tpm2.AlgNull))
	sign := func(what string, out []byte) {
		c := tpm2.NewDecoder(out)
		var digest tpm2.Digest
		digest.Walk(&c)
		ticket := c.Rest()
		sig := s.do("Sign "+what, frame(tpm2.CCSign, h, password(""), buf16(digest), null, ticket))
		if sig == nil {
			return
		}
		verified := s.do("VerifySignature "+what, frame(tpm2.CCVerifySignature, h, nil, buf16(digest), params(s.t, sig)))
		s.do("Sign with the other ticket", frame(tpm2.CCSign, h, password(""), buf16(digest), null, verified))
		s.do("Sign with another digest", frame(tpm2.CCSign, h, password(""), buf16(digest[1:]), null, ticket))
	}
	sign("Hash", s.do("Hash", frame(tpm2.CCHash, nil, nil, buf16([]byte(data)), alg, u32(uint32(hierarchy)))))
	seq := []tpm2.Handle{tpm2.Handle(binary.BigEndian.Uint32(s.do("HashSequenceStart", frame(tpm2.CCHashSequenceStart, nil, nil, buf16(nil), alg))))}
	s.do("SequenceUpdate", frame(tpm2.CCSequenceUpdate, seq, password(""), buf16([]byte(data))))
	done := s.do("SequenceComplete", frame(tpm2.CCSequenceComplete, seq, password(""), buf16([]byte("end")), u32(uint32(hierarchy))))
	sign("SequenceComplete", params(s.t, done))
}

// TestAttestationKeysAsSwtpm lets attestation keys of both TPMs live the same
// life; the answers must have the same codes and lengths, and the signatures
// of both verify outside.
func TestAttestationKeysAsSwtpm(t *testing.T) {
	p := startedPair(t)
	fixed := tpm2.ObjFixedTPM | tpm2.ObjFixedParent | attestingKey
	for _, hierarchy := range []tpm2.Handle{tpm2.RHEndorsement, tpm2.RHOwner, tpm2.RHPlatform, tpm2.RHNull} {
		for _, template := range []tpm2.Public{
			eccKey(fixed, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256),
			eccKey(fixed, tpm2.Scheme{Alg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA384}, tpm2.CurveP384),
			rsaKey(fixed, tpm2.Scheme{Alg: tpm2.AlgRSAPSS, Hash: tpm2.AlgSHA512}),
			rsaKey(fixed, schemeOf(tpm2.AlgRSASSA)),
		} {
			if template.Type == tpm2.AlgRSA && hierarchy != tpm2.RHEndorsement {
				continue // a search for primes each
			}
			ours, theirs := &side{t: t, run: p.execute}, &side{t: t, run: p.o.execute}
			ours.life(hierarchy, template)
			theirs.life(hierarchy, template)
			for i := range min(len(ours.answers), len(theirs.answers)) {
				if ours.answers[i] != theirs.answers[i] {
					t.Errorf("%v %v: ours %s; swtpm %s", hierarchy, template.Scheme, ours.answers[i], theirs.answers[i])
				}
			}
			if len(ours.answers) != len(theirs.answers) {
				t.Errorf("%d answers here, %d there", len(ours.answers), len(theirs.answers))
			}
		}
	}
}
