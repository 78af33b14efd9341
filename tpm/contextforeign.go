package tpm

import (
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/libtpms"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// A context that libtpms has saved has the same form, but the key of the HMAC is
// the hierarchy's proof itself, and encrypted is the sequence number, as a PC has
// it in memory, and the object or session in libtpms' form (Context_spt.c). The
// guest of a TPM that was taken over may hold such contexts until the next TPM
// Reset, which ends them.

// openForeign gives what is in a context of libtpms, decrypted, or false where it
// is none that this TPM may load.
func (e *Engine) openForeign(x *tpm2.Context) ([]byte, bool) {
	mac, sealed, rc := contextParts(x)
	if !e.state.foreign || rc != tpm2.RCSuccess {
		return nil, false
	}
	proof := e.state.hierarchies.Proof(tpm2.Handle(x.Hierarchy))
	bound := binary.BigEndian.AppendUint64(nil, e.state.resets)
	if x.SavedHandle == savedSTClear {
		bound = binary.BigEndian.AppendUint32(bound, e.state.clears)
	}
	bound = binary.BigEndian.AppendUint64(bound, x.Sequence)
	bound = binary.BigEndian.AppendUint32(bound, uint32(x.SavedHandle))
	if !crypt.Equal(crypt.HMAC(contextHash, proof, bound, sealed), mac) {
		return nil, false
	}
	sequence := binary.LittleEndian.AppendUint64(nil, x.Sequence)
	handle := binary.LittleEndian.AppendUint32(nil, uint32(x.SavedHandle))
	keys := crypt.KDFa(contextHash, proof, crypt.LabelContext, sequence, handle, 8*(contextKeySize+crypt.BlockSize))
	defer clear(keys)
	data := append([]byte(nil), sealed...)
	rc = crypt.Decrypt(contextCipher, keys[:contextKeySize], tpm2.AlgCFB, keys[contextKeySize:], data)
	if rc != tpm2.RCSuccess || string(data[:8]) != string(sequence) {
		return nil, false
	}
	return data[8:], true
}

// foreignObject is the object or sequence in a context of libtpms, or nil.
func (e *Engine) foreignObject(x *tpm2.Context) *object.Object {
	data, ok := e.openForeign(x)
	if !ok {
		return nil
	}
	defer clear(data)
	from, err := libtpms.DecodeObject(data)
	if err != nil || !from.Flags.Has(libtpms.ObjectOccupied) {
		return nil
	}
	im := importer{e: e}
	o := im.object("the object", from)
	if im.result() != nil {
		return nil
	}
	return o
}

// foreignSession is the session in a context of libtpms, and false where there
// is none.
func (e *Engine) foreignSession(x *tpm2.Context) (sess session.Session, ok bool) {
	data, ok := e.openForeign(x)
	if !ok {
		return sess, false
	}
	defer clear(data)
	from, err := libtpms.DecodeSession(data)
	if err != nil {
		return sess, false
	}
	im := importer{e: e}
	sess = im.session(x.SavedHandle.Index(), from)
	return sess, im.result() == nil && sess.Handle == x.SavedHandle
}
