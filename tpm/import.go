package tpm

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/ashlar-cloud/ashlar/tpm/internal/hierarchy"
	"github.com/ashlar-cloud/ashlar/tpm/internal/libtpms"
	"github.com/ashlar-cloud/ashlar/tpm/internal/nv"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm/internal/pcr"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// ErrForeign is in the chain of every error about a state of libtpms that is
// cut, altered, or no such state.
var ErrForeign = libtpms.ErrDamaged

// ErrForeignVersion is in the chain of every error about a state of a newer
// libtpms than is known.
var ErrForeignVersion = libtpms.ErrVersion

// NotCarried says what of a state the other program cannot take over, a sentence
// each. Nothing was made of the state then.
type NotCarried struct{ Things []string }

// Error lists the things.
func (n *NotCarried) Error() string {
	return "not all of the TPM's state can be taken over, so nothing was: " + strings.Join(n.Things, "; ")
}

// ImportLibtpms makes the permanent state of a TPM from that of libtpms 0.7 to
// 0.11 (what TPMLIB_GetState gives of TPMLIB_STATE_PERMANENT): the same TPM for
// its guest. The errors are ErrForeign, ErrForeignVersion, and a *NotCarried
// that lists all that is in the way.
func ImportLibtpms(cfg Config, b []byte) ([]byte, error) {
	p, err := libtpms.DecodePermanent(b)
	if err != nil {
		return nil, err
	}
	e, err := newEngine(cfg)
	if err != nil {
		return nil, err
	}
	profile, err := RestoreProfile([]byte(p.Profile))
	if err != nil {
		return nil, &NotCarried{[]string{"the profile is not one of this TPM's: " + err.Error()}}
	}
	e.setProfile(profile)
	im := importer{e: e}
	im.permanent(p)
	if err := im.result(); err != nil {
		return nil, err
	}
	copy(e.instance[:], e.random(len(e.instance)))
	permanent := e.Permanent()
	// What is taken over must be what can be started.
	if _, err := New(cfg, permanent); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return permanent, nil
}

// LibtpmsProfile is the profile of a TPM in a permanent state of libtpms.
func LibtpmsProfile(b []byte) (*Profile, error) {
	p, err := libtpms.DecodePermanent(b)
	if err != nil {
		return nil, err
	}
	return RestoreProfile([]byte(p.Profile))
}

// importer makes an engine's state of libtpms'.
type importer struct {
	e    *Engine
	lost []string // what cannot be taken over
	err  error    // the first contradiction
}

// lose notes what cannot be taken over.
func (im *importer) lose(format string, args ...any) {
	im.lost = append(im.lost, fmt.Sprintf(format, args...))
}

// require notes a contradiction where something does not hold, and reports
// whether it does.
func (im *importer) require(holds bool, format string, args ...any) bool {
	if !holds && im.err == nil {
		im.err = fmt.Errorf("%w: %s", libtpms.ErrDamaged, fmt.Sprintf(format, args...))
	}
	return holds
}

func (im *importer) result() error {
	switch {
	case im.err != nil:
		return im.err
	case len(im.lost) != 0:
		return &NotCarried{im.lost}
	}
	return nil
}

// accepts decodes what was decoded without limits again, as this TPM does, into
// fresh.
func (im *importer) accepts(from, fresh tpm2.Walker) tpm2.RC {
	dec := tpm2.NewDecoderFor(tpm2.Marshal(from), &im.e.profile.impl)
	fresh.Walk(&dec)
	return dec.RC()
}

func (im *importer) permanent(p *libtpms.Permanent) {
	s := &im.e.state
	im.hierarchies(&p.Data)
	im.lockout(&p.Data, &p.Orderly)
	s.timing.Clock, s.timing.Safe = p.Orderly.Clock, p.Orderly.ClockSafe
	s.timing.ResetCount, s.timing.Epoch = p.Data.ResetCount, p.Data.TimeEpoch
	s.lineage.highest = s.timing.ResetCount
	im.pcrs(&p.Data)
	im.audit(&p.Data)
	s.ppCommands = without(p.Data.PhysicalPresence, tpm2.CCPPCommands)
	s.resets, s.algorithmSet = p.Data.TotalResetCount, p.Data.AlgorithmSet
	s.firmware = uint64(p.Data.Firmware1)<<32 | uint64(p.Data.Firmware2)
	s.sessions = session.New()
	im.entries(p)
	im.orderly(&p.Data)
	if p.Reset != nil {
		im.reset(p.Reset)
		im.clear(p.Clear)
		s.pcrs.SetBegin(p.Data.OrderlyState&libtpms.FlagLocality3 != 0, p.Data.OrderlyState&libtpms.FlagHCRTM != 0)
	}
}

// without is the list without the one command that is always on it.
func without(list commandList, cc tpm2.CC) commandList {
	list.set(cc, false)
	return list
}

func (im *importer) hierarchies(d *libtpms.Data) {
	h := &im.e.state.hierarchies
	im.secrets("endorsement", &h.Endorsement, d.EndorsementSeed, d.EndorsementProof, d.EndorsementLevel)
	im.secrets("owner", &h.Owner, d.OwnerSeed, d.OwnerProof, d.OwnerLevel)
	im.secrets("platform", &h.Platform, d.PlatformSeed, d.PlatformProof, d.PlatformLevel)
	im.auth("the owner", &h.Owner, &d.Owner)
	im.auth("the endorsement hierarchy", &h.Endorsement, &d.Endorsement)
	im.auth("the lockout", &h.Lockout, &d.Lockout)
	h.Null.PolicyAlg, h.Platform.PolicyAlg = tpm2.AlgNull, tpm2.AlgNull
	h.DisableClear = d.DisableClear
}

func (im *importer) secrets(name string, h *hierarchy.Hierarchy, seed, proof tpm2.Digest, level uint8) {
	im.require(len(seed) == hierarchy.SeedSize && len(proof) == hierarchy.ProofSize,
		"the seed or the proof of the %s hierarchy has another length", name)
	h.Seed, h.Proof, h.Level = seed, proof, level
}

func (im *importer) auth(of string, h *hierarchy.Hierarchy, a *libtpms.Auth) {
	h.Auth = trimAuth(a.Value)
	h.PolicyAlg, h.Policy = im.policy(of, a.Alg, a.Policy)
}

// policy checks a policy: its length is that of its hash algorithm's digests. An
// algorithm of 0 is one that libtpms before 0.8 has not set.
func (im *importer) policy(of string, alg tpm2.AlgID, policy tpm2.Digest) (tpm2.AlgID, tpm2.Digest) {
	if alg == 0 {
		alg = tpm2.AlgNull
	}
	_, known := alg.Hash()
	im.require((known || alg == tpm2.AlgNull) && len(policy) == alg.DigestSize(), "the policy of %s is none", of)
	if alg != tpm2.AlgNull && im.accepts(&alg, (*tpm2.HashID)(&alg)) != tpm2.RCSuccess {
		im.lose("the policy of %s is of the hash algorithm %v, which this TPM does not have", of, alg)
	}
	return alg, policy
}

func (im *importer) lockout(d *libtpms.Data, o *libtpms.Orderly) {
	l := &im.e.state.lockout
	l.FailedTries, l.MaxTries, l.RecoveryTime = d.FailedTries, d.MaxTries, d.RecoveryTime
	l.LockoutRecovery, l.AuthEnabled = d.LockoutRecovery, d.LockoutAuthEnabled
	l.Used = d.OrderlyState == libtpms.StateProtected
	if d.OrderlyState < libtpms.StateProtected { // else they mean nothing
		l.SetTimers(o.SelfHealTimer, o.LockoutTimer, o.Time)
	}
}

func (im *importer) pcrs(d *libtpms.Data) {
	p := &im.e.state.pcrs
	next, ok := pcr.Allocation(d.PCRNext)
	active, okActive := pcr.Allocation(d.PCRActive)
	if !ok || !okActive {
		im.lose("a PCR bank is allocated that this TPM does not have")
	}
	p.Next, p.Allocated = next, active
	p.PolicyAlg, p.Policy = im.policy("the PCRs", d.PCRPolicyAlg, d.PCRPolicy)
}

func (im *importer) audit(d *libtpms.Data) {
	a := &im.e.state.audit
	a.commands = without(d.AuditCommands, tpm2.CCSetCommandCodeAuditStatus)
	a.alg, a.counter = d.AuditAlg, d.AuditCounter
	if im.accepts(&a.alg, new(tpm2.HashID)) != tpm2.RCSuccess {
		im.lose("commands are audited with the hash algorithm %v, which this TPM does not have", a.alg)
	}
}

func (im *importer) orderly(d *libtpms.Data) {
	s := &im.e.state
	switch {
	case d.Saved():
		s.orderly = shutdownState
	case d.OrderlyState == libtpms.StateClear:
		s.orderly = shutdownClear
	default:
		im.require(d.OrderlyState >= libtpms.StateProtected, "it does not tell how the TPM was shut down")
	}
}

// entries takes the NV Indices and the persistent objects over.
func (im *importer) entries(p *libtpms.Permanent) {
	s := &im.e.state
	s.nv.SetMaxCount(p.MaxCount)
	orderly := make(map[tpm2.Handle]*libtpms.RAMIndex, len(p.RAM))
	for i := range p.RAM {
		x := &p.RAM[i]
		im.require(orderly[x.Handle] == nil, "the orderly Index 0x%08X is there twice", uint32(x.Handle))
		orderly[x.Handle] = x
	}
	for i := range p.Entries {
		h := p.Entries[i].Handle
		switch {
		case p.Entries[i].Object != nil:
			if im.require(s.objects.Get(h) == nil, "the persistent object 0x%08X is there twice", uint32(h)) {
				im.persistent(h, p.Entries[i].Object)
			}
		case im.require(s.nv.Get(h) == nil, "the Index 0x%08X is there twice", uint32(h)):
			im.index(p.Entries[i].Index, orderly[h])
			delete(orderly, h)
		}
	}
	im.require(len(orderly) == 0, "an orderly Index has data and is not defined")
	if n := len(s.objects.Persistent); n > object.MaxPersistent || !s.nv.Holds(n) {
		im.lose("the Indices and persistent objects take more room than this TPM has")
	}
}

// changingAttributes are those of an orderly Index that are kept with its data.
const changingAttributes = tpm2.NVWritten | tpm2.NVReadLocked | tpm2.NVWriteLocked

// index takes an NV Index over; ram is where an orderly one changes.
func (im *importer) index(x *libtpms.Index, ram *libtpms.RAMIndex) {
	h := uint32(x.Public.Index)
	orderly := x.Public.Attributes.Has(tpm2.NVOrderly)
	if !im.require(orderly == (ram != nil), "the orderly Index 0x%08X has no data, or another one has some", h) {
		return
	}
	y := &nv.Index{Public: x.Public, Auth: trimAuth(x.Auth), Data: x.Data}
	if orderly {
		y.Public.Attributes, y.Data = ram.Attributes, ram.Data
		im.require((ram.Attributes^x.Public.Attributes)&^changingAttributes == 0, "the Index 0x%08X has two sets of attributes", h)
	}
	im.require(len(y.Data) == int(y.Public.DataSize), "the Index 0x%08X has data of another size than it says", h)
	if rc := im.accepts(&x.Public, new(tpm2.NVPublic)); rc != tpm2.RCSuccess {
		im.lose("the Index 0x%08X is of a kind that this TPM does not have (%v)", h, rc)
		return
	}
	im.require(y.Consistent(), "the Index 0x%08X does not agree with itself", h)
	if !y.Is(tpm2.NVWritten) {
		y.Data = make([]byte, len(y.Data))
	}
	y.Rename()
	im.e.state.nv.Put(y)
}

// persistent takes a persistent object over.
func (im *importer) persistent(h tpm2.Handle, from *libtpms.Object) {
	what := fmt.Sprintf("the persistent object 0x%08X", uint32(h))
	im.require(from.Flags.Has(libtpms.ObjectOccupied|libtpms.ObjectEvict) && from.Sequence == nil && from.EvictHandle == h,
		"%s is none", what)
	o := im.object(what, from)
	if o == nil {
		return
	}
	im.require((&object.Persistent{Handle: h, Object: o}).Valid(), "%s cannot be one", what)
	im.e.state.objects.Persist(h, o)
}

// checkPrimes holds the second prime that libtpms keeps against the key.
func (im *importer) checkPrimes(what string, o *libtpms.Object) {
	if !o.Flags.Has(libtpms.ObjectExponent) || o.Public.Type != tpm2.AlgRSA || o.Sensitive == nil {
		return
	}
	p, q := new(big.Int).SetBytes(o.Sensitive.Sensitive), new(big.Int).SetBytes(o.Exponent[0])
	n := new(big.Int).SetBytes(o.Public.Unique)
	im.require(q.Mul(q, p).Cmp(n) == 0, "%s has primes of another key", what)
}

// errNotTogether says that a volatile state is another TPM's.
var errNotTogether = errors.New("the volatile state is another TPM's than the permanent one: " + together)

// sameTPM reports whether the volatile state says the seeds of this TPM.
func (e *Engine) sameTPM(v *libtpms.Volatile) bool {
	h := &e.state.hierarchies
	return bytes.Equal(v.EndorsementSeed, h.Endorsement.Seed) && bytes.Equal(v.OwnerSeed, h.Owner.Seed) &&
		bytes.Equal(v.PlatformSeed, h.Platform.Seed)
}
