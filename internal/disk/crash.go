package disk

import (
	"bytes"
	"fmt"
	"slices"
)

// Choices are those that one run makes, one after the other. The zero value chooses 0.
type Choices struct {
	taken []choice
	at    int
}

type choice struct{ chosen, of int }

// Choose chooses one of n, 0 to n-1.
func (c *Choices) Choose(n int) int {
	if n <= 1 {
		return 0
	}
	if c.at == len(c.taken) {
		c.taken = append(c.taken, choice{0, n})
	}
	x := c.taken[c.at]
	if x.of != n {
		panic(fmt.Sprintf("disk: a run chose of %d where it had chosen of %d: it is not the same each time", n, x.of))
	}
	c.at++
	return x.chosen
}

// next makes the next run choose otherwise, at the last place where that can be; false
// where all was chosen.
func (c *Choices) next() bool {
	c.taken, c.at = c.taken[:c.at], 0
	for i, x := range slices.Backward(c.taken) {
		if x.chosen+1 < x.of {
			c.taken[i].chosen++
			c.taken = c.taken[:i+1]
			return true
		}
	}
	return false
}

// EachChoice runs with all choices that there are, and gives how many runs that were.
// Besides them, run must do the same each time.
func EachChoice(run func(*Choices)) (runs int) {
	for c := new(Choices); ; {
		run(c)
		runs++
		if !c.next() {
			return runs
		}
	}
}

// everySet is up to how many ways all are tried in which the sectors of a file may have
// survived. Where there are more, those are tried in which the old, or the new ones
// survive, but for a run of them from one end, or for one, or, if they are few, for
// two: a reader that finds sectors of two writes tells them by any two of them. If they
// are very many, every so manieth is taken.
const (
	everySet  = 1 << 12
	pairsUpTo = 72 // sectors
	longRun   = 16 // sectors
)

// Crash is the file system as it may be after the power went: the choices say how. What
// is left of a file is chosen when it is first opened.
func (d *Simulated) Crash(c *Choices) *Simulated {
	after := NewSimulated()
	after.choices, after.NoLinks, after.Stale = c, d.NoLinks, d.Stale
	made := map[*inode]*inode{}
	take := func(name string, n *inode) {
		if n == nil {
			delete(after.names, name)
			return
		}
		if made[n] == nil {
			before := n
			if n.before != nil { // nobody has looked since the last crash
				before = n.before
			}
			made[n] = &inode{before: before}
		}
		after.names[name] = made[n]
	}
	for name, n := range d.sure {
		take(name, n)
	}
	ways := orders(d.changes)
	for _, i := range ways[c.Choose(len(ways))] {
		take(d.changes[i].path, d.changes[i].to)
	}
	for name, n := range after.names {
		after.sure[name] = n
	}
	return after
}

// Kill is the file system as the next process finds it where this one was killed:
// nothing is lost.
func (d *Simulated) Kill() *Simulated {
	after := NewSimulated()
	after.NoLinks, after.Stale = d.NoLinks, d.Stale
	made := map[*inode]*inode{}
	clone := func(n *inode) *inode {
		if n != nil && made[n] == nil {
			made[n] = d.decided(n).clone()
		}
		return made[n]
	}
	for name, n := range d.names {
		after.names[name] = clone(n)
	}
	for name, n := range d.sure {
		after.sure[name] = clone(n)
	}
	for _, c := range d.changes {
		c.to = clone(c.to)
		after.changes = append(after.changes, c)
	}
	return after
}

// orders gives which of the changes may have become durable: of each name the first
// ones, or all, and none without what it needs. Of very many changes, they are the
// first of all.
func orders(changes []change) (ways [][]int) {
	var paths []string
	of := map[string][]int{}
	for i, c := range changes {
		if of[c.path] == nil {
			paths = append(paths, c.path)
		}
		of[c.path] = append(of[c.path], i)
	}
	all, way := 1, []int{}
	for _, p := range paths {
		all = min(all*(len(of[p])+1), everySet+1)
	}
	if all > everySet {
		ways = append(ways, nil)
		for i := range changes {
			way = append(way, i)
			ways = append(ways, slices.Clone(way))
		}
		return ways
	}
	EachChoice(func(choose *Choices) {
		var way []int
		for _, p := range paths {
			if k := choose.Choose(len(of[p]) + 1); k > 0 {
				way = append(way, of[p][k-1])
			}
		}
		for _, i := range way {
			if need := changes[i].needs - 1; need >= 0 && !slices.ContainsFunc(way, func(j int) bool {
				return changes[j].path == changes[need].path && j >= need
			}) {
				return
			}
		}
		ways = append(ways, way)
	})
	return ways
}

// decided is a file of which it is decided what a crash has left.
func (d *Simulated) decided(n *inode) *inode {
	b := n.before
	if b == nil {
		return n
	}
	if b.left == nil {
		b.left = b.variants()
	}
	v := b.left
	k := d.choices.Choose(v.count * len(v.sizes))
	n.before, n.stale, n.dirty = nil, b.stale, map[int]dirty{}
	n.size = v.sizes[k%len(v.sizes)]
	n.seen = slices.Clone(b.sure)
	v.apply(n.seen, k/len(v.sizes))
	// What is behind the end is gone.
	n.seen = n.seen[:min(len(n.seen), (n.size+SectorSize-1)/SectorSize)]
	if tail := n.size % SectorSize; tail != 0 && len(n.seen)*SectorSize > n.size && n.seen[len(n.seen)-1] != nil {
		last := bytes.Clone(n.seen[len(n.seen)-1])
		clear(last[tail:])
		n.seen[len(n.seen)-1] = last
	}
	n.sure, n.sureSize = slices.Clone(n.seen), n.size
	return n
}

// variants are the ways in which a file may survive.
type variants struct {
	sizes   []int
	sectors []int      // which are not sure
	hold    [][]sector // what each of them may hold, the old first and the new last
	count   int        // of ways to choose what they hold
	flips   []flip     // where not all ways are tried
}

// flip is a way: all sectors from the first to before the last hold the new, or the
// others do; and so for a and b by themselves, where they are not negative.
type flip struct {
	from, to, a, b int
	invert         bool
}

func (n *inode) variants() *variants {
	v := &variants{sizes: []int{n.sureSize}, count: 1}
	for _, s := range n.sizes {
		if !slices.Contains(v.sizes, s) {
			v.sizes = append(v.sizes, s)
		}
	}
	for s := range n.seen {
		x, ok := n.dirty[s]
		if !ok {
			continue
		}
		hold := []sector{n.sure[s]}
		if n.sure[s] == nil && n.stale {
			hold = append(hold, bytes.Repeat([]byte{0xA5}, SectorSize))
		}
		for _, now := range x.list {
			if !slices.ContainsFunc(hold, func(have sector) bool { return same(have, now) }) {
				hold = append(hold, now)
			}
		}
		if len(hold) == 1 {
			continue
		}
		v.sectors, v.hold = append(v.sectors, s), append(v.hold, hold)
		v.count = min(v.count*len(hold), everySet+1)
	}
	if v.count > everySet {
		v.flips = flips(len(v.sectors))
		v.count = len(v.flips)
	}
	return v
}

// flips are the ways tried of n sectors.
func flips(n int) (list []flip) {
	step := max(1, n/longRun)
	for _, invert := range []bool{false, true} {
		list = append(list, flip{0, n, -1, -1, invert})
		for i := 0; i < n; i += step { // the first i hold the new, or the old
			list = append(list, flip{0, i, -1, -1, invert})
		}
		for a := 0; a < n; a += step {
			list = append(list, flip{0, 0, a, -1, invert})
			for b := a + 1; b < n && n <= pairsUpTo; b++ {
				list = append(list, flip{0, 0, a, b, invert})
			}
		}
	}
	return list
}

// apply makes sectors what the kth way leaves.
func (v *variants) apply(to []sector, k int) {
	for i, s := range v.sectors {
		hold := v.hold[i]
		if v.flips == nil {
			to[s] = hold[k%len(hold)]
			k /= len(hold)
			continue
		}
		f := v.flips[k]
		if (i >= f.from && i < f.to || i == f.a || i == f.b) != f.invert {
			to[s] = hold[len(hold)-1]
		}
	}
}
