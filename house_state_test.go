package ashlar_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestNoPackageState: thousands of engines live in one process, so that below
// floor 6 no package has state. A package-level variable is a constant in
// effect: nothing writes it after its initialization, nor takes its address but
// to read it, and there are no init functions.
func TestNoPackageState(t *testing.T) {
	packages := map[string]map[string][]byte{}
	sources(t, func(path string, src []byte) {
		dir := filepath.ToSlash(filepath.Dir(path))
		if l := lineOf(dir); l == nil || l.floor >= 6 || strings.HasSuffix(path, "_test.go") {
			return
		}
		if packages[dir] == nil {
			packages[dir] = map[string][]byte{}
		}
		packages[dir][path] = src
	})
	if len(packages) < 20 {
		t.Fatalf("only %d packages are looked at", len(packages))
	}
	for dir, files := range packages {
		for _, what := range packageState(t, dir, files) {
			t.Error(what)
		}
	}
}

// TestPackageStateIsFound: what TestNoPackageState looks for is found.
func TestPackageStateIsFound(t *testing.T) {
	const src = `package p
import ("sync"; "os")
var table = []int{1, 2}
var count int
var once sync.Once
var cache = map[string]int{}
var free chan int
var list, other []int
var pair struct{ a int }
var address int
func init() {}
func f(n int) int {
	count++
	cache["x"] = 1
	once.Do(nil)
	delete(cache, "x")
	list = append(list, n)
	other[0] = 2
	pair.a = 3
	free <- 1
	p := &address
	_ = p
	os.Args = nil
	table := []int{n}
	table[0] = 5
	return len(table)
}`
	found := strings.Join(packageState(t, "p", map[string][]byte{"p.go": []byte(src)}), "\n")
	for _, want := range []string{"count", "once", "cache", "list", "other", "pair", "free", "address", "os", "init"} {
		if !strings.Contains(found, "p."+want+" ") {
			t.Errorf("%s is not found in:\n%s", want, found)
		}
	}
	if strings.Contains(found, "table") {
		t.Errorf("a local variable is taken for the package's:\n%s", found)
	}
}

// addressed are variables whose address is taken to read them; what is done
// with it has been looked at.
var addressed = []string{
	"measurement/eventlog.grubPrefixes", "tpm.builtins", "tpm.engineImpl", "tpm.registry", "tpm2.acceptAll",
	"tpm/internal/crypt.knownAnswers", "tpm/internal/crypt.sboxIn", "tpm/internal/crypt.sboxOut",
	"tpm/internal/crypt.p192", "tpm/internal/crypt.bnP256", "tpm/internal/crypt.bnP638", "tpm/internal/crypt.sm2P256",
	"tpm/internal/crypt.power2", "tpm/internal/crypt.power4", "tpm/internal/crypt.power16",
}

// stateFinder looks for state in a package.
type stateFinder struct {
	dir   string
	fset  *token.FileSet
	info  *types.Info
	pkg   *types.Package
	found []string
}

// packageState lists what is package-level state in a package.
func packageState(t *testing.T, dir string, src map[string][]byte) []string {
	t.Helper()
	s := stateFinder{dir: dir, fset: token.NewFileSet(), info: &types.Info{Uses: map[*ast.Ident]types.Object{}}}
	var files []*ast.File
	for _, path := range slices.Sorted(maps.Keys(src)) {
		f, err := parser.ParseFile(s.fset, path, src[path], parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	// The types of other packages are not needed to tell whose a name is.
	conf := types.Config{Importer: noPackages{}, Error: func(error) {}}
	s.pkg, _ = conf.Check(dir, s.fset, files, s.info)
	for _, f := range files {
		s.declarations(f)
		ast.Inspect(f, s.statement)
	}
	return s.found
}

func (s *stateFinder) say(n ast.Node, name, what string) {
	s.found = append(s.found, fmt.Sprintf("%v: %s.%s %s", s.fset.Position(n.Pos()), s.dir, name, what))
}

// declarations finds init functions and variables that are there to change.
func (s *stateFinder) declarations(f *ast.File) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				s.say(d, "init", "is there")
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				v, ok := spec.(*ast.ValueSpec)
				if !ok {
					continue
				}
				if sel, ok := v.Type.(*ast.SelectorExpr); ok {
					if id, ok := sel.X.(*ast.Ident); ok && (id.Name == "sync" || id.Name == "atomic") {
						s.say(v, v.Names[0].Name, "is there to change")
					}
				}
			}
		}
	}
}

// root is the package-level variable that an expression is or is part of, or
// the other package whose variable it is.
func (s *stateFinder) root(e ast.Expr) types.Object {
	switch e := e.(type) {
	case *ast.Ident:
		switch o := s.info.Uses[e].(type) {
		case *types.Var:
			if o.Parent() == s.pkg.Scope() {
				return o
			}
		case *types.PkgName:
			return o
		}
	case *ast.SelectorExpr:
		return s.root(e.X)
	case *ast.IndexExpr:
		return s.root(e.X)
	case *ast.SliceExpr:
		return s.root(e.X)
	case *ast.StarExpr:
		return s.root(e.X)
	case *ast.ParenExpr:
		return s.root(e.X)
	}
	return nil
}

func (s *stateFinder) written(e ast.Expr) {
	if v := s.root(e); v != nil {
		s.say(e, v.Name(), "is written")
	}
}

// statement finds what writes a variable, or could.
func (s *stateFinder) statement(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.AssignStmt:
		for _, e := range n.Lhs {
			s.written(e)
		}
	case *ast.IncDecStmt:
		s.written(n.X)
	case *ast.SendStmt:
		s.written(n.Chan)
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			s.written(n.Key)
			s.written(n.Value)
		}
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok && slices.Contains([]string{"delete", "clear", "copy", "close"}, id.Name) {
			s.written(n.Args[0])
		}
	case *ast.UnaryExpr:
		v, ok := s.root(n.X).(*types.Var)
		if n.Op == token.AND && ok && !slices.Contains(addressed, s.dir+"."+v.Name()) {
			s.say(n, v.Name(), "has its address taken")
		}
	}
	return true
}

type noPackages struct{}

// Import gives an empty package.
func (noPackages) Import(path string) (*types.Package, error) {
	p := types.NewPackage(path, filepath.Base(path))
	p.MarkComplete()
	return p, nil
}
