package tpm

import (
	"bytes"
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// symmetricCommands are those of Part 3, 15.
var symmetricCommands = []command{
	define(command{cc: tpm2.CCEncryptDecrypt, readOnly: true,
		handles: []handle{{"keyHandle", anObject, authUser}},
	}, (*Engine).encryptDecrypt),
	define(command{cc: tpm2.CCEncryptDecrypt2, readOnly: true,
		handles: []handle{{"keyHandle", anObject, authUser}},
	}, (*Engine).encryptDecrypt2),
	define(command{cc: tpm2.CCHash, readOnly: true}, (*Engine).hash),
	define(command{cc: tpm2.CCHMAC, readOnly: true,
		handles: []handle{{"handle", anObject, authUser}},
	}, (*Engine).hmac),
}

// cipherIn is what EncryptDecrypt and EncryptDecrypt2 have in common.
type cipherIn struct {
	data    tpm2.MaxBuffer
	decrypt tpm2.YesNo
	mode    tpm2.CipherModeOrNull
	iv      tpm2.IV
}

type encryptDecryptIn struct{ cipherIn }

// Walk visits the parameters.
func (p *encryptDecryptIn) Walk(c *tpm2.Codec) {
	c.Param(&p.decrypt)
	c.Param(&p.mode)
	c.Param(&p.iv)
	c.Param(&p.data)
}

type encryptDecrypt2In struct{ cipherIn }

// Walk visits the parameters.
func (p *encryptDecrypt2In) Walk(c *tpm2.Codec) {
	c.Param(&p.data)
	c.Param(&p.decrypt)
	c.Param(&p.mode)
	c.Param(&p.iv)
}

type cipherOut struct {
	data tpm2.MaxBuffer
	iv   tpm2.IV
}

// Walk visits the parameters.
func (p *cipherOut) Walk(c *tpm2.Codec) { c.Param(&p.data); c.Param(&p.iv) }

// encryptDecrypt is TPM2_EncryptDecrypt (Part 3, 15.2).
func (e *Engine) encryptDecrypt(c *call, in *encryptDecryptIn, out *cipherOut) tpm2.RC {
	return runCipher(c.objects[0], &in.cipherIn, out, cipherParams{mode: 2, iv: 3, data: 4})
}

// encryptDecrypt2 is TPM2_EncryptDecrypt2 (Part 3, 15.3): the same with the
// data first, so that a session can encrypt it.
func (e *Engine) encryptDecrypt2(c *call, in *encryptDecrypt2In, out *cipherOut) tpm2.RC {
	return runCipher(c.objects[0], &in.cipherIn, out, cipherParams{mode: 3, iv: 4, data: 1})
}

// cipherParams are the numbers of the parameters to blame.
type cipherParams struct{ mode, iv, data int }

// runCipher encrypts or decrypts with an unrestricted symmetric key.
func runCipher(key *object.Object, in *cipherIn, out *cipherOut, blame cipherParams) tpm2.RC {
	need := tpm2.ObjSign
	if in.decrypt {
		need = tpm2.ObjDecrypt
	}
	switch {
	case !hasType(key, tpm2.AlgSymCipher):
		return tpm2.RCKey.H(1)
	case key.Is(tpm2.ObjRestricted) || !key.Is(need):
		return tpm2.RCAttributes.H(1)
	}
	sym := &key.Public.Symmetric
	mode, wanted := sym.Mode, tpm2.AlgID(in.mode)
	switch {
	case mode == tpm2.AlgCMAC:
		return tpm2.RCMode.H(1)
	case mode == tpm2.AlgNull && wanted == tpm2.AlgNull:
		return tpm2.RCMode.P(blame.mode)
	case mode == tpm2.AlgNull:
		mode = wanted
	case wanted != tpm2.AlgNull && wanted != mode:
		return tpm2.RCMode.P(blame.mode)
	}
	block := crypt.CipherBlockSize(sym.Alg)
	ivSize := block
	if mode == tpm2.AlgECB {
		ivSize = 0
	}
	switch {
	case len(in.iv) != ivSize:
		return tpm2.RCSize.P(blame.iv)
	case (mode == tpm2.AlgCBC || mode == tpm2.AlgECB) && len(in.data)%block != 0:
		return tpm2.RCSize.P(blame.data)
	}
	out.data, out.iv = bytes.Clone(in.data), bytes.Clone(in.iv)
	if in.decrypt {
		return crypt.Decrypt(sym.Alg, key.Sensitive.Sensitive, mode, out.iv, out.data)
	}
	return crypt.Encrypt(sym.Alg, key.Sensitive.Sensitive, mode, out.iv, out.data)
}

type hashIn struct {
	data      tpm2.MaxBuffer
	alg       tpm2.HashID
	hierarchy tpm2.Hierarchy
}

// Walk visits the parameters.
func (p *hashIn) Walk(c *tpm2.Codec) { c.Param(&p.data); c.Param(&p.alg); c.Param(&p.hierarchy) }

// digestOut is a digest with the ticket that says the TPM computed it.
type digestOut struct {
	digest     tpm2.Digest
	validation tpm2.HashCheckTicket
}

// Walk visits the parameters.
func (p *digestOut) Walk(c *tpm2.Codec) { c.Param(&p.digest); c.Param(&p.validation) }

// hash is TPM2_Hash (Part 3, 15.4).
func (e *Engine) hash(_ *call, in *hashIn, out *digestOut) tpm2.RC {
	alg := tpm2.AlgID(in.alg)
	out.digest = alg.Digest(in.data)
	// Data too short to begin like an attestation is safe here, where it is all
	// there is. In a sequence more could follow.
	safe := len(in.data) < 4 || ticketIsSafe(in.data)
	out.validation = e.digestTicket(in.hierarchy, safe, alg, out.digest)
	return tpm2.RCSuccess
}

// digestTicket is the ticket for a digest, if one was asked for and may be
// given.
func (e *Engine) digestTicket(h tpm2.Hierarchy, safe bool, alg tpm2.AlgID, digest tpm2.Digest) tpm2.HashCheckTicket {
	if tpm2.Handle(h) == tpm2.RHNull || !safe {
		return tpm2.HashCheckTicket(nullTicket(tpm2.STHashCheck))
	}
	return e.hashCheckTicket(tpm2.Handle(h), alg, digest)
}

// macScheme is a TPMI_ALG_MAC_SCHEME+: the hash algorithm of an HMAC, or CMAC.
type macScheme tpm2.AlgID

// Walk visits the identifier; one that is not implemented is TPM_RC_SYMMETRIC,
// as the type includes ciphers.
func (m *macScheme) Walk(c *tpm2.Codec) {
	alg := (*tpm2.AlgID)(m)
	c.U16((*uint16)(alg))
	if !c.Decoding() || c.RC() != tpm2.RCSuccess || *alg == tpm2.AlgNull {
		return
	}
	impl := c.Accepts()
	cmac := *alg == tpm2.AlgCMAC && slices.Contains(impl.SymModes, tpm2.AlgCMAC)
	if !cmac && !slices.Contains(impl.Hashes, *alg) {
		c.Fail(tpm2.RCSymmetric)
	}
}

type hmacIn struct {
	buffer tpm2.MaxBuffer
	scheme macScheme
}

// Walk visits the parameters.
func (p *hmacIn) Walk(c *tpm2.Codec) { c.Param(&p.buffer); c.Param(&p.scheme) }

type hmacOut struct{ hmac tpm2.Digest }

// Walk visits the parameters.
func (p *hmacOut) Walk(c *tpm2.Codec) { c.Param(&p.hmac) }

// hmac is TPM2_HMAC (Part 3, 15.5), with the checks of TPM2_MAC (15.6), which
// has the same code.
func (e *Engine) hmac(c *call, in *hmacIn, out *hmacOut) tpm2.RC {
	key := c.objects[0]
	alg, rc := selectMAC(key, in.scheme)
	if rc == tpm2.RCSuccess {
		rc = e.mayMAC(alg)
	}
	if rc != tpm2.RCSuccess {
		return rc
	}
	if alg != tpm2.AlgCMAC {
		out.hmac = crypt.HMAC(alg, key.Sensitive.Sensitive, in.buffer)
		return tpm2.RCSuccess
	}
	mac, rc := crypt.NewCMAC(key.Public.Symmetric.Alg, key.Sensitive.Sensitive)
	if rc != tpm2.RCSuccess {
		return rc
	}
	mac.Update(in.buffer)
	out.hmac = mac.Sum()
	return tpm2.RCSuccess
}

// selectMAC gives what a key makes MACs with, a hash algorithm or CMAC
// (CryptSelectMac). The scheme is the second parameter in both commands that
// have one.
func selectMAC(key *object.Object, scheme macScheme) (tpm2.AlgID, tpm2.RC) {
	own := tpm2.AlgNull
	switch {
	case hasType(key, tpm2.AlgKeyedHash):
		if s := &key.Public.Scheme; s.Alg != tpm2.AlgNull {
			own = s.Hash
		}
	case hasType(key, tpm2.AlgSymCipher):
		own = key.Public.Symmetric.Mode
	default:
		return 0, tpm2.RCType.H(1)
	}
	alg := tpm2.AlgID(scheme)
	switch {
	case alg == tpm2.AlgNull && own == tpm2.AlgNull:
		return 0, tpm2.RCValue.P(2)
	case alg == tpm2.AlgNull:
		alg = own
	case own != tpm2.AlgNull && own != alg:
		return 0, tpm2.RCValue.P(2)
	}
	_, hashes := alg.Hash()
	switch cipher := key.Public.Type == tpm2.AlgSymCipher; {
	case cipher && alg != tpm2.AlgCMAC, !cipher && !hashes:
		return 0, tpm2.RCScheme.P(2)
	case key.Is(tpm2.ObjRestricted):
		return 0, tpm2.RCAttributes.H(1)
	case !key.Is(tpm2.ObjSign):
		return 0, tpm2.RCKey.H(1)
	}
	return alg, tpm2.RCSuccess
}
