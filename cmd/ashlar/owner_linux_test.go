package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestFilesAreTheOwners: what root makes in another user's directory is that user's, or
// its swtpm could not use it.
func TestFilesAreTheOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make what is another user's")
	}
	open, err := os.MkdirTemp("", "open")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(open) })
	dir, file := filepath.Join(open, "tpm"), filepath.Join(t.TempDir(), "key")
	must(t, errors.Join(os.Chmod(open, 0o755), os.Mkdir(dir, 0o700), os.Chown(dir, otherUser, otherUser)))
	must(t, os.WriteFile(file, []byte("0123456789abcdef"), 0o600))
	key := "file=" + file + ",format=binary"
	for _, args := range [][]string{{"manufacture", dir}, {"rekey", dir, "--new-key", key}, {"export", dir, filepath.Join(t.TempDir(), "out"), "--key", key}} {
		if code, complaint := ashlar(t, append([]string{"tpm"}, args...)...); code != 0 {
			t.Errorf("%s: exit code %d: %s", args[0], code, complaint)
		}
		list, err := os.ReadDir(dir)
		must(t, err)
		for _, e := range list {
			st, err := owner(filepath.Join(dir, e.Name()))
			must(t, err)
			if st.Uid != otherUser || st.Gid != otherUser {
				t.Errorf("%s: %s is of user %d and group %d", args[0], e.Name(), st.Uid, st.Gid)
			}
		}
		if len(list) != 2 {
			t.Errorf("%s: there is %v", args[0], list)
		}
	}
	must(t, os.Chmod(open, 0o700))
	if code, complaint := ashlar(t, "tpm", "rekey", dir, "--key", key, "--new-key", "none"); code != 0 {
		t.Errorf("where the owner cannot come: exit code %d: %s", code, complaint)
	}
}
