package tpm

import "github.com/ashlar-cloud/ashlar/tpm2"

// lockoutCommands are those of Part 3, 25.
var lockoutCommands = []command{
	define(command{cc: tpm2.CCDictionaryAttackLockReset, attrs: tpm2.CCAttrNV,
		handles: []handle{{"lockHandle", theLockout, authUser}},
	}, (*Engine).dictionaryAttackLockReset),
	define(command{cc: tpm2.CCDictionaryAttackParameters, attrs: tpm2.CCAttrNV,
		handles: []handle{{"lockHandle", theLockout, authUser}},
	}, (*Engine).dictionaryAttackParameters),
}

// dictionaryAttackLockReset is TPM2_DictionaryAttackLockReset (Part 3, 25.2).
func (e *Engine) dictionaryAttackLockReset(c *call, _ *none, _ *none) tpm2.RC {
	e.state.lockout.FailedTries = 0
	c.persist()
	return tpm2.RCSuccess
}

type dictionaryAttackParametersIn struct {
	newMaxTries, newRecoveryTime, lockoutRecovery tpm2.UINT32
}

// Walk visits the parameters.
func (p *dictionaryAttackParametersIn) Walk(c *tpm2.Codec) {
	c.Param(&p.newMaxTries)
	c.Param(&p.newRecoveryTime)
	c.Param(&p.lockoutRecovery)
}

// dictionaryAttackParameters is TPM2_DictionaryAttackParameters (Part 3,
// 25.3).
func (e *Engine) dictionaryAttackParameters(c *call, in *dictionaryAttackParametersIn, _ *none) tpm2.RC {
	l := &e.state.lockout
	l.MaxTries = uint32(in.newMaxTries)
	l.RecoveryTime = uint32(in.newRecoveryTime)
	l.LockoutRecovery = uint32(in.lockoutRecovery)
	c.persist()
	return tpm2.RCSuccess
}
