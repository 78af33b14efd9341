package libtpms

import "fmt"

// constant is one of the constants that libtpms was compiled with. Where most is
// set, a state with a smaller one is read as well.
type constant struct {
	value uint32
	most  bool
}

// constants are the algorithms, sizes and numbers of things that a libtpms has
// which a Linux distribution builds, in the order of the state. The first
// oldConstants are all that libtpms before 0.9 writes.
var constants = [...]constant{
	{1, false}, {1, false}, {1, false}, {1, true}, {1, false}, {1, false}, {1, false}, {1, false}, {1, false},
	{1, false}, {1, false}, {0, false}, {0, false}, {1, false}, {1, false}, {1, false}, {1, false}, {1, false},
	{1, false}, {1, false}, {1, false}, {1, true}, {1, false}, {1, true}, {1, false}, {1, false}, {1, true},
	{1, false}, {1, true}, {1, false}, {1, false}, {1, false}, {1, false}, {1, false}, {0xc00, true},
	{0xc0, false}, {0x100, false}, {0x80, false}, {0x80, false}, {1, true}, {1, true}, {1, true}, {1, true},
	{1, true}, {1, true}, {1, true}, {1, true}, {0x27e, true}, {4, false}, {4, false}, {0x18, false},
	{0x18, false}, {0x11, false}, {0, false}, {5, false}, {3, false}, {0x40, false}, {3, false}, {3, false},
	{3, false}, {7, true}, {1, false}, {1, false}, {0xa78, true}, {0x400, false}, {0x800, false}, {0x400, false},
	{0x400, false}, {0x2b2c0, true}, {8, false}, {0x10, false}, {0x40, false}, {0x40, false}, {6, false},
	{0xc, false}, {1, false}, {8, false}, {0x80, false}, {0x40, false}, {0x200, false}, {0x10001, false},
	{1, false}, {1, false}, {0, false}, {0x400, false}, {0x2000, false}, {0x40, false}, {4, false}, {1, true},
	{0, true}, {1, true}, {0, true}, {1, true}, {1, true}, {0, true}, {1, true}, {0, true}, {0, true}, {0, true},
	{1, true}, {1, true}, {1, true}, {0, true}, {0, true}, {0, true}, {0, true}, {0, true}, {0, true}, {0, true},
	{0, true}, {0, true}, {0, true}, {0, true}, {0, true}, {0, true}, {0, true}, {0, true}, {0, true}, {0, true},
	{0, true},
}

const oldConstants = 88

// walkConstants visits the constants. Another value stands for other sizes of
// things, or for damage.
func walkConstants(w *walker) {
	w.section(constantsMark, 3, func(version uint16) {
		list := constants[:]
		if version < 3 {
			list = list[:oldConstants]
		}
		n := uint32(len(list))
		w.U32(&n)
		w.require(int(n) == len(list), "there is another number of them")
		for i, c := range list {
			v := c.value
			w.U32(&v)
			if v != c.value && !(c.most && v < c.value) {
				w.require(false, fmt.Sprintf("number %d is %d, not %d", i, v, c.value))
			}
		}
		w.future()
	})
}
