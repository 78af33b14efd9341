package keybroker

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestMissingKEK wants no new key made beside secrets of the old one.
func TestMissingKEK(t *testing.T) {
	b := broker(t)
	kek := filepath.Join(b.dir, "kek")
	if err := os.Remove(kek); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(b.dir); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("opened without the key: %v", err)
	}
	if _, err := os.Stat(kek); err == nil {
		t.Error("a new key was made")
	}
}

func TestFolderOfOthers(t *testing.T) {
	b := broker(t)
	if err := os.Chmod(b.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(b.dir); err == nil || !strings.Contains(err.Error(), "written by others") {
		t.Errorf("a folder that everybody writes to was opened: %v", err)
	}
	if err := os.Chmod(b.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	kek := filepath.Join(b.dir, "kek")
	if err := os.Rename(kek, kek+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(kek+".moved", kek); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(b.dir); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a link was taken for the key: %v", err)
	}
}

// TestAtOnce opens a new folder and puts one secret from many sides at once: each
// succeeds, what is read is whole, and nothing is left over.
func TestAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a [b]*")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			b, err := Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			for range 20 {
				if err := b.Put("x", bytes.Repeat([]byte{byte(i)}, 1000), Rule{}); err != nil {
					t.Error(err)
				}
				if _, got, err := b.load("x"); err != nil || len(got) != 1000 || !bytes.Equal(got, bytes.Repeat(got[:1], 1000)) {
					t.Errorf("%d bytes: %v", len(got), err)
				}
			}
		})
	}
	wg.Wait()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("%v: %v", fmt.Sprint(files), err)
	}
}
