package tpm

import (
	"fmt"
	"math/big"

	"github.com/ashlar-cloud/ashlar/tpm/internal/hierarchy"
	"github.com/ashlar-cloud/ashlar/tpm/internal/libtpms"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm/internal/pcr"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// ExportLibtpms makes the permanent state of libtpms from one of ours: of a TPM
// with the profile null in the form of libtpms 0.9, which newer ones read too,
// else in that of libtpms 0.10. With drop set, what TPM2_Shutdown(STATE) has
// saved is left out, so that the next start is a TPM Reset. An error is New's, or
// a *NotCarried that lists all that is in the way.
func ExportLibtpms(cfg Config, permanent []byte, drop bool) ([]byte, error) {
	e, err := New(cfg, permanent)
	if err != nil {
		return nil, err
	}
	ex := exporter{e: e, to: new(libtpms.Permanent)}
	if e.profile.level == levelAshlar {
		ex.lose("the profile %s is none of libtpms", e.profile.name)
	}
	if e.profile.name != nullName {
		ex.to.Profile = string(e.profile.JSON())
	}
	if drop && e.state.orderly == shutdownState {
		e.state.orderly = shutdownClear
	}
	ex.permanent()
	if len(ex.lost) != 0 {
		return nil, &NotCarried{ex.lost}
	}
	return ex.to.Encode(e.profile.level)
}

// exporter makes libtpms' state of an engine's.
type exporter struct {
	e    *Engine
	to   *libtpms.Permanent
	lost []string
}

func (ex *exporter) lose(format string, args ...any) {
	ex.lost = append(ex.lost, fmt.Sprintf(format, args...))
}

func (ex *exporter) permanent() {
	s, p := &ex.e.state, ex.to
	d := &p.Data
	ex.hierarchies(d)
	ex.lockout(d)
	p.Orderly.Clock, p.Orderly.ClockSafe = s.timing.Clock, s.timing.Safe
	d.ResetCount, d.TimeEpoch, d.TotalResetCount = s.timing.ResetCount, s.timing.Epoch, s.resets
	d.PCRPolicyAlg, d.PCRPolicy = s.pcrs.PolicyAlg, s.pcrs.Policy
	d.PCRNext, d.PCRActive = pcr.Selection(&s.pcrs.Next), pcr.Selection(&s.pcrs.Allocated)
	d.AuditCommands, d.AuditAlg, d.AuditCounter = ex.commands(s.audit.list()), s.audit.alg, s.audit.counter
	d.PhysicalPresence = ex.commands(s.ppCommands.with(tpm2.CCPPCommands))
	d.AlgorithmSet, d.Firmware1, d.Firmware2 = s.algorithmSet, uint32(s.firmware>>32), uint32(s.firmware)
	ex.orderly(d)
	ex.indices()
	for i := range s.objects.Persistent {
		ex.object(&s.objects.Persistent[i])
	}
}

// commands is a list of commands; the form of libtpms 0.9 can name its own only.
func (ex *exporter) commands(list commandList) []tpm2.CC {
	if ex.e.profile.level >= libtpms.LevelLists {
		return list
	}
	known := commandList(libtpms.CompressedCommands())
	for _, cc := range list {
		if !known.has(cc) {
			ex.lose("the command %v is audited or needs physical presence, which libtpms 0.9 does not have", cc)
		}
	}
	return list
}

func (ex *exporter) hierarchies(d *libtpms.Data) {
	h := &ex.e.state.hierarchies
	d.EndorsementSeed, d.EndorsementProof, d.EndorsementLevel = h.Endorsement.Seed, h.Endorsement.Proof, h.Endorsement.Level
	d.OwnerSeed, d.OwnerProof, d.OwnerLevel = h.Owner.Seed, h.Owner.Proof, h.Owner.Level
	d.PlatformSeed, d.PlatformProof, d.PlatformLevel = h.Platform.Seed, h.Platform.Proof, h.Platform.Level
	d.Owner, d.Endorsement, d.Lockout = foreignAuth(&h.Owner), foreignAuth(&h.Endorsement), foreignAuth(&h.Lockout)
	d.DisableClear = h.DisableClear
}

func foreignAuth(h *hierarchy.Hierarchy) libtpms.Auth {
	return libtpms.Auth{Alg: h.PolicyAlg, Policy: h.Policy, Value: h.Auth}
}

func (ex *exporter) lockout(d *libtpms.Data) {
	l := &ex.e.state.lockout
	d.FailedTries, d.MaxTries, d.RecoveryTime = l.FailedTries, l.MaxTries, l.RecoveryTime
	d.LockoutRecovery, d.LockoutAuthEnabled = l.LockoutRecovery, l.AuthEnabled
	// How long the timers have run, as of a Shutdown at zero.
	selfHeal, authHeal := l.Waited()
	ex.to.Orderly.SelfHealTimer, ex.to.Orderly.LockoutTimer = -int64(selfHeal), -int64(authHeal)
}

func (ex *exporter) orderly(d *libtpms.Data) {
	s := &ex.e.state
	switch s.orderly {
	case shutdownClear:
		d.OrderlyState = libtpms.StateClear
	case shutdownState:
		d.OrderlyState = libtpms.StateSaved
		ex.saved(d)
	default:
		d.OrderlyState = libtpms.StateNone
		if s.lockout.Used {
			d.OrderlyState = libtpms.StateProtected
		}
	}
}

// saved is what Shutdown(STATE) has saved.
func (ex *exporter) saved(d *libtpms.Data) {
	s := &ex.e.state
	if _, active := s.sessions.Counts(); active != 0 || s.objectCount != 0 {
		ex.lose("contexts that the guest has saved could not be loaded there: shut the machine down first, or drop what it has saved")
	}
	if s.readOnly {
		ex.lose("the TPM is in Read-Only mode, which libtpms does not have")
	}
	locality3, hcrtm := s.pcrs.Begin()
	if locality3 {
		d.OrderlyState |= libtpms.FlagLocality3
	}
	if hcrtm {
		d.OrderlyState |= libtpms.FlagHCRTM
	}
	h := &s.hierarchies
	ex.to.Reset = &libtpms.Reset{
		NullProof: h.Null.Proof, NullSeed: h.Null.Seed, NullLevel: h.Null.Level, ClearCount: s.clears,
		ObjectContextID: s.objectCount, ContextMask: libtpms.LongMask, ContextCounter: libtpms.ContextCounter(s.sessions.Next()),
		AuditDigest: s.audit.digest, RestartCount: s.timing.RestartCount, PCRCounter: uint32(s.pcrs.Counter),
		CommitCounter: s.commitments.counter, CommitNonce: s.commitments.nonce[:], CommitArray: s.commitments.pending,
	}
	ex.to.Clear = &libtpms.Clear{
		OwnerEnabled: h.Owner.Enabled, EndorsementEnabled: h.Endorsement.Enabled, PlatformNVEnabled: h.PlatformNV,
		Platform: foreignAuth(&h.Platform), PCRAuth: s.pcrs.Auth,
	}
	for _, alg := range tpm2.HashAlgs() {
		b := libtpms.PCRBank{Alg: alg}
		for n := range libtpms.SavedPCRs {
			b.Values = append(b.Values, s.pcrs.Stored(alg, n)...)
		}
		ex.to.Clear.PCRs = append(ex.to.Clear.PCRs, b)
	}
}

func (ex *exporter) indices() {
	p := ex.to
	p.MaxCount = ex.e.state.nv.MaxCount()
	for _, x := range ex.e.state.nv.All() {
		y := &libtpms.Index{Public: x.Public, Auth: x.Auth, Data: x.Data}
		if x.Is(tpm2.NVOrderly) {
			p.RAM = append(p.RAM, libtpms.RAMIndex{Handle: x.Public.Index, Attributes: x.Public.Attributes, Data: x.Data})
			y.Public.Attributes &^= changingAttributes
			y.Data = nil
		}
		p.Entries = append(p.Entries, libtpms.Entry{Index: y, Handle: x.Public.Index})
	}
}

func (ex *exporter) object(o *object.Persistent) {
	sens := *o.Sensitive
	sens.AuthValue = append(make(tpm2.Digest, 0, tpm2.MaxDigestSize), sens.AuthValue...)
	if n := o.Public.NameAlg.DigestSize(); len(sens.AuthValue) < n {
		sens.AuthValue = sens.AuthValue[:n] // as libtpms does, with zeros
	}
	to := &libtpms.Object{
		Flags:  libtpms.ObjectOccupied | libtpms.ObjectEvict | flagOf(o.Hierarchy),
		Public: o.Public, Sensitive: &sens, QualifiedName: o.QualifiedName, Name: o.Name,
		EvictHandle: o.Handle, Hierarchy: o.Hierarchy, Level: ex.e.state.hierarchies.Get(o.Hierarchy).Level,
	}
	for _, f := range []struct {
		is   bool
		flag libtpms.ObjectFlags
	}{{o.Primary, libtpms.ObjectPrimary}, {o.IsParent(), libtpms.ObjectParent}, {o.IsDerivation(), libtpms.ObjectDerivation}} {
		if f.is {
			to.Flags |= f.flag
		}
	}
	if o.Public.Type == tpm2.AlgRSA {
		to.Flags |= libtpms.ObjectExponent
		to.Exponent = exponent(&o.Public, o.Sensitive)
	}
	ex.to.Entries = append(ex.to.Entries, libtpms.Entry{Object: to, Handle: o.Handle})
}

// flagOf is what hierarchyOf reads.
func flagOf(h tpm2.Handle) libtpms.ObjectFlags {
	switch h {
	case tpm2.RHOwner:
		return libtpms.ObjectOwner
	case tpm2.RHEndorsement:
		return libtpms.ObjectEndorsement
	}
	return libtpms.ObjectPlatform
}

// exponent gives an RSA key's second prime and its CRT values dP, dQ and qInv, of
// which dP is the larger prime's (ComputePrivateExponent).
func exponent(pub *tpm2.Public, sens *tpm2.Sensitive) [4][]byte {
	e := big.NewInt(int64(pub.Exponent))
	if e.Sign() == 0 {
		e.SetInt64(65537)
	}
	p := new(big.Int).SetBytes(sens.Sensitive)
	q := new(big.Int).Quo(new(big.Int).SetBytes(pub.Unique), p)
	second := q.Bytes()
	if p.Cmp(q) < 0 {
		p, q = q, p
	}
	one := big.NewInt(1)
	dP := new(big.Int).ModInverse(e, new(big.Int).Sub(p, one))
	dQ := new(big.Int).ModInverse(e, new(big.Int).Sub(q, one))
	qInv := new(big.Int).ModInverse(q, p)
	if dP == nil || dQ == nil || qInv == nil {
		return [4][]byte{second} // a key that every use of fails
	}
	return [4][]byte{second, dP.Bytes(), dQ.Bytes(), qInv.Bytes()}
}
