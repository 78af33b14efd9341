package demo

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ashlar-cloud/ashlar/verifier/scheme/tpm"
)

// The files of one boot's evidence, beside the bundle: as the kernel and tpm2-tools
// write them, for a second opinion by other tools.
const (
	fileBundle   = "bundle.json"
	fileEventLog = "eventlog.bin"
	fileIMA      = "ima.bin"
	fileMessage  = "quote.msg"  // TPMS_ATTEST
	fileSig      = "quote.sig"  // TPMT_SIGNATURE
	fileAK       = "ak.pem"     // SubjectPublicKeyInfo
	fileNonce    = "nonce.hex"  // the qualifying data of the quote
	fileResult   = "result.jwt" // the verifier's signed result
)

// saveEvidence writes the bundle and its parts to dir, each as a file of its own.
func saveEvidence(dir string, bundle []byte, ev *tpm.Evidence, qualifying string) error {
	if len(ev.Quotes) != 1 {
		return fmt.Errorf("the guest sent %d quotes, one was asked for", len(ev.Quotes))
	}
	spki, err := x509.MarshalPKIXPublicKey(ev.AK.Crypto)
	if err != nil {
		return fmt.Errorf("the guest's attestation key: %w", err)
	}
	for name, data := range map[string][]byte{
		fileBundle:   bundle,
		fileEventLog: ev.EventLog,
		fileIMA:      ev.IMALog,
		fileMessage:  ev.Quotes[0].Message,
		fileSig:      ev.Quotes[0].Signature,
		fileAK:       pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}),
		fileNonce:    []byte(qualifying + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
