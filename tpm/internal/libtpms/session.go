package libtpms

import (
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// SessionFlags are a session's state (SESSION_ATTRIBUTES).
type SessionFlags uint32

// The flags of a session.
const (
	SessionPolicy SessionFlags = 1 << iota
	SessionAudit
	SessionBound
	SessionCPHash
	SessionAuthValue
	SessionPassword
	SessionPhysicalPresence
	SessionTrial
	SessionDABound
	SessionLockoutBound
	SessionIncludeAuth // lasts for a command
	SessionCheckWritten
	SessionWritten
	SessionTemplate
	SessionNameHash   // since level 4; before, it is what is left
	SessionParameters // since level 4
)

// Has reports whether all flags in f are set.
func (s SessionFlags) Has(f SessionFlags) bool { return s&f == f }

// Session is an authorization session (SESSION).
type Session struct {
	Flags       SessionFlags
	PCRCounter  uint32
	StartTime   uint64 // of Time
	Timeout     uint64 // of Time; 0 for none
	Epoch       uint32
	CommandCode tpm2.CC
	AuthHash    tpm2.AlgID
	Locality    tpm2.Locality
	Symmetric   tpm2.SymDef
	SessionKey  tpm2.Digest
	NonceTPM    tpm2.Digest
	// Hash is what the session is bound to, or the hash that constrains it.
	Hash []byte
	// Digest is that of the policy or of the audit.
	Digest tpm2.Digest
}

var (
	slotMark    = mark{"SESSION_SLOT", 0x3664aebc, 2, 2, 0}
	sessionMark = mark{"SESSION", 0x44be9f45, 2, 2, 0}
)

// BoundSize is the size in bytes of what tells the entity that a session is
// bound to.
const BoundSize = 68

// walkSlot visits a slot: an occupied one has a session.
func walkSlot(w *walker, s **Session) {
	w.section(slotMark, 2, func(uint16) {
		occupied := *s != nil
		if w.Bool(&occupied); !occupied || !w.ok() {
			return
		}
		if w.Decoding() {
			*s = new(Session)
		}
		(*s).walk(w)
		w.future()
	})
}

func (s *Session) walk(w *walker) {
	w.section(sessionMark, 2, func(uint16) {
		w.U32((*uint32)(&s.Flags))
		w.U32(&s.PCRCounter)
		w.U64(&s.StartTime)
		w.U64(&s.Timeout)
		walkEpoch(w, &s.Epoch)
		w.U32((*uint32)(&s.CommandCode))
		w.U16((*uint16)(&s.AuthHash))
		s.Locality.Walk(&w.Codec)
		s.Symmetric.Walk(&w.Codec)
		s.SessionKey.Walk(&w.Codec)
		s.NonceTPM.Walk(&w.Codec)
		w.Buffer(&s.Hash, BoundSize)
		s.Digest.Walk(&w.Codec)
		w.future()
	})
}

// rawSession is the size in bytes of a session as a 64-bit machine has it in
// memory, which is how libtpms puts it into a saved context.
const rawSession = 312

// DecodeSession reads a session from a saved context. The error is ErrDamaged.
func DecodeSession(b []byte) (*Session, error) {
	if len(b) != rawSession {
		return nil, tooLong(len(b))
	}
	le := binary.LittleEndian
	w := newReader(nil)
	w.where = "a saved session"
	s := &Session{
		Flags: SessionFlags(le.Uint32(b)), PCRCounter: le.Uint32(b[4:]), StartTime: le.Uint64(b[8:]),
		Timeout: le.Uint64(b[16:]), Epoch: le.Uint32(b[24:]), CommandCode: tpm2.CC(le.Uint32(b[28:])),
		AuthHash: tpm2.AlgID(le.Uint16(b[32:])), Locality: tpm2.Locality(b[34]),
	}
	// A null algorithm leaves the other two fields of the symmetric one unset.
	s.Symmetric.Alg = tpm2.AlgID(le.Uint16(b[36:]))
	if s.Symmetric.Alg != tpm2.AlgNull {
		s.Symmetric.KeyBits = le.Uint16(b[38:])
		if s.Symmetric.Alg != tpm2.AlgXOR {
			s.Symmetric.Mode = tpm2.AlgID(le.Uint16(b[40:]))
		}
	}
	at := 42
	for _, f := range []struct {
		to   *[]byte
		size int
	}{{(*[]byte)(&s.SessionKey), 64}, {(*[]byte)(&s.NonceTPM), 64}, {&s.Hash, BoundSize}, {(*[]byte)(&s.Digest), 64}} {
		n := int(le.Uint16(b[at:]))
		if w.require(n <= f.size, "a field is longer than there is room for"); !w.ok() {
			break
		}
		*f.to = append([]byte(nil), b[at+2:at+2+n]...)
		at += 2 + f.size
	}
	return s, w.finish()
}

// DecodeObject reads an object or a sequence from a saved context. The errors
// are ErrDamaged and ErrVersion.
func DecodeObject(b []byte) (*Object, error) {
	w := newReader(b)
	o := new(Object)
	o.walk(w)
	w.require(w.Remaining() == 0, "bytes follow it")
	return o, w.finish()
}

// takeRAM reads the orderly Indices as a 64-bit little-endian machine has them
// in memory.
func takeRAM(w *walker, b []byte) (list []RAMIndex) {
	le := binary.LittleEndian
	for len(b) >= ramHeader {
		size := le.Uint32(b)
		if size == 0 {
			break
		}
		w.require(size >= ramHeader && uint64(size) <= uint64(len(b)), "an orderly Index is cut")
		if !w.ok() {
			return nil
		}
		list = append(list, RAMIndex{Handle: tpm2.Handle(le.Uint32(b[4:])), Attributes: tpm2.NVAttributes(le.Uint32(b[8:])),
			Data: append([]byte(nil), b[ramHeader:size]...)})
		b = b[size:]
	}
	return list
}

// putRAM is what takeRAM reads.
func putRAM(b []byte, list []RAMIndex) {
	le := binary.LittleEndian
	for _, x := range list {
		size := ramHeader + len(x.Data)
		if size > len(b) {
			return
		}
		le.PutUint32(b, uint32(size))
		le.PutUint32(b[4:], uint32(x.Handle))
		le.PutUint32(b[8:], uint32(x.Attributes))
		copy(b[ramHeader:], x.Data)
		b = b[size:]
	}
}
