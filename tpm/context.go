package tpm

import (
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// A saved context is an HMAC, as a TPM2B_DIGEST, and the object or session,
// encrypted (Part 1, 30.3; Part 2, 14.4). Both keys derive from the proof of the context's hierarchy,
// so that changing the proof ends every context of the hierarchy; the HMAC
// covers the number of TPM Resets, which end all of them.

const (
	contextHash    = tpm2.AlgSHA512 // TPM_PT_CONTEXT_HASH
	contextMAC     = 64             // bytes, those of contextHash
	contextHead    = 2 + contextMAC // bytes
	contextLeast   = 8              // bytes of what is encrypted
	contextCipher  = tpm2.AlgAES    // TPM_PT_CONTEXT_SYM
	contextKeySize = 32             // bytes, TPM_PT_CONTEXT_SYM_SIZE

	// contextVersion is the form of what is inside, its first byte.
	contextVersion = 2
)

// sealContext puts the content into a context whose other fields are set.
func (e *Engine) sealContext(x *tpm2.Context, content tpm2.Walker) {
	enc := tpm2.NewEncoder(append(make([]byte, contextHead), contextVersion))
	content.Walk(&enc)
	if rc := enc.RC(); rc != tpm2.RCSuccess {
		panic("cannot encode a context: " + rc.Error())
	}
	x.Blob = enc.Output()
	k := e.contextKeys(x)
	defer clear(k.all)
	sealed := x.Blob[contextHead:]
	if rc := crypt.Encrypt(contextCipher, k.cipher, tpm2.AlgCFB, k.iv, sealed); rc != tpm2.RCSuccess {
		panic("cannot encrypt a context: " + rc.Error())
	}
	binary.BigEndian.PutUint16(x.Blob, contextMAC)
	copy(x.Blob[2:], e.contextIntegrity(x, k.mac, sealed))
}

// contextParts takes a context apart. Its codes are those of the reference code,
// which blames the parameter only for what it has decoded.
func contextParts(x *tpm2.Context) (mac, sealed []byte, rc tpm2.RC) {
	if len(x.Blob) < 2 {
		return nil, nil, tpm2.RCInsufficient
	}
	n := int(binary.BigEndian.Uint16(x.Blob))
	switch rest := len(x.Blob) - 2 - n; {
	case n > contextMAC:
		return nil, nil, tpm2.RCSize
	case rest < 0:
		return nil, nil, tpm2.RCInsufficient
	case n != contextMAC || rest < contextLeast:
		return nil, nil, tpm2.RCSize.P(1)
	}
	return x.Blob[2:contextHead], x.Blob[contextHead:], tpm2.RCSuccess
}

// openContext decodes a context's content: TPM_RC_SIZE or TPM_RC_INSUFFICIENT for
// one that has not the form, TPM_RC_INTEGRITY for one that is altered, that is not
// this TPM's, or that a TPM Reset, a Restart or a new proof has ended.
func (e *Engine) openContext(x *tpm2.Context, content tpm2.Walker) tpm2.RC {
	mac, sealed, rc := contextParts(x)
	if rc != tpm2.RCSuccess {
		return rc
	}
	k := e.contextKeys(x)
	defer clear(k.all)
	if !crypt.Equal(e.contextIntegrity(x, k.mac, sealed), mac) {
		return tpm2.RCIntegrity.P(1)
	}
	data := append([]byte(nil), sealed...)
	defer clear(data)
	if rc := crypt.Decrypt(contextCipher, k.cipher, tpm2.AlgCFB, k.iv, data); rc != tpm2.RCSuccess {
		panic("cannot decrypt a context: " + rc.Error())
	}
	dec := tpm2.NewDecoderFor(data[1:], &e.profile.impl)
	if content.Walk(&dec); data[0] != contextVersion || dec.RC() != tpm2.RCSuccess || dec.Remaining() != 0 {
		// It was saved by another version, before the TPM moved here.
		return tpm2.RCIntegrity.P(1)
	}
	return tpm2.RCSuccess
}

// contextKeys are the keys of one context.
type contextKeys struct{ all, cipher, iv, mac []byte }

func (e *Engine) contextKeys(x *tpm2.Context) contextKeys {
	// A power loss may turn the sequence numbers back, and is a TPM Reset, whose
	// number keeps two contexts from having one key.
	sequence := binary.BigEndian.AppendUint64(nil, x.Sequence)
	sequence = binary.BigEndian.AppendUint64(sequence, e.state.resets)
	handle := binary.BigEndian.AppendUint32(nil, uint32(x.SavedHandle))
	const n = contextKeySize + crypt.BlockSize
	all := crypt.KDFa(contextHash, e.state.hierarchies.Proof(tpm2.Handle(x.Hierarchy)), crypt.LabelContext,
		sequence, handle, 8*(n+contextMAC))
	return contextKeys{all, all[:contextKeySize], all[contextKeySize:n], all[n:]}
}

func (e *Engine) contextIntegrity(x *tpm2.Context, key, sealed []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, e.state.resets)
	if x.SavedHandle == savedSTClear {
		b = binary.BigEndian.AppendUint32(b, e.state.clears)
	}
	b = binary.BigEndian.AppendUint64(b, x.Sequence)
	b = binary.BigEndian.AppendUint32(b, uint32(x.SavedHandle))
	b = binary.BigEndian.AppendUint32(b, uint32(x.Hierarchy))
	return crypt.HMAC(contextHash, key, b, sealed)
}
