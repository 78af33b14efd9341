package guest

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// cpioSample writes one member of each kind, with sizes around the padding.
func cpioSample(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	c := &cpioWriter{w: &out}
	c.dir("bin")
	c.file("bin/a", 0o755, []byte("x"))
	c.file("bin/empty", 0o644, nil)
	c.file("bin/four", 0o600, []byte("four"))
	c.symlink("bin/sh", "a")
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestCpioIsReadByCpio(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("needs the package cpio, an independent reader of the format")
	}
	unpack := exec.Command("cpio", "-i", "--quiet")
	unpack.Dir = t.TempDir()
	unpack.Stdin = bytes.NewReader(cpioSample(t))
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("cpio -i: %v: %s", err, out)
	}
	list := exec.Command("sh", "-c", "stat -c '%n %A %s' bin bin/a bin/empty bin/four; readlink bin/sh; cat bin/a bin/four")
	list.Dir = unpack.Dir
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(string(out)), " ")
	for _, want := range []string{
		"bin drwxr-xr-x", "bin/a -rwxr-xr-x 1", "bin/empty -rw-r--r-- 0", "bin/four -rw------- 4", "a xfour",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("unpacked archive lacks %q: %s", want, got)
		}
	}
}

func TestCpioIsReproducible(t *testing.T) {
	if !bytes.Equal(cpioSample(t), cpioSample(t)) {
		t.Error("the same members give different bytes; the archive is measured, so reference values would break")
	}
	if n := len(cpioSample(t)); n%4 != 0 {
		t.Errorf("archive of %d bytes is not padded to 4", n)
	}
}

func TestCpioRefusesHugeMember(t *testing.T) {
	c := &cpioWriter{w: &bytes.Buffer{}}
	c.file("huge", 0o644, make([]byte, cpioMax+1))
	if err := c.close(); err == nil || !strings.Contains(err.Error(), "huge") {
		t.Errorf("a member over the limit: %v", err)
	}
}
