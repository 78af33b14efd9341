package crypt

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// oracle is Debian's swtpm, with the seeds and proofs read from its state.
type oracle struct {
	t    *testing.T
	conn net.Conn
	hierarchies
}

// hierarchies are the secrets of a TPM from which primary objects follow.
type hierarchies struct {
	EPS, SPS, PPS, PHProof, SHProof, EHProof []byte
}

func startOracle(t *testing.T) *oracle {
	t.Helper()
	for _, tool := range []string{"swtpm", "swtpm_setup"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: the comparison with libtpms is skipped", tool)
		}
	}
	dir, err := os.MkdirTemp("", "oracle") // t.TempDir's paths are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if out, err := exec.Command("swtpm_setup", "--tpm2", "--tpmstate", dir).CombinedOutput(); err != nil {
		t.Fatalf("swtpm_setup: %v\n%s", err, out)
	}
	state, err := os.ReadFile(filepath.Join(dir, "tpm2-00.permall"))
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+socket, "--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	o := &oracle{t: t, hierarchies: readHierarchies(t, state)}
	for range 200 {
		if o.conn, err = net.Dial("unix", socket); err == nil {
			t.Cleanup(func() { o.conn.Close() })
			return o
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("swtpm does not answer: %v", err)
	return nil
}

// readHierarchies finds the secrets in a plain state file: PERSISTENT_DATA
// version 4 has, after its header, disableClear, three algorithms, three
// policies and three authorization values.
func readHierarchies(t *testing.T, state []byte) hierarchies {
	t.Helper()
	at := bytes.Index(state, []byte{0, 4, 0x12, 0x21, 0x34, 0x43, 0, 4})
	if at < 0 {
		t.Skip("the state that swtpm writes has no PERSISTENT_DATA of version 4")
	}
	rest := state[at+8+1+3*2:]
	next := func() []byte {
		n := int(binary.BigEndian.Uint16(rest))
		b := rest[2 : 2+n]
		rest = rest[2+n:]
		return b
	}
	for range 6 {
		next()
	}
	return hierarchies{
		EPS: next(), SPS: next(), PPS: next(),
		PHProof: next(), SHProof: next(), EHProof: next(),
	}
}

// run runs one command with an empty password per authorized handle and gives
// its response, where it succeeds.
func (o *oracle) run(cc uint32, handles []uint32, auths int, params []byte) []byte {
	o.t.Helper()
	rc, response := o.try(cc, handles, auths, params)
	for i := 0; rc == tpm2.RCRetry && i < 100; i++ { // a self-test runs first
		rc, response = o.try(cc, handles, auths, params)
	}
	if rc != tpm2.RCSuccess {
		o.t.Fatalf("swtpm answers command 0x%x with %v", cc, rc)
	}
	return response
}

func (o *oracle) try(cc uint32, handles []uint32, auths int, params []byte) (tpm2.RC, []byte) {
	o.t.Helper()
	return o.command(cc, handles, bytes.Repeat([]byte{0x40, 0, 0, 9, 0, 0, 0, 0, 0}, auths), params)
}

func (o *oracle) command(cc uint32, handles []uint32, auth, params []byte) (tpm2.RC, []byte) {
	o.t.Helper()
	be := binary.BigEndian
	body := be.AppendUint32(nil, cc)
	for _, h := range handles {
		body = be.AppendUint32(body, h)
	}
	tag := uint16(0x8001)
	if len(auth) > 0 {
		tag = 0x8002
		body = append(be.AppendUint32(body, uint32(len(auth))), auth...)
	}
	body = append(body, params...)
	cmd := be.AppendUint32(be.AppendUint16(nil, tag), uint32(6+len(body)))
	if _, err := o.conn.Write(append(cmd, body...)); err != nil {
		o.t.Fatal(err)
	}
	head := make([]byte, 10)
	if _, err := io.ReadFull(o.conn, head); err != nil {
		o.t.Fatal(err)
	}
	response := make([]byte, be.Uint32(head[2:])-10)
	if _, err := io.ReadFull(o.conn, response); err != nil {
		o.t.Fatal(err)
	}
	return tpm2.RC(be.Uint32(head[6:])), response
}

// createPrimary gives the object's handle and public area.
func (o *oracle) createPrimary(hierarchy uint32, template, data []byte) (handle uint32, public []byte) {
	o.t.Helper()
	params := binary.BigEndian.AppendUint16(nil, uint16(4+len(data)))
	params = append(params, 0, 0)
	params = append2B(params, data)
	params = append2B(params, template)
	params = append(params, 0, 0, 0, 0, 0, 0) // outsideInfo, creationPCR
	r := o.run(ccCreatePrimary, []uint32{hierarchy}, 1, params)
	handle = binary.BigEndian.Uint32(r)
	r = r[8:] // handle, parameterSize
	return handle, r[2 : 2+binary.BigEndian.Uint16(r)]
}

func (o *oracle) flush(handle uint32) {
	o.t.Helper()
	o.run(ccFlushContext, nil, 0, binary.BigEndian.AppendUint32(nil, handle))
}

const (
	ccCreatePrimary      = 0x131
	ccActivateCredential = 0x147
	ccDuplicate          = 0x14B
	ccCreate             = 0x153
	ccImport             = 0x156
	ccLoad               = 0x157
	ccUnseal             = 0x15E
	ccFlushContext       = 0x165
	ccMakeCredential     = 0x168
	ccPolicyCommandCode  = 0x16C
	ccStartAuthSession   = 0x176
	ccEncryptDecrypt2    = 0x193

	rhOwner       = 0x40000001
	rhNull        = 0x40000007
	rhEndorsement = 0x4000000B
	rhPlatform    = 0x4000000C
)

// secrets are what the primary objects of a hierarchy follow from.
func (h hierarchies) secrets(hierarchy uint32) (seed []byte, proofs [][]byte) {
	switch hierarchy {
	case rhPlatform:
		return h.PPS, nil
	case rhEndorsement:
		return h.EPS, [][]byte{h.SHProof, h.EHProof}
	}
	return h.SPS, nil
}

// duplicatePolicy is the policy PolicyCommandCode(TPM_CC_Duplicate).
func duplicatePolicy(alg tpm2.AlgID) []byte {
	be := binary.BigEndian
	codes := be.AppendUint32(be.AppendUint32(nil, ccPolicyCommandCode), ccDuplicate)
	return alg.Digest(make([]byte, alg.DigestSize()), codes)
}

// duplicate gives the TPMT_SENSITIVE of an object whose policy is
// duplicatePolicy, without any wrap.
func (o *oracle) duplicate(handle uint32, policyAlg tpm2.AlgID) []byte {
	o.t.Helper()
	r := response(o.duplicateTo(handle, rhNull, policyAlg, []byte{0, 0, 0, 0x10}))
	r.next2B() // encryptionKeyOut
	return r.next2B()[2:]
}

// duplicateTo gives the parameters of Duplicate's response.
func (o *oracle) duplicateTo(handle, parent uint32, policyAlg tpm2.AlgID, params []byte) []byte {
	o.t.Helper()
	be := binary.BigEndian
	start := append2B(nil, make([]byte, 16))
	start = append(start, 0, 0, 1, 0, 0x10) // no salt, policy session, no symmetric
	start = be.AppendUint16(start, uint16(policyAlg))
	session := be.Uint32(o.run(ccStartAuthSession, []uint32{rhNull, rhNull}, 0, start))
	o.run(ccPolicyCommandCode, []uint32{session}, 0, be.AppendUint32(nil, ccDuplicate))
	auth := append(be.AppendUint32(nil, session), 0, 0, 0, 0, 0)
	rc, r := o.command(ccDuplicate, []uint32{handle, parent}, auth, params)
	if rc != tpm2.RCSuccess {
		o.t.Fatalf("swtpm answers Duplicate with %v", rc)
	}
	return r[4:] // without parameterSize
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
