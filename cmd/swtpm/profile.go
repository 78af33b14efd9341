package main

import (
	"bytes"
	"crypto/fips140"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/ashlar-cloud/ashlar/tpm"
)

// openProfile reads what --profile says, nil where it is not given.
func openProfile(value string) (*tpm.Profile, error) {
	if value == "" {
		return nil, nil
	}
	p, err := parseParams("profile", value, "name", "profile", "file", "fd", "remove-disabled")
	if err != nil {
		return nil, err
	}
	text, err := profileText(p)
	if err != nil {
		return nil, err
	}
	read := tpm.ParseProfile
	switch p.str("remove-disabled") {
	case "fips-host":
		read = tpm.FIPSHostProfile
	case "check":
		if fips140.Enabled() {
			read = tpm.FIPSHostProfile
		}
	default:
		if p.has("remove-disabled") {
			return nil, p.bad("remove-disabled", "check or fips-host")
		}
	}
	profile, err := read(bytes.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("--profile: %w", err)
	}
	return profile, nil
}

// profileText is the profile's JSON from where one parameter says that it is.
func profileText(p params) ([]byte, error) {
	given := 0
	for _, key := range []string{"name", "profile", "file", "fd"} {
		if p.has(key) {
			given++
		}
	}
	if given != 1 {
		return nil, fmt.Errorf("--profile takes one of name=, profile=, file= and fd=")
	}
	switch {
	case p.has("name"):
		return json.Marshal(map[string]string{"Name": p.str("name")})
	case p.has("profile"):
		return []byte(p.str("profile")), nil
	}
	f, err := profileFile(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, tpm.MaxProfile+1))
	if err != nil {
		return nil, fmt.Errorf("--profile: %w", err)
	}
	return b, nil
}

func profileFile(p params) (*os.File, error) {
	if p.has("fd") {
		return inherited(p, "fd")
	}
	f, err := os.Open(p.str("file"))
	if err != nil {
		return nil, fmt.Errorf("--profile: %w", err)
	}
	return f, nil
}
