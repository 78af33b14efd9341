package tpm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/blob"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// profileOf parses a profile that must be valid.
func profileOf(t testing.TB, text string) *Profile {
	t.Helper()
	p, err := ParseProfile([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

// chosenRig is a started TPM whose profile is parsed from text.
func chosenRig(t *testing.T, text string) *rig {
	t.Helper()
	return newRigOf(t, profileOf(t, text), true)
}

// algorithmsWithout is libtpms' list without some items, and with more.
func algorithmsWithout(without, more string) string {
	leave := strings.Split(without, ",")
	items := slices.DeleteFunc(strings.Split(algorithmsLibtpms, ","), func(s string) bool { return slices.Contains(leave, s) })
	if more != "" {
		items = append(items, more)
	}
	return strings.Join(items, ",")
}

func customAlgorithms(list string) string {
	return fmt.Sprintf(`{"Name":"custom","Algorithms":"%s"}`, list)
}
func customCommands(list string) string {
	return fmt.Sprintf(`{"Name":"custom","Commands":"%s"}`, list)
}

// TestProfileRefusals holds every refusal to its one sentence.
func TestProfileRefusals(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{``, "not a JSON object"},
		{`null`, "not a JSON object"},
		{`["null"]`, "not a JSON object"},
		{strings.Repeat(" ", MaxProfile+1), "is the limit"},
		{`{}`, "has no Name"},
		{`{"Name":""}`, "Name is empty"},
		{`{"Name":7}`, "Name is not a string"},
		{`{"Name":null}`, "Name is not a string"},
		{`{"name":"null"}`, `a member "name"`},
		{`{"Name":"default"}`, `no profile "default"`},
		{`{"Name":"customs"}`, `no profile "customs"`},
		{`{"Name":"custom:a\"b"}`, "a quote or a backslash"},
		{`{"Name":"custom","Description":"caf\u00e9"}`, "not printable ASCII"},
		{`{"Name":"default-v1","Algorithms":"rsa"}`, "cannot be changed"},
		{`{"Name":"null","StateFormatLevel":1}`, "cannot be changed"},
		{`{"Name":"null","Description":"mine"}`, "cannot be changed"},
		{`{"Name":"ashlar-v1","Attributes":""}`, "cannot be changed"},
		{`{"Name":"custom","StateFormatLevel":1}`, "below the smallest, 2"},
		{`{"Name":"custom","StateFormatLevel":"7"}`, "not a number"},
		{`{"Name":"custom","StateFormatLevel":9}`, "above the highest, 8"},
		{customAlgorithms("rsa,sha3-256"), `"sha3-256", which is not one of a TPM's`},
		{customAlgorithms(algorithmsWithout("sha256", "")), "leaves out the algorithm sha256"},
		{customAlgorithms(algorithmsWithout("ecc-nist", "ecc-nist-p256")), "leaves out the curve ecc-nist-p384"},
		{customAlgorithms(algorithmsWithout("", "sha1-min-size=1")), "sha1-min-size is not a size"},
		{customAlgorithms(algorithmsWithout("", "rsa-min-size=x")), "from 0 to 4096"},
		{customAlgorithms(algorithmsWithout("", "rsa-min-size=4097")), "from 0 to 4096"},
		{customAlgorithms(algorithmsWithout("", "hmac-min-key-size=1025")), "from 0 to 1024"},
		{customAlgorithms(algorithmsWithout("", "ecc-min-size=639")), "leaves no key size of ecc"},
		{customAlgorithms(algorithmsWithout("", "aes-min-size=257")), "leaves no key size of aes"},
		{customAlgorithms(algorithmsWithout("", "tdes-min-size=256")), "leaves no key size of tdes"},
		{`{"Name":"custom","StateFormatLevel":7,"Algorithms":"` + algorithmsWithout("", "rsa-min-size=4096") + `"}`, "leaves no key size of rsa"},
		{customAlgorithms(algorithmsWithout("", "rsa-min-size=2048,aes-min-size=256")), "an RSA 2048 endorsement key has AES 128"},
		{`{"Name":"custom","StateFormatLevel":6,"Algorithms":"hmac-min-key-size=112"}`, "needs StateFormatLevel 7, but its own is 6"},
		{`{"Name":"custom","StateFormatLevel":6,"Attributes":"pct"}`, "needs StateFormatLevel 7, but its own is 6"},
		{`{"Name":"custom","Attributes":"no-sha1"}`, `the attribute "no-sha1", which there is not`},
		{customCommands("0x11e"), "from 0x11f to 0x1a0"},
		{customCommands("0x11f-0x1a1"), "from 0x11f to 0x1a0"},
		{customCommands("0x122-0x11f"), "from 0x11f to 0x1a0"},
		{customCommands("all"), "from 0x11f to 0x1a0"},
		{customCommands("0x11_f"), "from 0x11f to 0x1a0"},
		{customCommands("0b100011111"), "from 0x11f to 0x1a0"},
		{customCommands("0x123"), "no such command"},
		{customCommands("0x12f"), "which its host replaces"},
		{customCommands("0x11f-0x122"), "leaves out the command HierarchyChangeAuth (0x129)"},
		{`{"Name":"custom","StateFormatLevel":4,"Commands":"0x19b"}`, "PolicyCapability (0x19b) needs StateFormatLevel 5"},
		{`{"Name":"custom","StateFormatLevel":8,"Commands":"0x1a0"}`, "ReadOnlyControl (0x1a0) needs StateFormatLevel 100"},
	} {
		_, err := ParseProfile([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80s: %v, want %q", c.text, err, c.want)
		}
	}
	// What libtpms has taken comes over.
	for _, text := range []string{`{"Name":"custom:müll","StateFormatLevel":2,"Description":"für C:\dir"}`,
		`{"Name":"custom","StateFormatLevel":7,"Algorithms":"` + algorithmsWithout("", "rsa-min-size=4096") + `"}`,
		`{"Name":"custom","StateFormatLevel":2,"Description":"` + strings.Repeat("é", 124) + "\xc3\"}"} {
		p, err := RestoreProfile([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if again, err := RestoreProfile(p.JSON()); err != nil || !bytes.Equal(again.JSON(), p.JSON()) {
			t.Errorf("%s comes back as %v: %v", p.JSON(), again, err)
		}
	}
	if _, err := RestoreProfile([]byte(`{"Name":"custom"}`)); err == nil || !strings.Contains(err.Error(), "no StateFormatLevel") {
		t.Errorf("a saved profile without a level: %v", err)
	}
}

// TestProfileLevels checks the StateFormatLevel that a choice needs, which
// libtpms computes alike.
func TestProfileLevels(t *testing.T) {
	small := algorithmsWithout("aes-min-size=128,camellia-min-size=128,rsa-min-size=1024", "")
	for text, want := range map[string]int{
		`{"Name":"null"}`:                        1,
		`{"Name":"default-v1"}`:                  7,
		`{"Name":"default-v2"}`:                  8,
		`{"Name":"ashlar-v1"}`:                   100,
		`{"Name":"custom"}`:                      8,
		`{"Name":"custom","StateFormatLevel":2}`: 2,
		`{"Name":"custom","StateFormatLevel":2,"Commands":"` + commandsNull + `"}`:                               2,
		`{"Name":"custom","Commands":"` + commandsNull + `","Algorithms":"` + small + `"}`:                       2,
		`{"Name":"custom:x","Commands":"` + commandsNull + `,0x199","Algorithms":"` + small + `"}`:               3,
		`{"Name":"custom","Commands":"` + commandsNull + `","Algorithms":"` + small + `,aes-min-size=192"}`:      4,
		`{"Name":"custom","Commands":"` + commandsNull + `","Algorithms":"` + small + `,aes-min-size=256"}`:      2,
		`{"Name":"custom","Algorithms":"` + small + `"}`:                                                         5,
		`{"Name":"custom","Algorithms":"` + small + `","Attributes":"fips-host"}`:                                7,
		`{"Name":"custom","Algorithms":"` + small + `,hmac-min-key-size=112"}`:                                   7,
		`{"Name":"custom","StateFormatLevel":5,"Algorithms":"` + algorithmsLibtpms + `"}`:                        5,
		`{"Name":"custom","Commands":"` + commandsNull + `,0x1a0","Algorithms":"` + small + `","Attributes":""}`: 100,
	} {
		p := profileOf(t, text)
		if p.level != want {
			t.Errorf("%.60s has level %d, want %d", text, p.level, want)
		}
		again, err := RestoreProfile(p.JSON())
		if err != nil || !bytes.Equal(again.JSON(), p.JSON()) || again.enabled != p.enabled || again.rules != p.rules {
			t.Errorf("%s comes back as %s: %v", p.JSON(), again.JSON(), err)
		}
	}
}

// TestProfileRestrictions checks what each choice shows.
func TestProfileRestrictions(t *testing.T) {
	shows := func(text string) *tpm2.Implementation { return &profileOf(t, text).impl }
	if i := shows(`{"Name":"null"}`); !slices.Equal(i.Cipher(tpm2.AlgAES).KeyBits, []uint16{128, 256}) || i.MaxRSABytes != 384 {
		t.Errorf("null has AES %v, RSA of %d bytes", i.Cipher(tpm2.AlgAES).KeyBits, i.MaxRSABytes)
	}
	if i := shows(`{"Name":"default-v1"}`); !slices.Equal(i.Cipher(tpm2.AlgAES).KeyBits, []uint16{128, 192, 256}) || i.MaxRSABytes != 384 {
		t.Errorf("default-v1 has AES %v, RSA of %d bytes", i.Cipher(tpm2.AlgAES).KeyBits, i.MaxRSABytes)
	}
	i := shows(customAlgorithms(algorithmsWithout("sha1,rsaes,ecb", "rsa-min-size=3072,aes-min-size=192")))
	if !slices.Equal(i.Hashes, []tpm2.AlgID{tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512}) ||
		slices.Contains(i.RSASchemes, tpm2.AlgRSAES) || slices.Contains(i.SymModes, tpm2.AlgECB) ||
		slices.Contains(i.RSABits, 2048) || !slices.Equal(i.Cipher(tpm2.AlgAES).KeyBits, []uint16{192, 256}) {
		t.Errorf("the custom profile shows %+v", i)
	}
	if shows(`{"Name":"custom","StateFormatLevel":3}`).Cipher(tpm2.AlgAES).KeyBits[1] != 256 {
		t.Error("level 3 has AES 192")
	}
	p := profileOf(t, customAlgorithms(algorithmsWithout("ecc-min-size=192", "hmac-min-key-size=1,hmac-min-key-size=112,ecc-min-size=384")))
	if p.minHMAC != 112 || !slices.Equal(p.impl.Curves, []tpm2.ECCCurve{tpm2.CurveP384, tpm2.CurveP521, tpm2.CurveBNP638}) {
		t.Errorf("HMAC keys of %d bits, curves %v", p.minHMAC, p.impl.Curves)
	}
	// libtpms has its reasons: the curve is enabled and cannot be used.
	if !strings.Contains(p.Algorithms().Enabled, "ecc-nist-p256") {
		t.Errorf("enabled are %s", p.Algorithms().Enabled)
	}
	if got := profileOf(t, `{"Name":"custom:`+strings.Repeat("n", 90)+`"}`).Name(); len(got) != maxProfileName {
		t.Errorf("the name is %s", got)
	}
}

// TestProfileSpecification: the specification that a profile follows.
func TestProfileSpecification(t *testing.T) {
	for name, want := range map[string][2]uint32{"null": {164, 2021}, "default-v1": {183, 2024}, "ashlar-v1": {184, 2025}} {
		r := chosenRig(t, `{"Name":"`+name+`"}`)
		_, d := capability(t, r.execute(capabilityCmd(tpm2.CapTPMProperties, uint32(tpm2.PTRevision), 3)))
		if got := [2]uint32{d.Properties[0].Value, d.Properties[2].Value}; got != want {
			t.Errorf("%s follows %v, want %v", name, got, want)
		}
		_, d = capability(t, r.execute(capabilityCmd(tpm2.CapTPMProperties, uint32(tpm2.PTMaxCapBuffer), 9)))
		if n := len(d.Properties); n != 1 && (name != "ashlar-v1" || n != 3) {
			t.Errorf("%s has %d fixed properties from the last of version 1.59 on", name, n)
		}
	}
}

// TestProfileIsKept makes a TPM with a profile and looks at it from outside.
func TestProfileIsKept(t *testing.T) {
	text := `{"Name":"custom:small","Description":"what a test needs","Commands":"` + commandsNull +
		`","Algorithms":"` + algorithmsWithout("sha1,ecb", "") + `"}`
	r := chosenRig(t, text)
	r.power(r.durable)
	if got := r.e.Profile().JSON(); !bytes.Equal(got, profileOf(t, text).JSON()) {
		t.Fatalf("the profile became %s", got)
	}
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
	_, pcrs := capability(t, r.execute(capabilityCmd(tpm2.CapPCRs, 0, 1)))
	if len(pcrs.PCRs) != 3 || pcrs.PCRs[0].Hash != tpm2.AlgSHA256 {
		t.Errorf("the banks are %v", pcrs.PCRs)
	}
	_, algs := capability(t, r.execute(capabilityCmd(tpm2.CapAlgs, 0, 100)))
	for _, a := range algs.Algs {
		if a.Alg == tpm2.AlgSHA1 || a.Alg == tpm2.AlgECB {
			t.Errorf("%v is shown", a.Alg)
		}
	}
	r.must(tpm2.RCHash.P(2), tpm2.CCHash, nil, nil, buf16(nil), u16(uint16(tpm2.AlgSHA1)), u32(uint32(tpm2.RHNull)))
	if v, e := r.e.SaveVolatile(), (*Engine)(nil); v != nil {
		var err error
		if e, err = Resume(r.cfg, r.durable, v); err != nil || e.Profile().Name() != "custom:small" {
			t.Errorf("resumed: %v", err)
		}
	}
	_, err := Manufacture(r.cfg, Options{Profile: r.e.Profile(), Banks: []tpm2.AlgID{tpm2.AlgSHA1}})
	if err == nil || !strings.Contains(err.Error(), "custom:small has no PCR bank sha1") {
		t.Errorf("a bank that the profile lacks: %v", err)
	}
}

// TestDamagedProfile refuses states whose profile cannot be read.
func TestDamagedProfile(t *testing.T) {
	r := chosenRig(t, `{"Name":"default-v1"}`)
	for what, change := range map[string]func(*blob.Section) error{
		"too new":   func(s *blob.Section) error { s.MinVersion = profileVersion + 1; return blob.ErrVersion },
		"cut":       func(s *blob.Section) error { s.Data = s.Data[:len(s.Data)-1]; return blob.ErrDamaged },
		"no object": func(s *blob.Section) error { s.Data = []byte(`["null"]`); return blob.ErrDamaged },
		"of another name": func(s *blob.Section) error {
			s.Data = bytes.Replace(s.Data, []byte("default-v1"), []byte("default-v3"), 1)
			return blob.ErrVersion
		},
		"of a later level": func(s *blob.Section) error {
			s.Data = bytes.Replace(s.Data, []byte(`Level":7`), []byte(`Level":9`), 1)
			return blob.ErrVersion
		},
		"with another member": func(s *blob.Section) error {
			s.Data = bytes.Replace(s.Data, []byte(`{`), []byte(`{"Extensions":"",`), 1)
			return blob.ErrVersion
		},
		"with another algorithm": func(s *blob.Section) error {
			s.Data = bytes.Replace(s.Data, []byte(`:"rsa,`), []byte(`:"rsa,sha3-256,`), 1)
			return blob.ErrVersion
		},
	} {
		env := sectionsOf(t, r.durable)
		want := change(env.Find(profileTag))
		if _, err := New(r.cfg, env.Encode()); !errors.Is(err, want) {
			t.Errorf("a profile that is %s: %v, want %v", what, err, want)
		}
	}
	env := sectionsOf(t, r.durable)
	env.Sections = slices.DeleteFunc(env.Sections, func(s blob.Section) bool { return s.Tag == profileTag })
	if e, err := New(r.cfg, env.Encode()); err != nil || e.Profile() != nullProfile {
		t.Errorf("a state without a profile: %v", err)
	}
}

// FuzzProfile parses altered profiles: an error, or one that a state can hold.
func FuzzProfile(f *testing.F) {
	for _, p := range Profiles() {
		f.Add(p.JSON())
	}
	f.Add([]byte(`{"Name":"custom:x","StateFormatLevel":7,"Attributes":"pct,fips-host"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParseProfile(text)
		if err != nil {
			return
		}
		again, err := RestoreProfile(p.JSON())
		if err != nil || !bytes.Equal(again.JSON(), p.JSON()) || again.enabled != p.enabled {
			t.Fatalf("%s comes back as %v: %v", p.JSON(), again, err)
		}
	})
}

// TestProfileChoices leaves one algorithm out after the other, as swtpm's own
// test of profiles does: the list of those disabled grows by it.
func TestProfileChoices(t *testing.T) {
	all := profileOf(t, `{"Name":"custom"}`).Algorithms()
	items := strings.Split(all.Implemented, ",")
	var disabled []string
	for item := range strings.SplitSeq(all.CanBeDisabled, ",") {
		items = slices.DeleteFunc(items, func(s string) bool { return s == item })
		disabled = append(disabled, item)
		c := profileOf(t, customAlgorithms(strings.Join(items, ","))).Algorithms()
		if item == "ecc-nist" || item == "ecc-bn" {
			// A group stands for its curves, which are there one by one still.
			continue
		}
		if want := strings.Join(disabled, ","); !strings.HasPrefix(c.Disabled, want) && c.Disabled != want {
			t.Fatalf("disabled are %s, want %s", c.Disabled, want)
		}
	}
	if !strings.Contains(all.Implemented, ",ecc,ecc-min-size=192,ecc-nist,ecc-bn,ecc-nist-p192,ecc-nist-p224,") ||
		!strings.HasPrefix(all.Implemented, "rsa,rsa-min-size=1024,tdes,tdes-min-size=128,sha1,hmac,hmac-min-key-size=1,aes,") ||
		!strings.HasPrefix(all.CanBeDisabled, "tdes,sha1,sha512,rsassa,rsaes,rsapss,ecdaa,sm2,ecschnorr,ecmqv,ecc-nist,ecc-bn,ecc-nist-p192,") {
		t.Errorf("%+v", all)
	}
	if c := profileOf(t, `{"Name":"null"}`); c.Algorithms().Disabled != "" || c.Attributes().Enabled != "" ||
		c.Attributes().Disabled != c.Attributes().Implemented || c.Commands().Disabled == "" {
		t.Errorf("null has %+v, %+v, %+v", c.Algorithms(), c.Attributes(), c.Commands())
	}
}

// TestSmallProfile makes a TPM with the fewest commands and algorithms that there
// can be, as libtpms' own test does.
func TestSmallProfile(t *testing.T) {
	const commands = "0x120,0x129,0x12b,0x131,0x13c,0x143-0x145,0x148,0x14e,0x153,0x156-0x158,0x15c,0x165,0x169,0x173,0x176,0x17a," +
		"0x17c-0x17e,0x182,0x185-0x186"
	chosen := algorithmsWithout("rsa-min-size=1024,tdes,tdes-min-size=128,sha1,sha512,ecc-bn,ecc-sm2-p256,camellia,"+
		"camellia-min-size=128,cmac,ctr,ofb,cbc,ecb", "rsa-min-size=2048")
	r := chosenRig(t, `{"Name":"custom","StateFormatLevel":2,"Commands":"`+commands+`","Algorithms":"`+chosen+`"}`)
	if got := r.e.profile.enabled.String(); got != commands || len(r.e.profile.shown()) != 26 {
		t.Errorf("commands are %s", got)
	}
	_, d := capability(t, r.execute(capabilityCmd(tpm2.CapCommands, 0, 64)))
	if len(d.Commands) != 26 || d.Commands[0] != 0x04400120 || d.Commands[25] != 0x10000186 {
		t.Errorf("%d commands are shown: %x", len(d.Commands), d.Commands)
	}
	_, d = capability(t, r.execute(capabilityCmd(tpm2.CapAlgs, 0, 64)))
	var algs []tpm2.AlgID
	for _, a := range d.Algs {
		algs = append(algs, a.Alg)
	}
	want := []tpm2.AlgID{1, 5, 6, 7, 8, 0xA, 0xB, 0xC, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D,
		0x20, 0x21, 0x22, 0x23, 0x25, 0x43}
	want = keep(want, func(alg tpm2.AlgID) bool { // of those that GetCapability knows
		return slices.ContainsFunc(algorithms[:], func(p tpm2.AlgProperty) bool { return p.Alg == alg })
	})
	if !slices.Equal(algs, want) {
		t.Errorf("the algorithms are %v, want %v", algs, want)
	}
	_, d = capability(t, r.execute(capabilityCmd(tpm2.CapPCRs, 0, 64)))
	if len(d.PCRs) != 2 || d.PCRs[0].Hash != tpm2.AlgSHA256 || d.PCRs[1].Hash != tpm2.AlgSHA384 {
		t.Errorf("the banks are %v", d.PCRs)
	}
	_, d = capability(t, r.execute(capabilityCmd(tpm2.CapECCCurves, 0, 64)))
	if !slices.Equal(d.Curves, []tpm2.ECCCurve{1, 2, 3, 4, 5}) {
		t.Errorf("the curves are %v", d.Curves)
	}
	r.must(tpm2.RCCommandCode, tpm2.CCChangeEPS, []tpm2.Handle{tpm2.RHPlatform}, password(""))
}

// TestFIPSHostProfile: what a host in FIPS mode leaves of custom profiles.
func TestFIPSHostProfile(t *testing.T) {
	const attributes = "no-sha1-signing,no-sha1-verification,no-unpadded-encryption"
	for text, want := range map[string]string{
		`{"Name":"custom"}`: attributes,
		`{"Name":"custom","Attributes":"no-sha1-signing"}`: attributes,
		`{"Name":"custom:x","Attributes":"fips-host"}`:     "fips-host",
	} {
		p, err := FIPSHostProfile([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if p.attributeList != want || !strings.HasPrefix(p.algorithmList, "rsa,rsa-min-size=2048,sha1,hmac,") ||
			!strings.Contains(p.algorithmList, ",ecc,ecc-min-size=224,ecc-nist,") || strings.Contains(p.algorithmList, "camellia") ||
			slices.Contains(p.impl.Curves, tpm2.CurveP192) || slices.Contains(p.impl.RSASchemes, tpm2.AlgRSAES) {
			t.Errorf("%s becomes %s", text, p.JSON())
		}
	}
	p, err := FIPSHostProfile([]byte(customAlgorithms(algorithmsWithout("rsa-min-size=1024,ecc-min-size=192", "rsa-min-size=3072"))))
	if err != nil || !strings.HasSuffix(p.algorithmList, ",ecb,rsa-min-size=3072,ecc-min-size=224") {
		t.Errorf("a larger size becomes %v: %v", p, err)
	}
	for _, name := range []string{"null", "default-v1", "ashlar-v1"} {
		text := `{"Name":"` + name + `"}`
		if p, err := FIPSHostProfile([]byte(text)); err != nil || !bytes.Equal(p.JSON(), profileOf(t, text).JSON()) {
			t.Errorf("%s is changed: %v", name, err)
		}
	}
	for text, want := range map[string]string{
		`{"Name":"custom","StateFormatLevel":6}`: "needs StateFormatLevel 7",
		`{`:                                      "not a JSON object",
		`{"Name":"best"}`:                        "no profile",
		customAlgorithms(algorithmsWithout("rsa-min-size=1024", "rsa-min-size=big")): "a number of bits",
	} {
		if _, err := FIPSHostProfile([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
}
