//go:build !linux

package confine

// Apply does nothing on this system.
func Apply(p Plan) (lacking []string, err error) {
	const all lack = "only on Linux can this program give rights up: it keeps those of its user"
	if p.Insist {
		return nil, all
	}
	return []string{string(all)}, nil
}
