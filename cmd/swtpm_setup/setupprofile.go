package main

import (
	"bytes"
	"crypto/fips140"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/ashlar-cloud/ashlar/swtpm"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// distroProfiles is where a distribution keeps profiles.
const distroProfiles = "/usr/share/swtpm/profiles"

// readProfile reads the profile of the new TPM, nil where none is chosen.
func (s *setupRun) readProfile() (*tpm.Profile, error) {
	if s.reconfigure {
		return nil, nil
	}
	text, err := s.profileText()
	if text == nil || err != nil {
		return nil, err
	}
	read := tpm.ParseProfile
	switch s.removeDisabled {
	case "":
	case "check":
		if fips140.Enabled() {
			read = tpm.FIPSHostProfile
		}
	case "fips-host":
		read = tpm.FIPSHostProfile
	default:
		return nil, fmt.Errorf("--profile-remove-disabled %s is neither check nor fips-host", s.removeDisabled)
	}
	return read(bytes.TrimSpace(text))
}

// profileText is the profile's JSON from where options or configuration say that
// it is, nil where they do not.
func (s *setupRun) profileText() ([]byte, error) {
	switch {
	case s.profile != "":
		return []byte(s.profile), nil
	case s.profileName != "":
		return s.namedProfile(s.profileName)
	case s.profileFile != "":
		return readLimited(s.profileFile, tpm.MaxProfile)
	case s.profileFD != "":
		fd, err := strconv.ParseUint(s.profileFD, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("--profile-file-fd: invalid file descriptor '%s'", s.profileFD)
		}
		return readLimited(fmt.Sprintf("/dev/fd/%d", fd), tpm.MaxProfile)
	}
	if path, _ := s.conf.value("profile_file"); path != "" {
		return readLimited(path, tpm.MaxProfile)
	}
	switch text, _ := s.conf.value("profile"); {
	case text == "":
		return nil, nil
	case strings.HasPrefix(text, "{"):
		return []byte(text), nil
	default:
		return named(text)
	}
}

// named is the JSON that chooses a profile by its name alone.
func named(name string) ([]byte, error) { return json.Marshal(map[string]string{"Name": name}) }

// namedProfile finds a profile in the user's directory, in the distribution's, or
// among those of the engine; a prefix says where to look.
func (s *setupRun) namedProfile(name string) ([]byte, error) {
	if !regexp.MustCompile(`^[A-Za-z0-9.:-]+$`).MatchString(name) {
		return nil, fmt.Errorf("profile name '%s' contains unacceptable characters", name)
	}
	local, _ := s.conf.value("local_profiles_dir")
	for _, from := range []struct{ prefix, dir string }{{"local:", local}, {"distro:", distroProfiles}} {
		file, only := strings.CutPrefix(name, from.prefix)
		path := filepath.Join(from.dir, file+".json")
		if from.dir != "" {
			if _, err := os.Stat(path); err == nil {
				return readLimited(path, tpm.MaxProfile)
			}
		}
		if only {
			return nil, fmt.Errorf("could not find or access profile '%s'", name)
		}
	}
	return named(strings.TrimPrefix(name, "builtin:"))
}

// printProfiles lists the profiles that --profile-name knows, by the names that
// it knows them by.
func (s *setupRun) printProfiles() error {
	path, err := userFile(s.config, "swtpm_setup.conf")
	if err == nil {
		s.conf, err = readConfig(path)
	}
	if err != nil {
		return fmt.Errorf("the configuration cannot be read: %w", err)
	}
	var list struct {
		Local   []json.RawMessage `json:"local,omitempty"`
		Distro  []json.RawMessage `json:"distro,omitempty"`
		Builtin []json.RawMessage `json:"builtin"`
	}
	local, _ := s.conf.value("local_profiles_dir")
	list.Local, list.Distro = profilesIn(local), profilesIn(distroProfiles)
	var engine struct{ AvailableProfiles []json.RawMessage }
	if err := json.Unmarshal(swtpm.Info(swtpm.InfoProfiles, profileOrNull(nil)), &engine); err != nil {
		return err
	}
	list.Builtin = engine.AvailableProfiles
	enc := json.NewEncoder(s.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(list)
}

// profilesIn reads a directory's profiles, each under the name of its file. What is
// none is left out.
func profilesIn(dir string) (list []json.RawMessage) {
	if dir == "" {
		return nil
	}
	paths, _ := filepath.Glob(filepath.Join(dir, "*.json")) // it can only be the pattern that is bad
	for _, path := range paths {
		text, err := readLimited(path, tpm.MaxProfile)
		if err != nil {
			continue
		}
		var p map[string]json.RawMessage
		if json.Unmarshal(text, &p) != nil || p["Name"] == nil {
			continue
		}
		if p["Name"], err = json.Marshal(strings.TrimSuffix(filepath.Base(path), ".json")); err != nil {
			continue
		}
		if text, err = json.Marshal(p); err == nil {
			list = append(list, text)
		}
	}
	return list
}
