package guest

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStaticProgramRefuses(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := staticProgram(text); err == nil || !strings.Contains(err.Error(), "no program") {
		t.Errorf("a script as the guest's program: %v", err)
	}
	if _, err := os.Stat("/usr/bin/env"); err != nil {
		t.Skip("no /usr/bin/env to stand for a dynamically linked program")
	}
	if _, err := staticProgram("/usr/bin/env"); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("a dynamically linked program: %v; want the remedy named", err)
	}
}

func TestInitramfsIsReproducible(t *testing.T) {
	host, _ := FindHost()
	if host.Busybox == "" {
		t.Skip("needs the package busybox-static")
	}
	var a, b bytes.Buffer
	for _, out := range []*bytes.Buffer{&a, &b} {
		if err := Initramfs(out, host.Busybox, ""); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("the same inputs give different archives")
	}
}

func TestKernelFromTar(t *testing.T) {
	archive := func(name, content string) *bytes.Buffer {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		for _, member := range [][2]string{{"./boot/config", "x"}, {name, content}} {
			header := &tar.Header{Name: member[0], Size: int64(len(member[1])), Mode: 0o644}
			if err := w.WriteHeader(header); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(member[1])); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return &out
	}
	got, err := kernelFromTar(archive("./boot/vmlinuz-6.1", "kernel"))
	if err != nil || string(got) != "kernel" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := kernelFromTar(archive("./boot/other", "x")); err == nil {
		t.Error("a package without a kernel was accepted")
	}
	whole := archive("./boot/vmlinuz-6.1", strings.Repeat("k", 4096)).Bytes()
	if _, err := kernelFromTar(bytes.NewReader(whole[:2500])); err == nil {
		t.Error("a cut package was accepted")
	}
}
