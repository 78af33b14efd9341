package tpm

import (
	"errors"
	"fmt"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/blob"
	"github.com/ashlar-cloud/ashlar/tpm/internal/hierarchy"
	"github.com/ashlar-cloud/ashlar/tpm/internal/lockout"
	"github.com/ashlar-cloud/ashlar/tpm/internal/pcr"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm/internal/timing"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// section is one part of the saved state: a subsystem's, of one kind.
type section struct {
	tag     uint32
	version uint16 // as this program writes it, and the newest that it reads
	kind    sectionKind
	walk    func(e *Engine, c *tpm2.Codec)
}

// sectionKind says when a section is saved.
type sectionKind uint8

const (
	permanentKind sectionKind = iota // always
	stateKind                        // after Shutdown(STATE), and in a suspended instance
	volatileKind                     // in a suspended instance only
	pairKind                         // the same; says what it belongs to, and is read first
)

// sections lists the saved state; order is the order of reading, in which a
// section may rely on those before it. Tags are for ever.
var sections = []section{
	{0x0101, 1, permanentKind, func(e *Engine, c *tpm2.Codec) { e.state.hierarchies.WalkPermanent(c) }},
	{0x0102, 1, permanentKind, func(e *Engine, c *tpm2.Codec) { e.state.lockout.WalkPermanent(c) }},
	{0x0103, 1, permanentKind, func(e *Engine, c *tpm2.Codec) { e.state.timing.WalkPermanent(c) }},
	{0x0104, 1, permanentKind, func(e *Engine, c *tpm2.Codec) { e.state.pcrs.WalkPermanent(c) }},
	{0x0105, 1, permanentKind, func(e *Engine, c *tpm2.Codec) { e.state.nv.WalkPermanent(c) }},
	{0x0106, 1, permanentKind, func(e *Engine, c *tpm2.Codec) { e.state.objects.WalkPermanent(c) }},
	{0x0107, 1, permanentKind, (*Engine).walkPermanent},
	{0x0108, 1, permanentKind, func(e *Engine, c *tpm2.Codec) { e.state.audit.WalkPermanent(c) }},
	{0x0109, 1, permanentKind, (*Engine).walkPresence},

	{0x0201, 1, stateKind, func(e *Engine, c *tpm2.Codec) { e.state.hierarchies.WalkState(c) }},
	{0x0202, 1, stateKind, func(e *Engine, c *tpm2.Codec) { e.state.timing.WalkState(c) }},
	{0x0203, 1, stateKind, func(e *Engine, c *tpm2.Codec) { e.state.pcrs.WalkState(c) }},
	{0x0205, 1, stateKind, func(e *Engine, c *tpm2.Codec) { e.state.sessions.WalkState(c) }},
	{0x0206, 1, stateKind, (*Engine).walkState},
	{0x0207, 1, stateKind, func(e *Engine, c *tpm2.Codec) { e.state.audit.WalkState(c) }},
	{0x0208, 1, stateKind, func(e *Engine, c *tpm2.Codec) { e.state.countdowns.WalkState(c) }},
	{0x0209, 1, stateKind, func(e *Engine, c *tpm2.Codec) { e.state.commitments.Walk(c) }},

	{0x0300, 1, pairKind, (*Engine).walkPair},
	{0x0301, 1, volatileKind, func(e *Engine, c *tpm2.Codec) { e.state.lockout.WalkVolatile(c) }},
	{0x0302, 1, volatileKind, func(e *Engine, c *tpm2.Codec) { e.state.timing.WalkVolatile(c) }},
	{0x0303, 1, volatileKind, func(e *Engine, c *tpm2.Codec) { e.state.pcrs.WalkVolatile(c) }},
	{0x0304, 1, volatileKind, func(e *Engine, c *tpm2.Codec) { e.state.sessions.WalkVolatile(c) }},
	{0x0305, 1, volatileKind, func(e *Engine, c *tpm2.Codec) { e.state.objects.WalkVolatile(c) }},
	{0x0306, 1, volatileKind, (*Engine).walkVolatile},
	{0x0307, 1, volatileKind, func(e *Engine, c *tpm2.Codec) { e.state.nv.WalkVolatile(c) }},
	{0x0308, 1, volatileKind, func(e *Engine, c *tpm2.Codec) { e.state.countdowns.WalkVolatile(c) }},
}

// walkPermanent visits the engine's own permanent state.
func (e *Engine) walkPermanent(c *tpm2.Codec) {
	c.U8((*uint8)(&e.state.orderly))
	if e.state.orderly > shutdownState {
		c.Fail(tpm2.RCValue)
	}
	c.Bool(&e.state.established)
	e.walkObjectCount(c)
	c.U64(&e.state.resets)
	c.U64(&e.state.generation)
	c.U32(&e.state.algorithmSet)
	c.U64(&e.state.firmware)
	c.U32(&e.state.lineage.reverts)
	c.U32(&e.state.lineage.highest)
}

// walkObjectCount visits how many contexts of objects were saved.
func (e *Engine) walkObjectCount(c *tpm2.Codec) {
	c.U64(&e.state.objectCount)
	if e.state.objectCount > session.MaxNext {
		c.Fail(tpm2.RCValue)
	}
}

// walkPresence visits the commands that need physical presence.
func (e *Engine) walkPresence(c *tpm2.Codec) {
	e.state.ppCommands.Walk(c)
	if e.state.ppCommands.has(tpm2.CCPPCommands) {
		c.Fail(tpm2.RCValue)
	}
}

// walkState visits the engine's own part of what Shutdown(STATE) saves.
func (e *Engine) walkState(c *tpm2.Codec) {
	c.U32(&e.state.clears)
	c.Bool(&e.state.readOnly)
	c.Bool(&e.state.foreign)
	e.requireNull(c, e.state.orderly == shutdownState)
}

// requireNull refuses a state after Startup without the secrets of the null
// hierarchy.
func (e *Engine) requireNull(c *tpm2.Codec, started bool) {
	if c.Decoding() && started && len(e.state.hierarchies.Null.Proof) == 0 {
		c.Fail(tpm2.RCValue)
	}
}

// moment says which permanent state a volatile one belongs to, and up to what
// time of day Time and Clock have counted.
type moment struct {
	generation uint64
	wall       uint64 // milliseconds since 1970
	reverts    uint32 // as of the lineage: where it has fewer, it came with one that was reverted to
}

// walkPair visits what Resume reads before all else.
func (e *Engine) walkPair(c *tpm2.Codec) {
	clock := e.cfg.Clock
	counted := clock.Wall().Add(-e.state.timing.Since(clock.Now()))
	p := moment{e.state.generation, uint64(counted.UnixMilli()), e.state.lineage.reverts}
	c.U64(&p.generation)
	c.U64(&p.wall)
	c.U32(&p.reverts)
	if c.Decoding() {
		e.suspended = p
	}
}

// walkVolatile visits the engine's own part of a suspended instance. What of
// the permanent state changes without a Commit is here again.
func (e *Engine) walkVolatile(c *tpm2.Codec) {
	c.Bool(&e.state.established)
	e.walkObjectCount(c)
	c.Bool(&e.state.started)
	e.requireNull(c, e.state.started)
	c.Bool(&e.state.wasOrderly)
	c.Bool(&e.state.hcrtm)
	c.U32(&e.buffer)
	c.Bool(&e.failed)
	e.state.test.Walk(c)
	walkHashSequence(c, &e.state.event)
}

// encode writes the first sections given and those of the kinds that keep is
// true for, about size bytes.
func (e *Engine) encode(first []blob.Section, keep func(sectionKind) bool, size int) []byte {
	w := blob.NewWriter(e.instance, [16]byte{}, size)
	for _, s := range first {
		w.Write(s)
	}
	for _, s := range sections {
		if keep(s.kind) {
			w.Append(blob.Section{Tag: s.tag, Version: s.version, MinVersion: 1}, func(b []byte) []byte { return s.append(e, b) })
		}
	}
	return w.Bytes()
}

// append encodes a section.
func (s *section) append(e *Engine, b []byte) []byte {
	enc := tpm2.NewEncoder(b)
	s.walk(e, &enc)
	if rc := enc.RC(); rc != tpm2.RCSuccess {
		panic(fmt.Sprintf("cannot encode state section 0x%04x: %v", s.tag, rc))
	}
	return enc.Output()
}

// ErrBound says that a state may be resumed by one instance alone, which a
// migration has named in it: this version does not migrate.
var ErrBound = errors.New("the state is bound to another instance by a migration: give it to that one")

// openState decodes an envelope, and checks that this program may read it and
// knows all that is in it.
func openState(b []byte) (*blob.Envelope, error) {
	env, err := blob.Decode(b)
	if err != nil {
		return nil, err
	}
	if env.Target != [16]byte{} {
		return nil, ErrBound
	}
	for i := range env.Sections {
		s := &env.Sections[i]
		if env.Find(s.Tag) != s {
			return nil, fmt.Errorf("%w: section 0x%04x is there twice", blob.ErrDamaged, s.Tag)
		}
		if s.MinVersion > knownVersion(s.Tag) {
			return nil, fmt.Errorf("%w: section 0x%04x needs a reader of %d", blob.ErrVersion, s.Tag, s.MinVersion)
		}
	}
	return env, nil
}

// knownVersion is the newest version that this program reads of a section, 0
// where it does not know the section.
func knownVersion(tag uint32) uint16 {
	if tag == profileTag {
		return profileVersion
	}
	for _, s := range sections {
		if s.tag == tag {
			return s.version
		}
	}
	return 0
}

// decode reads the sections of the kinds that want is true for; all of them
// must be there.
func (e *Engine) decode(env *blob.Envelope, want func(sectionKind) bool) error {
	for _, s := range sections {
		if !want(s.kind) {
			continue
		}
		got := env.Find(s.tag)
		if got == nil {
			return fmt.Errorf("%w: section 0x%04x is missing", blob.ErrDamaged, s.tag)
		}
		if err := s.read(e, got); err != nil {
			return err
		}
	}
	return nil
}

// errDefect says that reading a state has met with a defect of this program.
var errDefect = errors.New("there is a defect in reading")

// read decodes a section. A defect in doing so is this state's error, and no
// other TPM's end.
func (s *section) read(e *Engine, from *blob.Section) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %w section 0x%04x: %v", blob.ErrDamaged, errDefect, s.tag, r)
		}
	}()
	// The state outlives the bytes it was read from. It may hold algorithms that
	// the TPM uses itself and its profile does not show, such as that of the
	// command audit.
	dec := tpm2.NewDecoderFor(append([]byte(nil), from.Data...), &engineImpl)
	s.walk(e, &dec)
	if dec.RC() != tpm2.RCSuccess || from.Version == s.version && dec.Remaining() != 0 {
		return fmt.Errorf("%w: section 0x%04x does not decode", blob.ErrDamaged, s.tag)
	}
	return nil
}

// permanent is the permanent state.
func (e *Engine) permanent() []byte {
	saved := e.state.orderly == shutdownState
	b := e.encode(e.profile.section(), func(k sectionKind) bool { return k == permanentKind || saved && k == stateKind }, e.size+sizeRoom)
	e.size = len(b)
	return b
}

// By how many bytes a permanent state may grow until the next takes another piece of
// memory, and about what the other one has.
const (
	sizeRoom     = 1 << 10
	sizeVolatile = 8 << 10
)

// Permanent is the permanent state: what New makes the same TPM from. It is nil
// where a defect keeps it from being saved: the TPM is in failure mode then.
func (e *Engine) Permanent() []byte { return e.save(e.permanent) }

// SaveVolatile is the running state besides the permanent one: what Resume
// goes on from. Taking it changes nothing. It is nil as Permanent is.
func (e *Engine) SaveVolatile() []byte {
	return e.save(func() []byte {
		return e.encode(nil, func(k sectionKind) bool { return k != permanentKind }, sizeVolatile)
	})
}

// save encodes outside of a command.
func (e *Engine) save(encode func() []byte) (b []byte) {
	defer func() {
		if r := recover(); r != nil {
			e.fail(nil, r)
			b = nil
		}
	}()
	return encode()
}

// ErrNoState says that there are no bytes to make a TPM from.
var ErrNoState = errors.New("tpm: there is no state: make one with Manufacture")

func newEngine(cfg Config) (*Engine, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, profile: nullProfile, buffer: DefaultBufferSize}
	if cfg.BufferSize != 0 {
		e.buffer = cfg.BufferSize
	}
	return e, nil
}

// Options choose what a new TPM is like.
type Options struct {
	// Seeds and proofs of the owner, endorsement and platform hierarchies, 64
	// bytes each; drawn from Config.Entropy where nil. To give a TPM the keys of
	// another one.
	Seeds *Seeds
	// Banks are the PCR banks to allocate; all that the profile has where empty.
	Banks []tpm2.AlgID
	// Profile is what the TPM shows, for ever; null where nil.
	Profile *Profile
}

// Seeds are the secrets that all primary keys of a TPM derive from.
type Seeds struct {
	Owner, Endorsement, Platform                [hierarchy.SeedSize]byte
	OwnerProof, EndorsementProof, PlatformProof [hierarchy.ProofSize]byte
}

// Manufacture makes the permanent state of a new TPM.
func Manufacture(cfg Config, opt Options) ([]byte, error) {
	e, err := newEngine(cfg)
	if err != nil {
		return nil, err
	}
	if opt.Profile != nil {
		e.setProfile(opt.Profile)
	}
	if e.state.hierarchies, err = hierarchy.Manufacture(e.cfg.Entropy); err != nil {
		return nil, fmt.Errorf("tpm: the random generator failed: %w", err)
	}
	if s := opt.Seeds; s != nil {
		h := &e.state.hierarchies
		h.Owner.Seed, h.Owner.Proof = s.Owner[:], s.OwnerProof[:]
		h.Endorsement.Seed, h.Endorsement.Proof = s.Endorsement[:], s.EndorsementProof[:]
		h.Platform.Seed, h.Platform.Proof = s.Platform[:], s.PlatformProof[:]
	}
	e.state.lockout = lockout.Manufacture()
	e.state.timing = timing.Manufacture()
	e.state.sessions = session.New()
	e.state.audit = newCommandAudit()
	e.state.firmware = FirmwareVersion
	banks, err := e.profile.banks(opt.Banks)
	if err != nil {
		return nil, fmt.Errorf("tpm: %w", err)
	}
	if e.state.pcrs, err = pcr.Manufacture(banks); err != nil {
		return nil, fmt.Errorf("tpm: %w", err)
	}
	copy(e.instance[:], e.random(len(e.instance)))
	e.state.orderly = shutdownClear // a new TPM was shut down in good order
	return e.permanent(), nil
}

// New powers a TPM on from its permanent state (_TPM_Init). The error of a
// state that is cut, altered or too new says which.
func New(cfg Config, permanent []byte) (*Engine, error) {
	e, err := load(cfg, permanent)
	if err == nil {
		e.powerOn()
	}
	return e, err
}

// powerOn is _TPM_Init.
func (e *Engine) powerOn() {
	e.state.timing.PowerOn(e.cfg.Clock.Now())
	e.state.pcrs.PowerOn()
}

// load makes an engine of a permanent state, as it was.
func load(cfg Config, permanent []byte) (*Engine, error) {
	e, err := newEngine(cfg)
	if err != nil {
		return nil, err
	}
	if len(permanent) == 0 {
		return nil, ErrNoState
	}
	env, err := openState(permanent)
	if err != nil {
		return nil, err
	}
	e.instance, e.size = env.Instance, len(permanent)
	e.state.sessions = session.New()
	p, err := savedProfile(env)
	if err != nil {
		return nil, err
	}
	e.setProfile(p)
	if err := e.decode(env, func(k sectionKind) bool { return k == permanentKind }); err != nil {
		return nil, err
	}
	if e.state.orderly == shutdownState {
		if err := e.decode(env, func(k sectionKind) bool { return k == stateKind }); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// ErrNotAPair says that a volatile state does not belong to the permanent one:
// the TPM has gone on since one of them was taken.
var ErrNotAPair = errors.New("the volatile state is of another moment than the permanent one: " + together)

// together is what to do about two states that are no pair.
const together = "give the two that were saved together, or start from the permanent one alone"

// Resume goes on where SaveVolatile was taken from a TPM with this permanent
// state. Time and Clock advance by the time of day that has passed since.
func Resume(cfg Config, permanent, volatile []byte) (*Engine, error) {
	e, err := New(cfg, permanent)
	if err != nil {
		return nil, err
	}
	env, err := openState(volatile)
	if err != nil {
		return nil, fmt.Errorf("the volatile state: %w", err)
	}
	if env.Instance != e.instance {
		return nil, errNotTogether
	}
	if err := e.decode(env, func(k sectionKind) bool { return k == pairKind }); err != nil {
		return nil, fmt.Errorf("the volatile state: %w", err)
	}
	if e.suspended.generation != e.state.generation || e.suspended.reverts > e.state.lineage.reverts {
		return nil, ErrNotAPair
	}
	shown := e.state.timing.Clock
	if err := e.decode(env, func(k sectionKind) bool { return k == stateKind || k == volatileKind }); err != nil {
		return nil, fmt.Errorf("the volatile state: %w", err)
	}
	if e.buffer < MinBufferSize || e.buffer > DefaultBufferSize {
		return nil, fmt.Errorf("the volatile state: %w: its buffer has %d bytes", blob.ErrDamaged, e.buffer)
	}
	e.state.timing.Resume(cfg.Clock.Now(), cfg.Clock.Wall().Sub(time.UnixMilli(int64(e.suspended.wall))))
	if e.suspended.reverts < e.state.lineage.reverts {
		e.goBack(shown)
	}
	return e, nil
}
