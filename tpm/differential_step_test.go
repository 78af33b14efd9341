package tpm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// step is one thing that an episode does, as it is meant: what depends on the
// TPM's nonces is put in when it is done, so that a step can be done again
// after others before it were left out.
type step struct {
	d       *command // nil: an event
	event   event
	handles []tpm2.Handle
	uses    []use
	vias    []via  // still to be expanded
	fitted  bool   // there is room for it
	plain   []byte // the parameters, not encrypted
	context int    // of ContextLoad: which of the contexts saved, from 1
	// spoiled are changes of the whole command.
	spoiled []spoil
	// locality is the locality that the command comes from.
	locality uint8
	adopt    int // whose blob goes on to be used: ours (0) or the oracle's (1)
}

// use is an entry of the authorization area.
type use struct {
	session tpm2.Handle // or RSPW
	attrs   tpm2.SessionAttributes
	nonce   []byte
	secret  []byte // a password; nil: the right one
	wrong   bool   // the HMAC, or password, is altered
	bare    bool   // no HMAC
}

// event is what the platform does besides sending commands.
type event struct {
	kind eventKind
	data []byte
}

type eventKind uint8

const (
	noEvent eventKind = iota
	powerCut
	hashMeasure // _TPM_Hash_Start, _TPM_Hash_Data, _TPM_Hash_End
	hashAborted // without _TPM_Hash_End
	resetEstablished
	pause // until Time is above two seconds
)

// spoil is a change of a command's bytes: what it does to byte at.
type spoil struct {
	kind spoilKind
	at   int // counted from the header on, and modulo what there is
	with byte
}

type spoilKind uint8

const (
	flipBits spoilKind = iota
	setByte
	cutOff
	appended
	tagged       // another tag
	wrongSize    // the header's size
	otherCommand // another command code
)

// sent is a command as it was sent, and what is needed to read the answers.
type sent struct {
	*step
	c   call
	cmd [2][]byte // ours and the oracle's; they differ only in contexts
	// key decrypts the first parameter of a response.
	key []byte
	// turned: an altered session encrypts or decrypts.
	turned bool
}

func (s *step) String() string {
	if s.d == nil {
		return fmt.Sprintf("event %d %x", s.event.kind, s.event.data)
	}
	return fmt.Sprintf("%v %x sessions %+v parameters %x context %d spoiled %v locality %d",
		s.d.cc, s.handles, s.uses, s.plain, s.context, s.spoiled, s.locality)
}

// build makes the command: it looks up sessions and authorization values in
// our engine's state, which is the oracle's too.
func (w *twin) build(s *step) *sent {
	x := &sent{step: s}
	c := &x.c
	*c = call{cmd: s.d, tag: tpm2.STNoSessions, auth: authArea{decrypt: -1, encrypt: -1, audit: -1, failed: -1}}
	for i, h := range s.handles {
		if i < maxHandles {
			c.handles[i] = h
		}
	}
	c.params = slices.Clone(s.plain)
	var area []byte
	if len(s.uses) > 0 {
		c.tag = tpm2.STSessions
		w.enter(x)
		area = w.authorize(x)
	}
	for i := range x.cmd {
		params := c.params
		if s.context > 0 && s.context <= len(w.saved) {
			params = w.contextParams(s, i)
		}
		x.cmd[i] = spoilAll(frame(s.d.cc, s.handles, area, params), s.spoiled)
	}
	if len(s.spoiled) > 0 {
		x.reread()
	}
	return x
}

// reread takes handles and parameters from the command as it was spoiled.
func (x *sent) reread() {
	s := *x.step
	x.step = &s
	s.handles = nil
	b := x.cmd[0]
	for b = b[min(len(b), headerSize):]; len(b) >= 4 && len(s.handles) < len(s.d.handles); b = b[4:] {
		s.handles = append(s.handles, tpm2.Handle(binary.BigEndian.Uint32(b)))
	}
	for i := range x.c.handles {
		x.c.handles[i] = 0
		if i < len(s.handles) {
			x.c.handles[i] = s.handles[i]
		}
	}
	if x.c.tag != tpm2.STSessions {
		s.plain = b
		return
	}
	if len(b) < 4 || int64(binary.BigEndian.Uint32(b)) > int64(len(b)-4) {
		return
	}
	n := binary.BigEndian.Uint32(b)
	area := b[4 : 4+n]
	if x.c.auth.decrypt < 0 {
		s.plain = b[4+n:]
	}
	for i := 0; i < x.c.auth.n && len(area) > 4; i++ {
		h := tpm2.Handle(binary.BigEndian.Uint32(area))
		nonce, rest, ok := cutSized(area[4:])
		if !ok || len(rest) == 0 {
			return
		}
		a := &x.c.auth.sessions[i]
		a.nonceCaller = nonce
		const ciphers = tpm2.SessionDecrypt | tpm2.SessionEncrypt
		attrs := tpm2.SessionAttributes(rest[0])
		x.turned = x.turned || (a.attrs^attrs)&ciphers != 0 || attrs&ciphers != 0 && h != a.handle
		_, area, _ = cutSized(rest[1:])
	}
}

// contextHeader is what comes before the blob: sequence number, handle, hierarchy,
// and its size.
const contextHeader = 8 + 4 + 4 + 2

// Changes of a context: its kind, a byte of where, and one of what with.
const (
	headByte = iota
	blobByte
	blobEnd
	blobCut
	sizeMore
	sizeLess
	contextChanges
)

// contextParams are those of ContextLoad in one TPM's own form, with a change
// where plain has bytes. The blobs have different sizes, so a change is of the
// form that both have.
func (w *twin) contextParams(s *step, i int) []byte {
	x := w.saved[s.context-1].context[i]
	if len(s.plain) != 3 {
		return tpm2.Marshal(&x)
	}
	x.Blob = bytes.Clone(x.Blob)
	at, with := int(s.plain[1]), s.plain[2]
	switch s.plain[0] {
	case blobByte:
		x.Blob[at] ^= with
	case blobEnd:
		x.Blob[len(x.Blob)-1-at] ^= with
	case blobCut:
		x.Blob = x.Blob[:at]
	}
	b := tpm2.Marshal(&x)
	switch size := b[contextHeader-2 : contextHeader]; s.plain[0] {
	case headByte:
		b[at%(contextHeader-2)] ^= with
	case sizeMore:
		binary.BigEndian.PutUint16(size, uint16(len(x.Blob)+1+at))
	case sizeLess:
		binary.BigEndian.PutUint16(size, uint16(len(x.Blob)-1-at))
	}
	return b
}

// enter fills the authorization area, encrypts the first parameter where a
// session decrypts it, and prepares for decrypting the answer.
func (w *twin) enter(x *sent) {
	e, c := w.e, &x.c
	for i := range x.uses {
		u := &x.uses[i]
		if i >= maxSessions {
			break
		}
		a := &c.auth.sessions[i]
		*a = authSession{handle: u.session, nonceCaller: u.nonce, attrs: u.attrs, entity: unassigned}
		if u.session != tpm2.RSPW {
			a.session = e.state.sessions.Get(u.session)
		}
		if i < len(x.d.handles) && x.d.handles[i].role != authNone && i < len(x.handles) {
			a.entity = x.handles[i]
		}
		c.auth.n++
		if a.session == nil {
			continue
		}
		s := *a.session // it may be gone when the answer comes
		a.session = &s
		a.includeAuth = a.entity != unassigned && !e.isBoundTo(&s, a.entity)
		if s.IsPolicy() {
			a.includeAuth = s.AuthValueNeeded || s.PasswordNeeded
		}
		if u.attrs.Has(tpm2.SessionDecrypt) && s.Symmetric.Alg != tpm2.AlgNull && c.auth.decrypt < 0 {
			c.auth.decrypt = i
		}
		if u.attrs.Has(tpm2.SessionEncrypt) && s.Symmetric.Alg != tpm2.AlgNull && c.auth.encrypt < 0 {
			c.auth.encrypt = i
			x.key = e.parameterKey(a)
		}
	}
	if i := c.auth.decrypt; i >= 0 && x.d.decrypt && len(c.params) >= 2 {
		a := &c.auth.sessions[i]
		if n := int(binary.BigEndian.Uint16(c.params)); n <= len(c.params)-2 {
			e.cipherParameter(a, a.nonceCaller, a.session.NonceTPM, c.params[2:2+n], crypt.EncryptParameter)
		}
	}
}

// authorize makes the authorization area.
func (w *twin) authorize(x *sent) (area []byte) {
	e, c := w.e, &x.c
	for i := range x.uses {
		u := &x.uses[i]
		area = binary.BigEndian.AppendUint32(area, uint32(u.session))
		area = append(area, buf16(u.nonce)...)
		area = append(area, byte(u.attrs))
		if i >= maxSessions {
			area = append(area, 0, 0)
			continue
		}
		a := &c.auth.sessions[i]
		secret := u.secret
		switch {
		case a.session == nil || a.session.IsPolicy() && a.session.PasswordNeeded:
			if secret == nil {
				secret = e.entityAuth(a.entity)
			}
		case u.bare:
		default:
			secret = w.hmacOf(c, i)
		}
		if secret = slices.Clone(secret); u.wrong {
			if len(secret) == 0 {
				secret = append(secret, 1)
			} else {
				secret[len(secret)-1] ^= 0x55
			}
		}
		area = append(area, buf16(secret)...)
	}
	return area
}

// hmacOf is the HMAC of a session over the command, none where it has no key.
func (w *twin) hmacOf(c *call, i int) []byte {
	a := &c.auth.sessions[i]
	key := w.e.sessionKey(a)
	if len(key) == 0 {
		return nil
	}
	nonceDecrypt, nonceEncrypt := c.auth.crossNonces(i)
	return crypt.HMAC(a.session.AuthHash, key, w.e.commandHash(c, a.session.AuthHash),
		a.nonceCaller, a.session.NonceTPM, nonceDecrypt, nonceEncrypt, []byte{byte(a.attrs)})
}

// spoilAll changes a command.
func spoilAll(cmd []byte, list []spoil) []byte {
	for _, s := range list {
		body := cmd[headerSize:]
		at := 0
		if len(body) > 0 {
			at = s.at % len(body)
		}
		switch s.kind {
		case flipBits:
			if len(body) > 0 {
				body[at] ^= s.with
			}
		case setByte:
			if len(body) > 0 {
				body[at] = s.with
			}
		case cutOff:
			cmd = cmd[:headerSize+at]
		case appended:
			cmd = append(cmd, s.with)
		case tagged:
			cmd[1] = s.with
		case otherCommand:
			cmd[9] = s.with
		}
		binary.BigEndian.PutUint32(cmd[2:], uint32(len(cmd)))
		if s.kind == wrongSize {
			cmd[5] += s.with
		}
	}
	return cmd
}

// happen does an event on both.
func (w *twin) happen(ev event) {
	w.t.Helper()
	switch ev.kind {
	case powerCut:
		w.cut()
	case pause:
		time.Sleep(2100 * time.Millisecond)
		if w.e.state.started {
			w.readClock()
		}
	case resetEstablished:
		w.e.ResetEstablished(3)
		w.o.tell(0, 0, 0, 11, 3)
	case hashMeasure, hashAborted:
		w.e.HashStart()
		w.counted = w.counted || w.e.state.orderly == shutdownState
		w.o.tell(0, 0, 0, 6)
		w.e.HashData(ev.data)
		w.o.tell(slices.Concat([]byte{0, 0, 0, 7}, u32(uint32(len(ev.data))), ev.data)...)
		if ev.kind == hashAborted {
			return
		}
		if commit := w.e.HashEnd(); commit.Pending() {
			w.durable = commit.State()
			commit.Done()
		}
		w.o.tell(0, 0, 0, 8)
	}
}
