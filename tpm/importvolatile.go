package tpm

import (
	"errors"
	"fmt"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/libtpms"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// ImportLibtpmsVolatile makes the volatile state of a running TPM from that of
// libtpms (TPMLIB_STATE_VOLATILE), for a permanent state that ImportLibtpms has
// made: Resume goes on with PCRs, sessions, objects and sequences as they were,
// and the contexts that the guest holds stay good. The errors are those of
// ImportLibtpms, and a sentence where the two states do not belong together.
func ImportLibtpmsVolatile(cfg Config, permanent, b []byte) ([]byte, error) {
	v, err := libtpms.DecodeVolatile(b)
	if err != nil {
		return nil, err
	}
	e, err := load(cfg, permanent)
	if err != nil {
		return nil, err
	}
	inForce, shown := e.state.pcrs.Allocated, e.state.timing.Clock
	e.powerOn()
	if v.PCRReconfigured {
		e.state.pcrs.Reallocate(inForce)
	}
	if !e.sameTPM(v) {
		return nil, errNotTogether
	}
	im := importer{e: e}
	im.volatile(v)
	if err := im.result(); err != nil {
		return nil, err
	}
	if e.state.lineage.reverts != 0 { // perhaps to this very state
		e.goBack(shown)
	}
	e.cfg.Clock = stopped(v.Saved - min(v.Saved, unread(v)))
	volatile := e.SaveVolatile()
	if _, err := Resume(cfg, permanent, volatile); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return volatile, nil
}

// unread is how long before it was saved the TPM had read its clock, in
// milliseconds.
func unread(v *libtpms.Volatile) uint64 {
	now := v.Monotonic + v.Suspended
	if now < v.LastRead || now-v.LastRead > maxUnread {
		return 0
	}
	return now - v.LastRead
}

// maxUnread bounds a time that the state only implies: a century.
const maxUnread = 100 * 365 * 24 * 3600 * 1000

// stopped is a clock that shows one time of day, in milliseconds since 1970.
type stopped uint64

// Now is always zero.
func (s stopped) Now() time.Duration { return 0 }

// Wall is the time of day.
func (s stopped) Wall() time.Time { return time.UnixMilli(int64(s)) }

func (im *importer) volatile(v *libtpms.Volatile) {
	s := &im.e.state
	if v.Failed {
		im.lose("the TPM is in failure mode: restart the machine and move it then")
	}
	if v.DRTM != libtpms.NoHandle {
		im.lose("a measurement by the machine's hardware (_TPM_Hash_Start) is under way: try again")
	}
	if !v.Started && v.HCRTM {
		im.lose("the TPM has measured what starts first and was not started up: try again")
	}
	im.require(v.Saved < 1<<62 && v.NVOk, "it says that there is no permanent state, or a time that is none")
	im.require(s.timing.SetRate(v.AdjustRate), "its clock runs at a rate that there is not")
	s.timing.Time, s.timing.Clock, s.timing.Safe = v.Time, v.Orderly.Clock, v.Orderly.ClockSafe
	s.established = v.Established
	if !v.Started {
		return
	}
	s.started, s.wasOrderly, s.foreign = true, v.PrevOrderly < libtpms.StateProtected, true
	s.lockout.SetTimers(v.Orderly.SelfHealTimer, v.Orderly.LockoutTimer, v.Time)
	s.lockout.Used = v.ProtectedUsed
	s.sessions = session.New() // what Shutdown(STATE) saved of them is of before
	im.reset(&v.Reset)
	im.clear(&v.Clear)
	s.hierarchies.Platform.Enabled = v.PlatformEnabled
	s.pcrs.SetBegin(v.Locality3, v.HCRTM)
	for n, banks := range v.PCRs {
		im.restorePCR(n, banks)
	}
	im.orderlyIndices(v)
	im.slots(v)
	im.sessions(v)
}

// reset takes over what lasts until a TPM Reset.
func (im *importer) reset(r *libtpms.Reset) {
	s := &im.e.state
	im.secrets("null", &s.hierarchies.Null, r.NullSeed, r.NullProof, r.NullLevel)
	s.hierarchies.Null.Enabled, s.hierarchies.Lockout.Enabled = true, true
	s.clears, s.objectCount = r.ClearCount, r.ObjectContextID
	s.timing.RestartCount, s.pcrs.Counter = r.RestartCount, uint64(r.PCRCounter)
	s.foreign = true
	n := len(r.AuditDigest)
	im.require(n == 0 || n == s.audit.alg.DigestSize(), "the log of audited commands is of another algorithm")
	s.audit.digest = r.AuditDigest
	im.commits(r)
	im.require(r.ContextCounter <= session.MaxNext && r.ObjectContextID <= session.MaxNext, "the number of contexts saved is none that there is")
	s.sessions.SetNext(r.ContextCounter)
	for i, low := range r.Contexts {
		if low <= libtpms.LoadedSessions {
			continue
		}
		// Its id is the last one before the next with these low bits.
		mask := uint64(r.ContextMask)
		id := (r.ContextCounter &^ mask) | uint64(low)
		if id >= r.ContextCounter {
			id -= mask + 1
		}
		im.require(id != 0 && s.sessions.SetSaved(i, id), "the session %d was saved with a number that is none", i)
	}
}

// commits takes over which commitments are pending, and what their secrets come
// from.
func (im *importer) commits(r *libtpms.Reset) {
	s := &im.e.state.commitments
	im.require(copy(s.nonce[:], r.CommitNonce) == nonceSize, "the nonce of its commitments has %d bytes", len(r.CommitNonce))
	s.counter, s.pending = r.CommitCounter, r.CommitArray
}

// clear takes over what lasts until a TPM Restart.
func (im *importer) clear(c *libtpms.Clear) {
	s := &im.e.state
	h := &s.hierarchies
	h.Owner.Enabled, h.Endorsement.Enabled, h.PlatformNV = c.OwnerEnabled, c.EndorsementEnabled, c.PlatformNVEnabled
	h.Platform.Enabled = true
	im.auth("the platform", &h.Platform, &c.Platform)
	s.pcrs.Auth = trimAuth(c.PCRAuth)
	for _, b := range c.PCRs {
		size := len(b.Values) / libtpms.SavedPCRs
		for n := range libtpms.SavedPCRs {
			im.restorePCR(n, []libtpms.PCRBank{{Alg: b.Alg, Values: b.Values[n*size : (n+1)*size]}})
		}
	}
}

func (im *importer) restorePCR(n int, banks []libtpms.PCRBank) {
	for _, b := range banks {
		if !im.e.state.pcrs.Restore(b.Alg, n, b.Values) {
			im.lose("PCR %d has a value in the bank %v, which this TPM does not have", n, b.Alg)
		}
	}
}

// orderlyIndices takes over what has changed in the orderly Indices since the
// permanent state was written.
func (im *importer) orderlyIndices(v *libtpms.Volatile) {
	s := &im.e.state.nv
	s.SetMaxCount(max(s.MaxCount(), v.MaxCount))
	seen := 0
	for i := range v.RAM {
		ram := &v.RAM[i]
		x := s.Get(ram.Handle)
		if !im.require(x != nil && x.Is(tpm2.NVOrderly) && len(ram.Data) == len(x.Data) &&
			(ram.Attributes^x.Public.Attributes)&^changingAttributes == 0,
			"the orderly Index 0x%08X is another one in the permanent state", uint32(ram.Handle)) {
			return
		}
		y := x.Clone()
		y.Public.Attributes = ram.Attributes
		if clear(y.Data); y.Is(tpm2.NVWritten) {
			copy(y.Data, ram.Data)
		}
		y.Rename()
		s.Put(y)
		seen++
	}
	for _, x := range s.All() {
		if x.Is(tpm2.NVOrderly) {
			seen--
		}
	}
	im.require(seen == 0, "the orderly Indices are others in the permanent state")
}

// slots takes the loaded objects and sequences over.
func (im *importer) slots(v *libtpms.Volatile) {
	for i := range v.Objects {
		from := &v.Objects[i]
		// What is left of a persistent object's use is not in its slot.
		if !from.Flags.Has(libtpms.ObjectOccupied) || from.Flags.Has(libtpms.ObjectEvict) && from.Sequence == nil {
			continue
		}
		h := tpm2.TransientFirst + tpm2.Handle(i)
		im.e.state.objects.Slots[i] = im.object(fmt.Sprintf("the loaded object 0x%08X", uint32(h)), from)
	}
}

// hierarchyOf is the hierarchy that an object's flags say.
func hierarchyOf(f libtpms.ObjectFlags) tpm2.Handle {
	switch {
	case f.Has(libtpms.ObjectOwner):
		return tpm2.RHOwner
	case f.Has(libtpms.ObjectEndorsement):
		return tpm2.RHEndorsement
	case f.Has(libtpms.ObjectPlatform):
		return tpm2.RHPlatform
	}
	return tpm2.RHNull
}

// object makes an object or a sequence; nil where that cannot be.
func (im *importer) object(what string, from *libtpms.Object) *object.Object {
	if from.Sequence != nil {
		return im.sequence(what, from)
	}
	var pub tpm2.PublicOrNull
	var sens tpm2.Sensitive
	rc := im.accepts((*tpm2.PublicOrNull)(&from.Public), &pub)
	if rc == tpm2.RCSuccess && from.Sensitive != nil {
		rc = im.accepts(from.Sensitive, &sens)
	}
	if rc != tpm2.RCSuccess {
		im.lose("%s is of an algorithm or a size that this TPM does not have (%v)", what, rc)
		return nil
	}
	im.require(from.Flags.Has(libtpms.ObjectPublicOnly) == (from.Sensitive == nil), "%s has a sensitive area, or none, as it should not", what)
	im.checkPrimes(what, from)
	key, rc := crypt.NewKey(&from.Public, from.Sensitive, 0, 0)
	if !im.require(rc == tpm2.RCSuccess, "%s is not a key (%v)", what, rc) {
		return nil
	}
	if key.Sensitive != nil { // libtpms fills it up with zeros
		key.Sensitive.AuthValue = trimAuth(key.Sensitive.AuthValue)
	}
	external := from.Flags.Has(libtpms.ObjectExternal)
	o := &object.Object{
		Key: key, External: external, Primary: from.Flags.Has(libtpms.ObjectPrimary) && !external,
		STClear: from.Flags.Has(libtpms.ObjectSTClear), Hierarchy: hierarchyOf(from.Flags),
		Name: from.Public.Name(), QualifiedName: from.QualifiedName,
	}
	im.require(string(o.Name) == string(from.Name) && o.Consistent(), "%s does not agree with itself", what)
	return o
}

// sequence makes a running hash, HMAC or event sequence.
func (im *importer) sequence(what string, from *libtpms.Object) *object.Object {
	s := object.Sequence{Auth: trimAuth(from.Sequence.Auth), Alg: tpm2.AlgNull,
		Begun: from.Flags.Has(libtpms.ObjectFirstBlock), Safe: from.Flags.Has(libtpms.ObjectTicketSafe)}
	hashes := from.Sequence.Hashes
	switch {
	case len(hashes) == 0, from.Flags.Has(libtpms.ObjectHMACSequence) && hashes[0].Type != libtpms.HashTypeHMAC:
		im.lose("%s is a running CMAC or event sequence, which libtpms has not saved: try again", what)
		return nil
	case from.Flags.Has(libtpms.ObjectEventSequence):
		s.Kind = object.EventSequence
	case from.Flags.Has(libtpms.ObjectHMACSequence):
		s.Kind, s.Alg = object.HMACSequence, hashes[0].Alg
	default:
		s.Kind, s.Alg = object.HashSequence, hashes[0].Alg
		hashes = hashes[:1]
	}
	var states [][]byte
	for i := range hashes {
		b, err := hashes[i].Binary()
		if s.Kind == object.EventSequence && hashes[i].Alg != tpm2.HashAlgs()[i] {
			err = errOrder
		}
		if !im.require(err == nil, "%s: %v", what, err) {
			return nil
		}
		states = append(states, b)
	}
	made, ok := object.RestoreSequence(s, states, from.Sequence.OuterKey)
	if !im.require(ok, "%s is no sequence that there is", what) {
		return nil
	}
	return object.NewSequenceObject(made)
}

var errOrder = errors.New("the hashes are in another order")

// sessions takes the loaded sessions over.
func (im *importer) sessions(v *libtpms.Volatile) {
	s := &im.e.state.sessions
	var used [libtpms.LoadedSessions]bool
	for number, slot := range v.Reset.Contexts {
		if slot == 0 || slot > libtpms.LoadedSessions {
			continue
		}
		i := slot - 1
		if !im.require(v.Sessions[i] != nil && !used[i], "the session %d is loaded and is not there", number) {
			return
		}
		used[i] = true
		sess := im.session(number, v.Sessions[i])
		im.require(s.SetLoaded(int(i), sess), "the session %d is there twice", number)
	}
	for i, sess := range v.Sessions {
		im.require(sess == nil || used[i], "a session is loaded under no number")
	}
	// Before the first command it is zero, and it may be of a session long gone.
	if s.Get(v.Exclusive) != nil {
		s.Exclusive = v.Exclusive
	}
}

// session makes a session of a number.
func (im *importer) session(number int, from *libtpms.Session) session.Session {
	f := from.Flags
	first := tpm2.HMACSessionFirst
	if f.Has(libtpms.SessionPolicy) {
		first = tpm2.PolicySessionFirst
	}
	to := session.Session{
		Handle: first + tpm2.Handle(number), Trial: f.Has(libtpms.SessionTrial), AuthHash: from.AuthHash,
		Symmetric: from.Symmetric, NonceTPM: from.NonceTPM, SessionKey: from.SessionKey,
		DABound: f.Has(libtpms.SessionDABound), LockoutBound: f.Has(libtpms.SessionLockoutBound),
		StartTime: from.StartTime, Epoch: from.Epoch,
	}
	if im.accepts(&from.Symmetric, new(tpm2.SymDef)) != tpm2.RCSuccess || im.accepts(&from.AuthHash, new(tpm2.HashID)) != tpm2.RCSuccess {
		im.lose("the session 0x%08X is of an algorithm that this TPM does not have", uint32(to.Handle))
	}
	size := from.AuthHash.DigestSize()
	wrong := len(from.Digest) != 0 && len(from.Digest) != size || len(from.NonceTPM) > size || len(from.SessionKey) > size
	im.require(!wrong, "the session 0x%08X does not agree with itself", uint32(to.Handle))
	to.Policy = session.Policy{
		CommandCode: from.CommandCode, Locality: from.Locality, Timeout: from.Timeout, PCRCounter: uint64(from.PCRCounter),
		AuthValueNeeded: f.Has(libtpms.SessionAuthValue), PasswordNeeded: f.Has(libtpms.SessionPassword),
		PPRequired: f.Has(libtpms.SessionPhysicalPresence), CheckNVWritten: f.Has(libtpms.SessionCheckWritten),
		NVWritten: f.Has(libtpms.SessionWritten),
	}
	switch {
	case f.Has(libtpms.SessionPolicy):
		to.Policy.Digest = from.Digest
		im.constrain(&to, from)
	case f.Has(libtpms.SessionAudit):
		to.AuditDigest = from.Digest
	case f.Has(libtpms.SessionBound):
		im.require(len(from.Hash) == libtpms.BoundSize, "the session 0x%08X is bound to nothing", uint32(to.Handle))
		to.Bound = boundDigest(from.Hash)
	}
	return to
}

// constrain takes over the hash that a policy demands. It has no flag in libtpms
// before 0.10 where it is of Names.
func (im *importer) constrain(to *session.Session, from *libtpms.Session) {
	if len(from.Hash) == 0 {
		return
	}
	im.require(len(from.Hash) <= tpm2.MaxDigestSize, "the session 0x%08X demands a hash that is none", uint32(to.Handle))
	hash := tpm2.Digest(from.Hash)
	switch f := from.Flags; {
	case f.Has(libtpms.SessionCPHash):
		to.CPHash = hash
	case f.Has(libtpms.SessionTemplate):
		to.TemplateHash = hash
	case f.Has(libtpms.SessionParameters):
		to.ParametersHash = hash
	default:
		to.NameHash = hash
	}
}
