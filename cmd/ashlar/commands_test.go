package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm"
)

var commandsUpdate = flag.Bool("commands.update", false, "write docs/commands.md anew")

// TestCommandsPage holds docs/commands.md to the code.
func TestCommandsPage(t *testing.T) {
	const page = "../../docs/commands.md"
	want := commandsPage()
	if *commandsUpdate {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil || string(got) != want {
		t.Errorf("%s is not what the code says: go test ./cmd/ashlar -run TestCommandsPage -commands.update (%v)", page, err)
	}
}

// commandsPage is docs/commands.md.
func commandsPage() string {
	var b strings.Builder
	all := tpm.Specification()
	fmt.Fprintf(&b, `# The commands

The %d commands of the TPM 2.0 Library Specification up to version 1.85; %d of them are supported. This page is what `+"`ashlar tpm commands`"+` prints (`+"`--json`"+` for a program), and a test holds it to the code.

- **Since**: the version of the specification that brought it. 0x155 and 0x15B are also TPM2_MAC and TPM2_MAC_Start.
- **Profiles**: which of null, default-v1, default-v2 and ashlar-v1 show it. What a profile does not show, and what is not supported, answers TPM_RC_COMMAND_CODE.
- **Authorization**: the handles that need one, each with its role (Part 1, 19.2).
- **Encrypted**: whose first parameter a session can encrypt.
- **Attributes**: the bits of TPMA_CC that are set, besides the number of handles.

`, len(all), len(tpm.Commands()))
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(commandHeads[:], " | "), strings.Repeat("---|", len(commandHeads)))
	for _, c := range all {
		row := commandRow(&c)
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row[:], " | "))
	}
	return b.String()
}

// TestProfilesPage: docs/profiles.md names every profile and attribute, and no
// attribute that there is not.
func TestProfilesPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/profiles.md")
	if err != nil {
		t.Fatal(err)
	}
	var attributes []string
	for _, p := range tpm.Profiles() {
		attributes = strings.Split(p.Attributes().Implemented, ",")
		if !strings.Contains(string(page), "\n| `"+p.Name()+"`") {
			t.Errorf("the profile %s is not in the page", p.Name())
		}
	}
	_, table, _ := strings.Cut(string(page), "| attribute |")
	var named []string
	for line := range strings.Lines(table) {
		if first, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | "); ok && strings.HasPrefix(first, "`") {
			named = append(named, strings.Split(strings.ReplaceAll(first, "`", ""), ", ")...)
		}
	}
	slices.Sort(named)
	slices.Sort(attributes)
	if !slices.Equal(named, attributes) {
		t.Errorf("the page has the attributes %v, there are %v", named, attributes)
	}
}

// TestCommandList looks at some commands in both forms.
func TestCommandList(t *testing.T) {
	var text, asJSON, errs bytes.Buffer
	if code := run(t.Context(), []string{"tpm", "commands"}, nil, &text, &errs); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	if code := run(t.Context(), []string{"tpm", "commands", "--json"}, nil, &asJSON, &errs); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	rows := map[string]string{}
	for line := range strings.Lines(text.String()) {
		rows[strings.Fields(line)[0]] = strings.Join(strings.Fields(line), " ")
	}
	for code, want := range map[string]string{
		"0x120": "0x120 EvictControl 1.16 yes all auth USER nv",
		"0x11F": "0x11F NV_UndefineSpaceSpecial 1.16 yes all nvIndex ADMIN, platform USER nv",
		"0x144": "0x144 Startup 1.16 yes all no sessions nv",
		"0x14B": "0x14B Duplicate 1.16 yes all objectHandle DUP command, response",
		"0x12F": "0x12F FieldUpgradeStart 1.16 no: the TPM is a program, which its host replaces",
		"0x19B": "0x19B PolicyCapability 1.83 yes ashlar-v1, default-v2, default-v1 command",
		"0x1A0": "0x1A0 ReadOnlyControl 1.84 yes ashlar-v1 authHandle USER nv",
		"0x1A7": "0x1A7 Encapsulate 1.85 no: version 1.85 of the specification is not implemented yet",
	} {
		if rows[code] != want {
			t.Errorf("%q, want %q", rows[code], want)
		}
	}
	var list []listedCommand
	if err := json.Unmarshal(asJSON.Bytes(), &list); err != nil || len(list) != len(rows)-1 {
		t.Fatalf("%d commands in JSON, %d in the table: %v", len(list), len(rows)-1, err)
	}
	if c := list[0]; c.Code != "0x11f" || !c.Supported || len(c.Handles) != 2 || c.Handles[0] != (listedHandle{"nvIndex", "ADMIN"}) || len(c.Profiles) != 4 {
		t.Errorf("%+v", c)
	}
	if c := list[len(list)-1]; c.Code != "0x1aa" || c.Supported || c.NotSupported == "" || c.Profiles != nil {
		t.Errorf("%+v", c)
	}
}
