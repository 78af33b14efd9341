package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/nv"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// role is what the authorization of a handle must allow (Part 1, 19.2).
type role uint8

const (
	authNone  role = iota
	authUser       // the authValue or the policy
	authAdmin      // the policy, or the authValue where the object allows it
	authDup        // the policy with the command code
)

// handle is one handle of a command.
type handle struct {
	name string
	kind handleKind
	role role
}

// command is the declaration of a command.
type command struct {
	cc      tpm2.CC
	handles []handle
	// retHandle: the response has a handle.
	retHandle bool
	// noSessions: the command takes no sessions at all.
	noSessions bool
	// attrs are the attributes nv, extensive and flushed of TPMA_CC; the rest
	// of it derives from the declaration.
	attrs tpm2.CCAttributes
	// write: for a role at an NV Index, the command writes it (IsWriteOperation).
	write bool
	// readOnly: the command changes nothing that Shutdown(STATE) saves.
	readOnly bool
	// pp: PP_Commands may ask for physical presence where the platform authorizes
	// the command.
	pp bool
	// slow: the command may search for primes, so an event loop should run it
	// elsewhere.
	slow bool
	// padded: bytes after the parameters are ignored where the parameter area is
	// exactly as long as the largest context, for Windows Server 2016 and 2019
	// pad ContextLoad's to that.
	padded bool

	// Derived by define:
	decrypt, encrypt bool // the first parameter, of command and response, can be encrypted
	run              func(*Engine, *call) tpm2.RC
	newParams        func() tpm2.Walker // an empty parameter structure
}

// walkPtr reaches the Walk of a pointer to T.
type walkPtr[T any] interface {
	*T
	tpm2.Walker
}

// define completes a command's declaration with its handler, which validates
// and computes; in holds the parameters, and what is put in out is the
// response.
func define[I, O any, PI walkPtr[I], PO walkPtr[O]](d command, handler func(e *Engine, c *call, in *I, out *O) tpm2.RC) command {
	d.decrypt = tpm2.StartsSized(PI(new(I)))
	d.encrypt = tpm2.StartsSized(PO(new(O)))
	d.newParams = func() tpm2.Walker { return PI(new(I)) }
	d.run = func(e *Engine, c *call) tpm2.RC {
		var m struct { // one piece of memory
			codec tpm2.Codec
			in    I
			out   O
		}
		m.codec = tpm2.NewDecoderFor(c.params, &e.profile.impl)
		PI(&m.in).Walk(&m.codec)
		if rc := m.codec.RC(); rc != tpm2.RCSuccess {
			return rc
		}
		if m.codec.Remaining() != 0 && !(d.padded && len(c.params) == object.MaxContext) {
			return tpm2.RCSize
		}
		if rc := e.mayRun(d.cc); rc != tpm2.RCSuccess {
			return rc
		}
		if rc := handler(e, c, &m.in, &m.out); rc != tpm2.RCSuccess {
			return rc
		}
		m.codec = tpm2.NewEncoder(c.response)
		PO(&m.out).Walk(&m.codec)
		if rc := m.codec.RC(); rc != tpm2.RCSuccess {
			panic("cannot encode the response: " + rc.Error())
		}
		c.response = m.codec.Output()
		return tpm2.RCSuccess
	}
	return d
}

// attributes is the command's TPMA_CC.
func (d *command) attributes() tpm2.CCAttributes {
	a := tpm2.CCAttributes(d.cc) | d.attrs | tpm2.CCAttributes(len(d.handles))<<25
	if d.retHandle {
		a |= tpm2.CCAttrRHandle
	}
	return a
}

// none is the parameters of a command that has none.
type none struct{}

// Walk visits nothing.
func (*none) Walk(*tpm2.Codec) {}

// call is one execution of a command.
type call struct {
	cmd     *command
	req     Request
	tag     tpm2.ST
	handles [maxHandles]tpm2.Handle
	objects [maxHandles]*object.Object // what a transient or persistent handle refers to
	indices [maxHandles]*nv.Index      // what an NV handle refers to
	copies  [maxHandles]tpm2.Handle    // the slots that persistent objects take meanwhile
	body    []byte                     // the command behind its header, a copy
	params  []byte                     // the parameter area of body, decrypted in place
	auth    authArea
	cpHash  [hashAlgs][]byte // computed when first needed

	// response is being built: header, handle, parameterSize and parameters.
	response []byte
	handle   tpm2.Handle // of the response
	// flush, if not 0, is a sequence that the command has completed: it goes
	// when its authorization has gone into the response.
	flush tpm2.Handle
	// audited: the log of the commands audited gets an entry.
	audited bool
	// endsShutdown: the command, if it succeeds, makes a power loss disorderly
	// again; with evenFailed, if it fails too.
	endsShutdown, evenFailed bool
	// dirty: the permanent state has changed and must be durable before the
	// response leaves.
	dirty bool
}

const (
	maxHandles = 3
	hashAlgs   = 4
)

// persist says that the command has changed the permanent state.
func (c *call) persist() { c.dirty = true }

// canceled reports whether the host has asked to stop the command.
func (c *call) canceled() bool {
	select {
	case <-c.req.Cancel:
		return true
	default:
		return false
	}
}
