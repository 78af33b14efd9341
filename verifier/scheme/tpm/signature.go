package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// signature is a quote's signature in either form that tools write.
type signature struct {
	tpm2.Signature
	plain []byte // PKCS #1 block or ECDSA in DER; Alg and Hash are then the key's
}

// scheme names the signature's algorithms: "rsassa-sha256".
func (s *signature) scheme() string { return s.Alg.String() + "-" + s.Hash.String() }

// parseSignature reads a TPMT_SIGNATURE to its last byte, or, with the key
// known, a plain signature as tpm2_quote --format plain writes it.
func parseSignature(b []byte, key *identity.Key) (*signature, error) {
	var s signature
	if err := tpm2.Unmarshal(b, &s.Signature); err == nil {
		switch s.Alg {
		case tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgECDSA:
			return &s, nil
		}
		return nil, fmt.Errorf("the signature's scheme %v is not RSASSA, RSAPSS or ECDSA", s.Alg)
	}
	malformed := errors.New("the signature is malformed: it is cut, altered or something else")
	if key == nil {
		return nil, malformed
	}
	s = signature{plain: b}
	s.Hash = tpm2.AlgSHA256
	if p := key.Public; p != nil && p.Scheme.Alg != tpm2.AlgNull {
		s.Alg, s.Hash = p.Scheme.Alg, p.Scheme.Hash
	}
	switch k := key.Crypto.(type) {
	case *rsa.PublicKey:
		if len(b) != k.Size() {
			return nil, malformed
		}
		if s.Alg == 0 {
			s.Alg = tpm2.AlgRSASSA
		}
	case *ecdsa.PublicKey:
		if len(b) < 8 || b[0] != 0x30 {
			return nil, malformed
		}
		s.Alg = tpm2.AlgECDSA
	}
	return &s, nil
}

// verify checks the signature over message. The scheme must be the key's own
// where its public area names one: a restricted key signs with no other.
func (s *signature) verify(key *identity.Key, message []byte) error {
	if p := key.Public; p != nil && p.Scheme.Alg != tpm2.AlgNull &&
		(p.Scheme.Alg != s.Alg || p.Scheme.Hash != s.Hash) {
		return fmt.Errorf("the signature is %s where the attestation key signs only with %v-%v", s.scheme(), p.Scheme.Alg, p.Scheme.Hash)
	}
	hash, ok := s.Hash.Hash()
	if !ok {
		return fmt.Errorf("the signature's hash algorithm %v is not supported", s.Hash)
	}
	digest := s.Hash.Digest(message)
	good := false
	switch k := key.Crypto.(type) {
	case *rsa.PublicKey:
		good = s.verifyRSA(k, hash, digest)
	case *ecdsa.PublicKey:
		good = s.verifyECDSA(k, digest)
	}
	if !good {
		return errors.New("the quote's signature is not the attestation key's: the quote is forged, altered, or made with another key")
	}
	return nil
}

func (s *signature) verifyRSA(k *rsa.PublicKey, hash crypto.Hash, digest []byte) bool {
	sig := s.RSA
	if s.plain != nil {
		sig = s.plain
	}
	switch s.Alg {
	case tpm2.AlgRSASSA:
		return rsa.VerifyPKCS1v15(k, hash, digest, sig) == nil
	case tpm2.AlgRSAPSS:
		// A TPM chooses the salt's length; Part 1, B.7 lets it be the longest.
		return rsa.VerifyPSS(k, hash, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil
	}
	return false
}

func (s *signature) verifyECDSA(k *ecdsa.PublicKey, digest []byte) bool {
	if s.Alg != tpm2.AlgECDSA {
		return false
	}
	if s.plain != nil {
		return ecdsa.VerifyASN1(k, digest, s.plain)
	}
	size := (k.Params().BitSize + 7) / 8
	if len(s.R) > size || len(s.S) > size {
		return false
	}
	return ecdsa.Verify(k, digest, new(big.Int).SetBytes(s.R), new(big.Int).SetBytes(s.S))
}
