package object

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Load checks the areas of an object that comes from outside and makes its key
// (ObjectLoad). parent is nil for an external object and one being imported,
// sens for a public area alone. The parameters to blame go on the codes.
//
// It gives TPM_RC_KEY_SIZE for a seed longer than nameAlg's digest, and the
// codes of CheckAttributes, or CheckScheme where there is no sensitive area or
// no nameAlg, and of crypt.NewKey, which a parent that cannot leave this TPM makes
// needless.
func Load(parent *Object, pub *tpm2.Public, sens *tpm2.Sensitive, publicParam, sensitiveParam int) (*crypt.Key, tpm2.RC) {
	var rc tpm2.RC
	if sens == nil || pub.NameAlg == tpm2.AlgNull {
		rc = CheckScheme(nil, pub)
	} else {
		if len(sens.SeedValue) > pub.NameAlg.DigestSize() {
			return nil, tpm2.RCKeySize.P(sensitiveParam)
		}
		rc = CheckAttributes(parent, pub)
	}
	if rc != tpm2.RCSuccess {
		return nil, rc.P(publicParam)
	}
	if parent != nil && parent.Is(tpm2.ObjFixedTPM) {
		// Only this TPM can have wrapped it, which checked it before: as in the
		// reference code, it is not checked again.
		return crypt.RestoreKey(pub, sens), tpm2.RCSuccess
	}
	return crypt.NewKey(pub, sens, publicParam, sensitiveParam)
}
