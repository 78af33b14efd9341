package tpm

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"math"
)

// lineage tells the states of one TPM apart that an older one took the place of.
type lineage struct {
	// reverts counts the times that a state of this TPM gave its place to an older one.
	reverts uint32
	// highest is the largest resetCount that an attestation can have shown.
	highest uint32
}

// Follow gives the permanent state to keep where next takes the place of last: next as
// it is where it goes on from last, as after a migration, or where they are of two TPMs.
//
// Where it is older than last, as that of a snapshot, it is reverted: what was shown
// since is undone, and that shows from now on in all that is attested (Part 1, 36).
// Clock does not go back, but is not safe; resetCount is larger than any that was shown,
// so that resetCount, restartCount and Clock never come twice with different PCRs; and
// commitments that are pending, which two signatures would give a key away by, are void.
// NV, counters among it, is as next says. Saved contexts stay good.
//
// An empty last is a state that is lost: next is a backup, older than nobody knows what.
// resetCount then is the time of day, in seconds since 1970, which there have not been as
// many resets as.
func Follow(cfg Config, last, next []byte) (state []byte, reverted bool, err error) {
	n, err := load(cfg, next)
	if err != nil {
		return nil, false, err
	}
	if len(last) == 0 {
		n.revert(&n.state, uint32(min(max(cfg.Clock.Wall().Unix(), 0), math.MaxUint32)))
		return n.permanent(), true, nil
	}
	l, err := load(cfg, last)
	if err != nil {
		return nil, false, fmt.Errorf("the state that is to be replaced: %w", err)
	}
	if !n.isOlder(l) {
		return bytes.Clone(next), false, nil
	}
	n.revert(&l.state, 0)
	return n.permanent(), true, nil
}

// revert makes the state one that last gave its place to. resetCount is at least least.
func (e *Engine) revert(last *state, least uint32) {
	s := &e.state
	highest := max(s.lineage.highest, s.timing.ResetCount, last.lineage.highest, last.timing.ResetCount)
	s.lineage.reverts = max(s.lineage.reverts, last.lineage.reverts) + 1
	s.timing.ResetCount = max(least, highest+min(1, math.MaxUint32-highest))
	s.lineage.highest = s.timing.ResetCount
	e.goBack(last.timing.Clock)
}

// SameTPM reports whether two permanent states are of one TPM.
func SameTPM(cfg Config, a, b []byte) (bool, error) {
	x, err := load(cfg, a)
	if err != nil {
		return false, err
	}
	y, err := load(cfg, b)
	if err != nil {
		return false, err
	}
	return x.instance == y.instance || x.sameSeeds(y), nil
}

// sameSeeds is for a state of libtpms, which gets another instance each time that it is
// taken over.
func (e *Engine) sameSeeds(other *Engine) bool {
	a, b := &e.state.hierarchies.Endorsement, &other.state.hierarchies.Endorsement
	return subtle.ConstantTimeCompare(a.Seed, b.Seed)&subtle.ConstantTimeCompare(a.Proof, b.Proof) == 1
}

// isOlder reports whether the state is one of the same TPM as last, and does not go on
// from it.
func (e *Engine) isOlder(last *Engine) bool {
	if e.instance != last.instance {
		return e.sameSeeds(last)
	}
	if e.state.lineage.reverts != last.state.lineage.reverts {
		return e.state.lineage.reverts < last.state.lineage.reverts
	}
	return e.state.generation < last.state.generation
}

// goBack is what a revert does to what a volatile state has too; clock is the Clock
// that may have been shown.
func (e *Engine) goBack(clock uint64) {
	e.state.timing.GoBack(clock)
	e.resetCommitments()
}

// Reverts counts the times that this TPM's state was replaced by an older one, as
// Follow has seen.
func (e *Engine) Reverts() uint32 { return e.state.lineage.reverts }

// Touch gives the permanent state a new generation: after a copy of it was given away,
// by which an older one is told from what came since. The Commit is settled as that of
// a command.
func (e *Engine) Touch() (commit Commit) {
	if e.pending {
		panic("tpm: Touch before the last Commit was settled")
	}
	if e.failed {
		return Commit{}
	}
	e.before, e.failure = e.state, authFailure{}
	defer func() {
		if r := recover(); r != nil {
			e.state = e.before
			e.fail(nil, r)
			commit = Commit{}
		}
	}()
	return e.commit(true)
}
