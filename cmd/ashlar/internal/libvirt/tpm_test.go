package libvirt

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"
)

// What the tests use of a TPM.
const (
	ekHandle  = tpm2.TPMHandle(0x81010001) // made by swtpm_setup
	counterNV = tpm2.TPMHandle(0x01500001)
	workPCR   = 11 // nothing but the tests extends it
)

// Send carries a command to the guest's device and the answer back: go-tpm's transport.
func (d *domain) Send(command []byte) ([]byte, error) {
	if err := d.line.Put(d.soon(), "/run/command", command); err != nil {
		return nil, err
	}
	status, out, err := d.line.Run(d.soon(), "rm -f /run/response; (exec 4<>/dev/tpm0; dd bs=4096 if=/run/command >&4 && dd bs=4096 count=1 <&4 >/run/response) 2>&1 | grep -v ^0+1; test -s /run/response")
	if err == nil && status != 0 {
		err = fmt.Errorf("the guest's TPM: %s", out)
	}
	if err != nil {
		return nil, err
	}
	return d.line.Get(d.soon(), "/run/response")
}

// ask executes a command of go-tpm's, which must succeed.
func ask[C tpm2.Command[R, *R], R any](d *domain, command C) *R {
	d.t.Helper()
	response, err := command.Execute(d)
	if err != nil {
		d.t.Fatalf("%s: %T: %v", d.Name, command, err)
	}
	return response
}

// look is what a TPM holds: Names of keys, a PCR and a counter.
type look struct {
	ek, srk, pcr, loaded string
	counter              uint64
}

// prepare defines the counter, and counts.
func (d *domain) prepare() {
	d.t.Helper()
	ask(d, tpm2.NVDefineSpace{
		AuthHandle: tpm2.TPMRHOwner,
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: counterNV, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
			Attributes: tpm2.TPMANV{NT: tpm2.TPMNTCounter, OwnerRead: true, OwnerWrite: true},
		}),
	})
	d.work()
}

// load leaves the storage root key in the memory of the TPM, which only what saves a
// running TPM keeps.
func (d *domain) load() {
	d.t.Helper()
	ask(d, tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)})
}

// work lets the TPM count, and measure.
func (d *domain) work() {
	d.t.Helper()
	counter := ask(d, tpm2.NVReadPublic{NVIndex: counterNV})
	ask(d, tpm2.NVIncrement{AuthHandle: tpm2.TPMRHOwner, NVIndex: tpm2.NamedHandle{Handle: counterNV, Name: counter.NVName}})
	ask(d, extend())
}

// extend measures the digest of "work" into workPCR.
func extend() tpm2.PCRExtend {
	digest := sha256.Sum256([]byte("work"))
	return tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: workPCR, Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]}}},
	}
}

// look asks the TPM what it holds.
func (d *domain) look() look {
	d.t.Helper()
	var l look
	l.ek = d.ekName()
	l.srk = d.srkName()
	l.pcr = hex.EncodeToString(d.readPCR(workPCR))
	if public, err := (tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(0x80000000)}).Execute(d); err == nil {
		l.loaded = hex.EncodeToString(public.Name.Buffer)
	}
	counter := ask(d, tpm2.NVReadPublic{NVIndex: counterNV})
	data := ask(d, tpm2.NVRead{AuthHandle: tpm2.TPMRHOwner, NVIndex: tpm2.NamedHandle{Handle: counterNV, Name: counter.NVName}, Size: 8})
	l.counter = binary.BigEndian.Uint64(data.Data.Buffer)
	return l
}

// ekName is the Name of the endorsement key, which stays as long as the TPM is the same.
func (d *domain) ekName() string {
	d.t.Helper()
	return hex.EncodeToString(ask(d, tpm2.ReadPublic{ObjectHandle: ekHandle}).Name.Buffer)
}

// srkName is the Name of the storage root key, which stays until the TPM is cleared.
func (d *domain) srkName() string {
	d.t.Helper()
	primary := ask(d, tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)})
	ask(d, tpm2.FlushContext{FlushHandle: primary.ObjectHandle})
	return hex.EncodeToString(primary.Name.Buffer)
}

// readPCR is the value of a PCR in the SHA-256 bank.
func (d *domain) readPCR(pcr uint) []byte {
	d.t.Helper()
	selection := tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcr)}}}
	values := ask(d, tpm2.PCRRead{PCRSelectionIn: selection}).PCRValues.Digests
	if len(values) != 1 {
		d.t.Fatalf("%s: the SHA-256 bank is not active", d.Name)
	}
	return values[0].Buffer
}

// banks are the active PCR banks, as the guest's kernel found them.
func (d *domain) banks() string {
	d.t.Helper()
	names := strings.Fields(d.sh("cd /sys/class/tpm/tpm0; echo pcr-*"))
	return strings.ReplaceAll(strings.Join(names, " "), "pcr-", "")
}

// wantGoesOn checks that a TPM holds all it held, and works.
func (d *domain) wantGoesOn(before look) {
	d.t.Helper()
	if after := d.look(); after != before {
		d.t.Errorf("the TPM holds\n%+v, not\n%+v", after, before)
	}
	d.work()
	if after := d.look(); after.counter != before.counter+1 || after.pcr == before.pcr {
		d.t.Errorf("after work the TPM holds\n%+v, before it\n%+v", after, before)
	}
}

// wantRestarted checks that a TPM was restarted: it holds what is permanent, and
// nothing else; the firmware has measured.
func (d *domain) wantRestarted(before look) {
	d.t.Helper()
	before.pcr, before.loaded = strings.Repeat("00", sha256.Size), ""
	if after := d.look(); after != before {
		d.t.Errorf("the TPM holds\n%+v, not\n%+v", after, before)
	}
	if bytes.Equal(d.readPCR(0), make([]byte, sha256.Size)) {
		d.t.Errorf("the firmware has not measured")
	}
	d.work()
}
