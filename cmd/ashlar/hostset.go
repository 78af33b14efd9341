package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/swtpm"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// hostSet is the TPMs below some directories, and what is to come of them.
type hostSet struct {
	roots           []string
	dry, back, drop bool
	libvirt         bool
	option          string // of --key
	key             *swtpm.Key
	virsh           string
	claimed         map[uint64]int64 // bytes that a dry run has promised, by file system
}

// roomEach is what a TPM takes on the disk at most, where it is no monster: its state
// in two slots, and the running one.
const roomEach = 256 << 10

// open reads what the flags name.
func (s *hostSet) open(dirs []string) (err error) {
	s.claimed = make(map[uint64]int64)
	if s.roots = dirs; len(dirs) == 0 {
		if s.roots, err = libvirtRoots(); err != nil {
			return err
		}
	}
	if s.libvirt {
		if s.virsh, err = findVirsh(); err != nil {
			return err
		}
	}
	return s.readCommonKey()
}

func (s *hostSet) close() { s.key.Wipe() }

// libvirtRoots is where libvirt keeps its TPMs: the system's for root, else the user's.
// Where there is none, there are no TPMs.
func libvirtRoots() ([]string, error) {
	root := "/var/lib/libvirt/swtpm"
	if os.Geteuid() != 0 {
		config, err := os.UserConfigDir()
		if err != nil {
			return nil, fmt.Errorf("where libvirt keeps its TPMs is not known; name a DIR: %w", err)
		}
		root = filepath.Join(config, "libvirt", "qemu", "swtpm")
	}
	if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return []string{root}, nil
}

// findTPMs lists the directories below the roots that hold a TPM, and the roots that
// are files. What cannot be read is among them, with its reason.
func findTPMs(roots []string) (list []*hostTPM, err error) {
	seen := make(map[string]bool)
	add := func(path string, lack error) {
		if !seen[path] {
			seen[path] = true
			list = append(list, &hostTPM{Path: path, Domain: domainOf(path), lack: lack})
		}
	}
	for _, root := range roots {
		info, err := os.Stat(root)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			add(root, nil)
			continue
		}
		if root, err = filepath.EvalSymlinks(root); err != nil {
			return nil, err
		}
		err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist): // it was undefined meanwhile
			case err != nil:
				add(path, err)
				return fs.SkipDir
			case !e.IsDir() && slices.Contains(swtpm.StateNames(), e.Name()):
				add(filepath.Dir(path), nil)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// domainOf is the UUID of the domain that a directory is of: the last that is part of
// its path.
func domainOf(path string) string {
	for ; path != filepath.Dir(path); path = filepath.Dir(path) {
		if base := filepath.Base(path); uuid.MatchString(base) {
			return strings.ToLower(base)
		}
	}
	return ""
}

// settle finds out what a TPM is and does with it what is to be done.
func (s *hostSet) settle(x *hostTPM) {
	if x.lack != nil {
		x.refuse(x.lack.Error())
		return
	}
	key, own, err := s.keyOf(x)
	if err != nil {
		x.refuse(err.Error())
		return
	}
	defer func() {
		if key != s.key {
			key.Wipe()
		}
	}()
	if err = sameOwner(x.Path); err == nil {
		err = asOwner(x.Path, func() error { return s.decide(x, key, own) })
	}
	var not *tpm.NotCarried
	switch {
	case err == nil:
	case errors.As(err, &not):
		x.refuse(not.Things...)
	case errors.Is(err, store.ErrLocked) && !s.back: // it was started meanwhile
		x.Running, x.Outcome = true, later
	default:
		x.refuse(err.Error())
	}
}

// decide looks at a TPM, and moves it where it can go and this is no dry run. own says
// that the key is this TPM's and no other's.
func (s *hostSet) decide(x *hostTPM, key *swtpm.Key, own bool) error {
	if info, err := os.Stat(x.Path); err != nil {
		return err
	} else if !info.IsDir() {
		return errors.New("it is one file, which is taken over into a directory: by ashlar tpm import")
	}
	r, err := s.look(x)
	if err != nil {
		return err
	}
	switch {
	case r.TPM12 && !s.back:
		return errors.New("it is a TPM 1.2, and there is none here: it stays with swtpm")
	case r.Ours != s.back:
		x.Outcome = already
		return nil
	case x.Running && s.back:
		return errors.New("it runs: shut the machine down first")
	case r.Encrypted && key == nil:
		return errors.New("it is encrypted, and its key is not known: give it by --key, or let libvirt be asked by --libvirt")
	case !r.Encrypted && key != nil && own:
		return errors.New("it is not encrypted, and there is a key for it: anybody may have put it there, and neither swtpm starts it so")
	case !r.Encrypted:
		key = nil
	}
	if s.dry || x.Running {
		return s.examine(x, key)
	}
	return s.move(x, key, r.Mode)
}

// look fills in what a TPM is.
func (s *hostSet) look(x *hostTPM) (r swtpm.Resident, err error) {
	if x.PID, x.Running, err = store.Holder(x.Path); err != nil {
		return r, fmt.Errorf("%w: it cannot be seen whether the TPM runs", err)
	}
	if r, err = swtpm.Inspect(x.Path); err != nil {
		return r, err
	}
	x.Program, x.Version = "swtpm", "2.0"
	switch {
	case r.Ours:
		x.Program = "ashlar"
	case r.TPM12:
		x.Version = "1.2"
	}
	x.Encrypted, x.KeyBits, x.Suspended = r.Encrypted, r.KeyBits, r.Suspended
	if r.Overtaken {
		x.Notes = append(x.Notes, "swtpm's file was written after Ashlar's, which counts: see that swtpm has not run here since")
	}
	return r, nil
}

// examine tells whether a TPM could go.
func (s *hostSet) examine(x *hostTPM, key *swtpm.Key) (err error) {
	if s.back {
		var d *store.Dir
		if d, err = store.OpenDir(x.Path, store.Options{}); err != nil {
			return err
		}
		var b []byte
		b, err = swtpm.Export(d, key, engineConfig(), key, s.drop)
		clear(b)
	} else {
		x.Profile, err = swtpm.Examine(x.Path, key, engineConfig())
	}
	if err != nil {
		return err
	}
	if err := s.claim(x.Path); err != nil {
		return err
	}
	if x.Outcome = canGo; x.Running {
		x.Outcome = later
	}
	return nil
}

// claim sees to it that there is room for a TPM in its directory, beside the ones
// that were promised it already.
func (s *hostSet) claim(dir string) error {
	device, free, err := writable(dir)
	if err != nil {
		return err
	}
	if s.claimed[device] += roomEach; s.claimed[device] > free {
		return errors.New("there is no room for it on the disk")
	}
	return nil
}

// move takes a TPM over, or gives it back.
func (s *hostSet) move(x *hostTPM, key *swtpm.Key, mode fs.FileMode) (err error) {
	x.State, err = lockedMode(x.Path, mode, func(d *store.Dir) (string, error) {
		if s.back {
			return swtpm.GiveBack(d, key, engineConfig(), mode, s.drop)
		}
		return swtpm.TakeOver(d, key, engineConfig())
	})
	if err == nil {
		x.Outcome = done
	}
	return err
}
