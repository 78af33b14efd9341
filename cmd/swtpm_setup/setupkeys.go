package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/tpm"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// setupKeys are the keys that a TPM gets.
type setupKeys struct {
	srk, iak, idevid *identity.Provision // nil where it gets none
	eks              []identity.Provision
}

// chooseKeys makes of options and configuration the keys to make.
func (s *setupRun) chooseKeys() (keys setupKeys, err error) {
	first, rsa := s.given(s.ek1, "ek1keyalgo"), "rsa2048"
	if first == "" {
		if rsa, err = s.rsaKind(); err != nil {
			return keys, err
		}
		first = rsa
	}
	if s.createEK {
		if keys.eks, err = s.chooseEKs(first); err != nil {
			return keys, err
		}
	}
	if s.spk {
		if s.ecc {
			rsa = "secp384r1"
		}
		srk, err := identity.SRK(rsa)
		if err != nil {
			return keys, err
		}
		keys.srk = &srk
	}
	for _, k := range []struct {
		option, name string
		of           func(string) (identity.Provision, error)
		into         **identity.Provision
	}{{s.iak, "iakkeyalgo", identity.IAK, &keys.iak}, {s.idevid, "idevidkeyalgo", identity.IDevID, &keys.idevid}} {
		kind := s.given(k.option, k.name)
		if kind == "" {
			continue
		}
		if !s.ekCert {
			return keys, fmt.Errorf("--%s: the key's certificate names that of the EK: add --create-ek-cert", k.name)
		}
		key, err := k.of(kind)
		if err != nil {
			return keys, err
		}
		*k.into = &key
	}
	return keys, nil
}

// given is an option's value, or that in the configuration.
func (s *setupRun) given(option, name string) string {
	if option == "" {
		option, _ = s.conf.value(name)
	}
	return option
}

// chooseEKs gives the first EK and the second one, if that is another.
func (s *setupRun) chooseEKs(first string) ([]identity.Provision, error) {
	use := identity.EKDecrypts
	switch {
	case s.signing && s.decryption:
		use = identity.EKSignsAndDecrypts
	case s.signing:
		use = identity.EKSigns
	}
	second := s.given(s.ek2, "ek2keyalgo")
	if second == "" {
		second = "secp384r1"
	}
	var eks []identity.Provision
	for _, kind := range []string{first, second} {
		ek, err := identity.EK(kind, use)
		if err != nil {
			return nil, err
		}
		if err := s.canMake(&ek); err != nil {
			return nil, err
		}
		if len(eks) == 0 || eks[0].Kind != ek.Kind {
			eks = append(eks, ek)
		}
	}
	return eks, nil
}

// rsaSizes lists the sizes in bits of RSA keys that the new TPM can make.
func (s *setupRun) rsaSizes() []uint16 { return profileOrNull(s.shown).KeySizes(tpm2.AlgRSA) }

// canMake says whether the new TPM has RSA keys of a key's size.
func (s *setupRun) canMake(key *identity.Provision) error {
	if bits := key.Template.KeyBits; bits != 0 && !slices.Contains(s.rsaSizes(), bits) {
		return fmt.Errorf("%d bit RSA keys are not supported by the TPM's profile", bits)
	}
	return nil
}

// profileOrNull is what a TPM shows that is made with a profile or, where that is
// nil, without one.
func profileOrNull(p *tpm.Profile) *tpm.Profile {
	if p != nil {
		return p
	}
	null, err := tpm.RestoreProfile(nil)
	if err != nil {
		panic(err) // there is nothing to read
	}
	return null
}

// rsaKind is the kind of the RSA EK from --rsa-keysize.
func (s *setupRun) rsaKind() (string, error) {
	size := s.given(s.rsaSize, "rsa_keysize")
	switch size {
	case "":
		size = "2048"
	case "max":
		size = strconv.Itoa(int(slices.Max(s.rsaSizes())))
	}
	kind := "rsa" + size
	ek, err := identity.EK(kind, identity.EKDecrypts)
	if err == nil {
		return kind, s.canMake(&ek)
	}
	return "", fmt.Errorf("unsupported RSA key size %s: it is one of 2048, 3072, 4096, or max", strings.TrimSpace(size))
}

// keyParam is a public key as the tool that makes certificates takes it.
func keyParam(p *tpm2.Public, kind string) (string, error) {
	switch p.Type {
	case tpm2.AlgRSA:
		return fmt.Sprintf("%x", p.Unique), nil
	case tpm2.AlgECC:
		return fmt.Sprintf("x=%x,y=%x,id=%s", []byte(p.Point.X), []byte(p.Point.Y), kind), nil
	}
	return "", errors.New("a key that is neither RSA nor of an elliptic curve has no certificate")
}
