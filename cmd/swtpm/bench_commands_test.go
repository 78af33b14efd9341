package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// side is one of the two programs that are compared.
type side struct {
	t       testing.TB
	name    string
	program string
	dir     string
	options []string
	process *process
	ctrl    *net.UnixConn
	data    rawWire
	rows    []row            // of the present stage
	loaded  []tpm2.TPMHandle // objects of the present stage
}

// start starts the program and goes through QEMU's start: control socket,
// SET_DATAFD, buffer size, INIT, Startup.
func (s *side) start() {
	s.t.Helper()
	s.connect()
	s.control(initialize, nil, 4)
	s.control([]byte{0, 0, 0, 4}, nil, 8)
	s.control([]byte{0, 0, 0, 5, 0, 0, 0, 0}, nil, 4)
	if _, err := (tpm2.Startup{StartupType: tpm2.TPMSUClear}).Execute(s.data); err != nil {
		s.t.Fatalf("%s: %v", s.name, err)
	}
}

// initialize is INIT.
var initialize = []byte{0, 0, 0, 2, 0, 0, 0, 0}

// connect is the start until before INIT.
func (s *side) connect() {
	s.t.Helper()
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	path := join(s.dir, "ctrl")
	_ = os.Remove(path)
	cmd := exec.Command(s.program, append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + s.dir,
		"--ctrl", "type=unixio,path=" + path, "--log", "file=-", "--terminate"}, s.options...)...)
	s.process = startProcess(s.t, cmd)
	s.ctrl = s.process.dial("unix", path).(*net.UnixConn)
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.control([]byte{0, 0, 0, 16}, syscall.UnixRights(fds[1]), 4)
	syscall.Close(fds[1])
	s.data = rawWire(fds[0])
	s.control([]byte{0, 0, 0, 1}, nil, 8)
	s.control([]byte{0, 0, 0, 14}, nil, 4)
	s.control([]byte{0, 0, 0, 17, 0, 0, 0x0f, 0x80}, nil, 16)
}

// control runs a control command and wants success.
func (s *side) control(msg, oob []byte, n int) {
	s.t.Helper()
	if _, _, err := s.ctrl.WriteMsgUnix(msg, oob, nil); err != nil {
		s.t.Fatal(err)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(s.ctrl, b); err != nil || !bytes.Equal(b[:4], make([]byte, 4)) {
		s.t.Fatalf("%s: control command %d: %x %v", s.name, msg[3], b, err)
	}
}

// end ends the program in order.
func (s *side) end() {
	s.control([]byte{0, 0, 0, 3}, nil, 4)
	s.process.wait()
	syscall.Close(int(s.data))
	s.ctrl.Close()
}

// rawWire is a data channel that blocks in the kernel, as QEMU's does: a Go
// connection would measure this program's own poller besides.
type rawWire int

// Send runs one command.
func (w rawWire) Send(cmd []byte) ([]byte, error) {
	if _, err := syscall.Write(int(w), cmd); err != nil {
		return nil, err
	}
	b := make([]byte, 4096)
	n := 0
	for n < 10 || n < int(binary.BigEndian.Uint32(b[2:])) {
		k, err := syscall.Read(int(w), b[n:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil || k == 0 {
			return nil, fmt.Errorf("the data channel ended: %w", err)
		}
		n += k
	}
	return b[:n], nil
}

// recorder keeps the last command that passes.
type recorder struct {
	transport.TPM
	last []byte
}

// Send runs one command.
func (r *recorder) Send(cmd []byte) ([]byte, error) {
	r.last = bytes.Clone(cmd)
	return r.TPM.Send(cmd)
}

// execute runs one of go-tpm's commands.
func execute[R any](s *side, c interface {
	Execute(transport.TPM, ...tpm2.Session) (*R, error)
}) (*R, []byte) {
	s.t.Helper()
	rec := &recorder{TPM: s.data}
	rsp, err := c.Execute(rec)
	if err != nil {
		s.t.Fatalf("%s: %T: %v", s.name, c, err)
	}
	return rsp, rec.last
}

// add runs a command and makes a row of it.
func add[R any](s *side, name string, c interface {
	Execute(transport.TPM, ...tpm2.Session) (*R, error)
}) (*R, *row) {
	s.t.Helper()
	rsp, cmd := execute(s, c)
	s.rows = append(s.rows, row{name: name, cmd: cmd})
	return rsp, &s.rows[len(s.rows)-1]
}

// addFlush is add for a command that makes something, which goes again.
func addFlush[R any](s *side, name string, c interface {
	Execute(transport.TPM, ...tpm2.Session) (*R, error)
}, handle func(*R) tpm2.TPMHandle) {
	s.t.Helper()
	rsp, r := add(s, name, c)
	r.flush = true
	s.flush(uint32(handle(rsp)))
}

func auth(h tpm2.TPMHandle, name tpm2.TPM2BName) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: h, Name: name, Auth: tpm2.PasswordAuth(nil)}
}

// stages make the rows, in groups that leave room for the three transient
// objects that both programs hold.
var stages = []func(*side){
	(*side).prepareSimple,
	(*side).prepareNV,
	func(s *side) { s.prepareKeys("ECC", tpm2.ECCSRKTemplate, eccSigner(false)) },
	func(s *side) { s.prepareAttester("ECC", tpm2.ECCSRKTemplate, eccSigner(true)) },
	func(s *side) { s.prepareKeys("RSA", tpm2.RSASRKTemplate, rsaSigner(false)) },
	func(s *side) { s.prepareAttester("RSA", tpm2.RSASRKTemplate, rsaSigner(true)) },
	(*side).prepareSealed,
	(*side).prepareMAC,
	(*side).prepareDecrypt,
}

// clear ends a stage.
func (s *side) clear() {
	for _, h := range s.loaded {
		s.flush(uint32(h))
	}
	s.rows, s.loaded = nil, nil
}

func pcrSelection(pcr uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcr)}}}
}

func (s *side) prepareSimple() {
	add(s, "GetCapability", tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: 0x100, PropertyCount: 16})
	add(s, "GetRandom 32", tpm2.GetRandom{BytesRequested: 32})
	add(s, "PCR_Read", tpm2.PCRRead{PCRSelectionIn: pcrSelection(0)})
	add(s, "PCR_Extend", tpm2.PCRExtend{
		PCRHandle: auth(10, tpm2.TPM2BName{}),
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{
			{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
	})
	add(s, "ReadClock", tpm2.ReadClock{})
	add(s, "Hash 1024", tpm2.Hash{Data: tpm2.TPM2BMaxBuffer{Buffer: make([]byte, 1024)},
		HashAlg: tpm2.TPMAlgSHA256, Hierarchy: tpm2.TPMRHNull})
	addFlush(s, "StartAuthSession", tpm2.StartAuthSession{
		TPMKey: tpm2.TPMRHNull, Bind: tpm2.TPMRHNull, SessionType: tpm2.TPMSEHMAC,
		NonceCaller: tpm2.TPM2BNonce{Buffer: make([]byte, 16)},
		Symmetric:   tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull}, AuthHash: tpm2.TPMAlgSHA256,
	}, func(r *tpm2.StartAuthSessionResponse) tpm2.TPMHandle { return tpm2.TPMHandle(r.SessionHandle) })
}

func (s *side) prepareNV() {
	const index = tpm2.TPMHandle(0x01800010)
	execute(s, tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: 32,
		Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true, NoDA: true, NT: tpm2.TPMNTOrdinary},
	})})
	name := tpm2.TPM2BName{Buffer: []byte{0}}
	named := tpm2.NamedHandle{Handle: index, Name: name}
	_, r := add(s, "NV_Write 32", tpm2.NVWrite{AuthHandle: auth(index, name), NVIndex: named,
		Data: tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, 32)}})
	r.vary = 6 // in the data
	add(s, "NV_Read 32", tpm2.NVRead{AuthHandle: auth(index, name), NVIndex: named, Size: 32})
}

// eccSigner is a P-256 signing key, restricted or not.
func eccSigner(restricted bool) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: signerAttributes(restricted),
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(
				tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
		}),
	}
}

// rsaSigner is an RSA-2048 signing key, restricted or not.
func rsaSigner(restricted bool) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: signerAttributes(restricted),
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			KeyBits: 2048,
			Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(
				tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})},
		}),
	}
}

func signerAttributes(restricted bool) tpm2.TPMAObject {
	return tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
		UserWithAuth: true, NoDA: true, SignEncrypt: true, Restricted: restricted}
}

// primary makes a storage key, which stays for the stage.
func (s *side) primary(template tpm2.TPMTPublic) (tpm2.CreatePrimary, tpm2.AuthHandle) {
	c := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template)}
	srk, _ := execute(s, c)
	s.loaded = append(s.loaded, srk.ObjectHandle)
	return c, auth(srk.ObjectHandle, srk.Name)
}

// child makes a key and loads it for the stage.
func (s *side) child(parent tpm2.AuthHandle, c tpm2.Create) (tpm2.Load, tpm2.AuthHandle) {
	c.ParentHandle = parent
	key, _ := execute(s, c)
	load := tpm2.Load{ParentHandle: parent, InPrivate: key.OutPrivate, InPublic: key.OutPublic}
	loaded, _ := execute(s, load)
	s.loaded = append(s.loaded, loaded.ObjectHandle)
	return load, auth(loaded.ObjectHandle, loaded.Name)
}

func loadedHandle(r *tpm2.LoadResponse) tpm2.TPMHandle { return r.ObjectHandle }

// prepareKeys makes the rows of one kind of key.
func (s *side) prepareKeys(kind string, storage, signer tpm2.TPMTPublic) {
	primary, parent := s.primary(storage)
	create := tpm2.Create{ParentHandle: parent, InPublic: tpm2.New2B(signer)}
	load, key := s.child(parent, create)
	addFlush(s, "CreatePrimary "+kind, primary, func(r *tpm2.CreatePrimaryResponse) tpm2.TPMHandle { return r.ObjectHandle })
	// In the template's unique: the same key again and again would measure how
	// lucky one search for primes is.
	s.rows[len(s.rows)-1].vary = 10
	add(s, "Create "+kind, create)
	addFlush(s, "Load "+kind, load, loadedHandle)
	digest := tpm2.TPM2BDigest{Buffer: bytes.Repeat([]byte{7}, 32)}
	signature, _ := add(s, "Sign "+kind, tpm2.Sign{KeyHandle: key, Digest: digest,
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}})
	add(s, "VerifySignature "+kind, tpm2.VerifySignature{
		KeyHandle: tpm2.NamedHandle{Handle: key.Handle, Name: key.Name},
		Digest:    digest, Signature: signature.Signature})
	saved, _ := add(s, "ContextSave "+kind, tpm2.ContextSave{SaveHandle: key.Handle})
	addFlush(s, "ContextLoad "+kind, tpm2.ContextLoad{Context: saved.Context},
		func(r *tpm2.ContextLoadResponse) tpm2.TPMHandle { return tpm2.TPMHandle(r.LoadedHandle) })
}

// prepareAttester makes the rows of an attestation key.
func (s *side) prepareAttester(kind string, storage, attester tpm2.TPMTPublic) {
	_, parent := s.primary(storage)
	_, ak := s.child(parent, tpm2.Create{InPublic: tpm2.New2B(attester)})
	add(s, "Quote "+kind, tpm2.Quote{SignHandle: ak,
		QualifyingData: tpm2.TPM2BData{Buffer: make([]byte, 20)}, PCRSelect: pcrSelection(0)})
	made, _ := execute(s, tpm2.MakeCredential{Handle: parent.Handle,
		Credential: tpm2.TPM2BDigest{Buffer: make([]byte, 16)}, ObjectName: ak.Name})
	add(s, "ActivateCredential "+kind, tpm2.ActivateCredential{
		ActivateHandle: ak, KeyHandle: parent,
		CredentialBlob: made.CredentialBlob, Secret: made.Secret})
}

// prepareSealed makes the row of sealed data.
func (s *side) prepareSealed() {
	_, parent := s.primary(tpm2.ECCSRKTemplate)
	_, sealed := s.child(parent, tpm2.Create{
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: make([]byte, 32)})}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true, NoDA: true},
		}),
	})
	add(s, "Unseal", tpm2.Unseal{ItemHandle: sealed})
}

// prepareMAC makes the row of HMAC.
func (s *side) prepareMAC() {
	_, parent := s.primary(tpm2.ECCSRKTemplate)
	_, mac := s.child(parent, tpm2.Create{InPublic: tpm2.New2B(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: signerAttributes(false),
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{
			Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgHMAC, Details: tpm2.NewTPMUSchemeKeyedHash(
				tpm2.TPMAlgHMAC, &tpm2.TPMSSchemeHMAC{HashAlg: tpm2.TPMAlgSHA256})}}),
	})})
	add(s, "HMAC 1024", tpm2.Hmac{Handle: mac, Buffer: tpm2.TPM2BMaxBuffer{Buffer: make([]byte, 1024)},
		HashAlg: tpm2.TPMAlgSHA256})
}

// prepareDecrypt makes the rows of RSA encryption and decryption.
func (s *side) prepareDecrypt() {
	_, parent := s.primary(tpm2.ECCSRKTemplate)
	attributes := signerAttributes(false)
	attributes.SignEncrypt, attributes.Decrypt = false, true
	_, key := s.child(parent, tpm2.Create{InPublic: tpm2.New2B(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attributes,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048}),
	})})
	scheme := tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgOAEP, Details: tpm2.NewTPMUAsymScheme(
		tpm2.TPMAlgOAEP, &tpm2.TPMSEncSchemeOAEP{HashAlg: tpm2.TPMAlgSHA256})}
	text, _ := add(s, "RSA_Encrypt", tpm2.RSAEncrypt{KeyHandle: key.Handle,
		Message: tpm2.TPM2BPublicKeyRSA{Buffer: make([]byte, 32)}, InScheme: scheme})
	add(s, "RSA_Decrypt", tpm2.RSADecrypt{KeyHandle: key, CipherText: text.OutData, InScheme: scheme})
}
