package tpm

import (
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// A ticket lets the TPM recognize later what it has found out before, without
// remembering it: an HMAC with the proof of a hierarchy as key, which is good
// until the hierarchy's proof changes (Part 2, 10.7). Compare one that comes
// back with ticketMatches.

// ticketHash is the HMAC's hash algorithm (CONTEXT_INTEGRITY_HASH_ALG).
const ticketHash = tpm2.AlgSHA512

// ticket computes a ticket's HMAC over its tag and the parts.
func (e *Engine) ticket(tag tpm2.ST, hierarchy tpm2.Handle, parts ...[]byte) tpm2.Ticket {
	mac := crypt.NewHMAC(ticketHash, e.state.hierarchies.Proof(hierarchy))
	mac.Write(binary.BigEndian.AppendUint16(nil, uint16(tag)))
	for _, p := range parts {
		mac.Write(p)
	}
	return tpm2.Ticket{Tag: tag, Hierarchy: tpm2.Hierarchy(hierarchy), Digest: mac.Sum(nil)}
}

// nullTicket is a ticket that proves nothing, for where there is nothing to
// prove or it must not be proven.
func nullTicket(tag tpm2.ST) tpm2.Ticket {
	return tpm2.Ticket{Tag: tag, Hierarchy: tpm2.Hierarchy(tpm2.RHNull)}
}

// ticketMatches compares the ticket that should be with the digest of the one
// that came, in constant time.
func ticketMatches(want tpm2.Ticket, got tpm2.Digest) bool {
	return crypt.Equal(want.Digest, got)
}

// creationTicket binds creation data, by its digest, to the Name of the object
// that was created with it (TPMT_TK_CREATION).
func (e *Engine) creationTicket(hierarchy tpm2.Handle, name tpm2.Name, digest tpm2.Digest) tpm2.CreationTicket {
	return tpm2.CreationTicket(e.ticket(tpm2.STCreation, hierarchy, name, digest))
}

// verifiedTicket says that the key of a Name has signed the digest
// (TPMT_TK_VERIFIED).
func (e *Engine) verifiedTicket(hierarchy tpm2.Handle, digest tpm2.Digest, keyName tpm2.Name) tpm2.VerifiedTicket {
	return tpm2.VerifiedTicket(e.ticket(tpm2.STVerified, hierarchy, digest, keyName))
}

// hashCheckTicket says that the TPM has computed the digest itself, of data
// which does not pretend to be the TPM's own (TPMT_TK_HASHCHECK).
func (e *Engine) hashCheckTicket(hierarchy tpm2.Handle, alg tpm2.AlgID, digest tpm2.Digest) tpm2.HashCheckTicket {
	return tpm2.HashCheckTicket(e.ticket(tpm2.STHashCheck, hierarchy,
		binary.BigEndian.AppendUint16(nil, uint16(alg)), digest))
}

// authTicket says that a policy was authorized until timeout, in milliseconds
// of Time with 0 for no end, by the entity of a Name (TPMT_TK_AUTH). tag is
// STAuthSigned or STAuthSecret; onReset lets the ticket end at the next TPM
// Reset besides.
func (e *Engine) authTicket(tag tpm2.ST, hierarchy tpm2.Handle, timeout uint64, onReset bool,
	cpHash, policyRef tpm2.Digest, entityName tpm2.Name) tpm2.AuthTicket {
	var b [20]byte
	binary.BigEndian.PutUint64(b[:], timeout)
	n := 8
	if timeout != 0 {
		binary.BigEndian.PutUint32(b[n:], e.state.timing.Epoch)
		n += 4
		if onReset {
			binary.BigEndian.PutUint64(b[n:], e.state.resets)
			n += 8
		}
	}
	return tpm2.AuthTicket(e.ticket(tag, hierarchy, cpHash, policyRef, entityName, b[:n]))
}

// ticketIsSafe reports whether a hash-check ticket may be given for data that
// begins with these bytes: not if they could be those of an attestation, which
// only the TPM may make (TicketIsSafe).
func ticketIsSafe(data []byte) bool {
	return len(data) >= 4 && binary.BigEndian.Uint32(data) != tpm2.GeneratedValue
}
