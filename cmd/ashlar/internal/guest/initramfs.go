package guest

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	_ "embed"
	"fmt"
	"io"
	"os"
)

//go:embed init.sh
var initScript []byte

//go:embed ima-policy
var imaPolicy []byte

// Attester is where the guest's own ashlar lies, and Dir where its files may be put.
const (
	Attester = "/bin/ashlar"
	Dir      = "/run"
)

// Initramfs writes the guest's initramfs to w: the first program, the IMA policy,
// the static busybox and, unless attester is "", the static ashlar, both given by
// their paths on the host. The same inputs give the same bytes.
func Initramfs(w io.Writer, busybox, attester string) error {
	programs := []struct{ name, path string }{{"bin/busybox", busybox}}
	if attester != "" {
		programs = append(programs, struct{ name, path string }{"bin/ashlar", attester})
	}
	// Hashing for four banks and unpacking both cost time in an emulated machine:
	// the lightest compression gains the most.
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	archive := &cpioWriter{w: zip}
	for _, dir := range []string{"bin", "dev", "etc", "proc", "run", "sys", "tmp"} {
		archive.dir(dir)
	}
	archive.file("init", 0o755, initScript)
	archive.file("etc/ima-policy", 0o644, imaPolicy)
	archive.symlink("bin/sh", "busybox")
	for _, program := range programs {
		data, err := staticProgram(program.path)
		if err != nil {
			return err
		}
		archive.file(program.name, 0o755, data)
	}
	if err := archive.close(); err != nil {
		return err
	}
	return zip.Close()
}

// staticProgram reads an executable and refuses one that needs a dynamic loader,
// which the guest does not have and which would show only as a failed boot.
func staticProgram(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	program, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s is no program for the guest: %w", path, err)
	}
	if program.Machine != elf.EM_X86_64 {
		return nil, fmt.Errorf("%s is built for %s; the guest is x86-64", path, program.Machine)
	}
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%s is linked dynamically; the guest needs it static (CGO_ENABLED=0)", path)
		}
	}
	return data, nil
}
