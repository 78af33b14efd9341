// Package ashlar_test holds the house to its plan: who may import whom, that
// everything exported is documented, and how long a file and a function may
// be. ARCHITECTURE.md says why.
package ashlar_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm"
)

const module = "github.com/ashlar-cloud/ashlar/"

// line is one line of the import lattice: a folder, and what its packages may
// import besides the standard library and the folder itself. A trailing slash
// stands for everything below; a name with a dot is another module.
type line struct {
	floor  int
	folder string
	may    []string
}

var internals = []string{"internal/clock", "internal/entropy", "internal/blob", "internal/store"}

// lattice is the house of ARCHITECTURE.md, the most particular folder first.
var lattice = []line{
	{0, "tpm2", nil},
	{0, "rats", []string{"github.com/go-jose/go-jose/v4"}},
	{0, "tlog", nil},
	{0, "internal/clock", nil},
	{0, "internal/seal", []string{"golang.org/x/crypto"}},
	{0, "internal/entropy", nil},
	{0, "internal/blob", nil},
	{0, "internal/disk", nil},
	{0, "internal/store", []string{"internal/disk"}},
	{0, "internal/confine", []string{"golang.org/x/sys"}},
	{1, "tpm/internal/crypt", []string{"tpm2", "internal/entropy", "filippo.io/"}},
	{1, "measurement/eventlog", []string{"tpm2"}},
	{1, "measurement/ima", []string{"tpm2"}},
	{2, "measurement/predict/sevlaunch", nil},
	{2, "tpm/internal/pcr", with("tpm2", "tpm/internal/crypt")},
	{2, "tpm/internal/nv", with("tpm2", "tpm/internal/crypt")},
	{2, "tpm/internal/object", with("tpm2", "tpm/internal/crypt")},
	{2, "tpm/internal/session", with("tpm2", "tpm/internal/crypt")},
	{2, "tpm/internal/hierarchy", with("tpm2", "tpm/internal/crypt")},
	{2, "tpm/internal/lockout", with("tpm2", "tpm/internal/crypt")},
	{2, "tpm/internal/timing", with("tpm2", "tpm/internal/crypt")},
	{2, "tpm/internal/libtpms", []string{"tpm2"}},
	{3, "tpm", with("tpm2", "tpm/")},
	{4, "swtpm", with("tpm2", "tpm", "internal/disk", "internal/seal", "golang.org/x/sys")},
	{4, "identity", []string{"tpm2", "rats"}},
	{4, "verifier/collateral", nil},
	{4, "verifier/internal/softcose", []string{"verifier/", "github.com/fxamacker/cbor/v2", "github.com/veraison/go-cose"}},
	{4, "verifier/internal/cose", []string{"github.com/fxamacker/cbor/v2", "github.com/veraison/go-cose"}},
	{4, "verifier", []string{"tpm2", "rats", "measurement/", "identity", "verifier/", "github.com/fxamacker/cbor/v2"}},
	{5, "keybroker", []string{"rats", "tlog", "github.com/go-jose/go-jose/v4"}},
	{6, "agent", []string{"tpm2", "rats", "measurement/", "identity", "verifier/", "keybroker", "swtpm",
		"github.com/google/go-tpm", "github.com/go-jose/go-jose/v4"}},
	{7, "cmd/swtpm", with("tpm2", "tpm", "swtpm", "internal/confine", "golang.org/x/sys")},
	{7, "cmd/swtpm_setup", []string{"*"}},
	{7, "cmd/ashlar", []string{"*"}},
	{7, "packaging", nil},
}

func with(more ...string) []string { return append(more, internals...) }

// allowed reports whether a package may import another one.
func (l *line) allowed(path string) bool {
	if path == l.folder || strings.HasPrefix(path, l.folder+"/") {
		return true
	}
	for _, m := range l.may {
		prefix := strings.TrimSuffix(m, "/")
		below := strings.HasSuffix(m, "/") || strings.Contains(m, ".")
		if m == "*" || path == prefix || below && strings.HasPrefix(path, prefix+"/") {
			return true
		}
	}
	return false
}

func lineOf(path string) *line {
	var best *line
	for i := range lattice {
		l := &lattice[i]
		if (path == l.folder || strings.HasPrefix(path, l.folder+"/")) && (best == nil || len(l.folder) > len(best.folder)) {
			best = l
		}
	}
	return best
}

// standard reports whether an import path is the standard library's.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

func TestImportsPointDown(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		path, inside := strings.CutPrefix(p.ImportPath, module)
		if !inside {
			continue // the root, which has tests only
		}
		l := lineOf(path)
		if l == nil {
			t.Errorf("%s has no line in the lattice: give it one here and in ARCHITECTURE.md", path)
			continue
		}
		for _, i := range p.Imports {
			if standard(i) && i != "C" {
				continue
			}
			if !l.allowed(strings.TrimPrefix(i, module)) {
				t.Errorf("%s (floor %d) may not import %s", path, l.floor, strings.TrimPrefix(i, module))
			}
		}
	}
}

// TestREADMEsCountTheCommands holds the number that both pages state.
func TestREADMEsCountTheCommands(t *testing.T) {
	want := strconv.Itoa(len(tpm.Commands()))
	for page, row := range map[string]string{"README.md": `Go; (\d+) \| C;`, "README.zh.md": `Go；(\d+) \| C；`} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(row).FindSubmatch(text)
		if m == nil || string(m[1]) != want {
			t.Errorf("%s states %q commands, the engine has %s", page, m, want)
		}
	}
}

// sources calls f for every Go file of the project.
func sources(t *testing.T, f func(path string, src []byte)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err == nil {
			f(path, src)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

const (
	maxFileLines     = 500
	maxFunctionLines = 60
)

func TestFilesAndFunctionsAreShort(t *testing.T) {
	sources(t, func(path string, src []byte) {
		if n := strings.Count(string(src), "\n"); n > maxFileLines {
			t.Errorf("%s has %d lines, more than %d: split it", path, n, maxFileLines)
		}
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, src, 0)
		if err != nil {
			t.Error(err)
			return
		}
		for _, d := range file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > maxFunctionLines {
					t.Errorf("%s: %s has %d lines, more than %d", path, fn.Name.Name, n, maxFunctionLines)
				}
			}
		}
	})
}

func TestEverythingExportedIsDocumented(t *testing.T) {
	documented := map[string]bool{}
	sources(t, func(path string, src []byte) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments)
		if err != nil {
			t.Error(err)
			return
		}
		dir := filepath.Dir(path)
		documented[dir] = documented[dir] || file.Doc != nil
		for _, d := range file.Decls {
			checkDocumented(t, path, d)
		}
	})
	for dir, ok := range documented {
		if !ok {
			t.Errorf("package %s has no doc comment", dir)
		}
	}
}

func checkDocumented(t *testing.T, path string, d ast.Decl) {
	t.Helper()
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
			t.Errorf("%s: %s is not documented", path, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
					t.Errorf("%s: %s is not documented", path, s.Name.Name)
				}
			case *ast.ValueSpec:
				if s.Names[0].IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
					t.Errorf("%s: %s is not documented", path, s.Names[0].Name)
				}
			}
		}
	}
}

// exportedReceiver reports whether a function is reachable from outside: no
// method of an unexported type is.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	e := d.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}
