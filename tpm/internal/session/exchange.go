package session

// What follows gives another program's table of sessions a way in and out.

// SetNext takes over the id of the next saved context.
func (s *State) SetNext(id uint64) { s.next = max(id, 1) }

// Next is the id of the next saved context.
func (s *State) Next() uint64 { return s.next }

// SetSaved makes a number, below MaxActive, that of the session whose context
// was saved with an id below Next. It reports whether the number was free.
func (s *State) SetSaved(number int, id uint64) bool {
	if s.active[number].state != free || id >= s.next {
		return false
	}
	s.active[number] = slot{saved, id}
	return true
}

// SetLoaded puts a session into a slot, below MaxLoaded, under its handle's
// number, and reports whether both were free.
func (s *State) SetLoaded(i int, sess Session) bool {
	if s.Loaded[i].Handle != 0 || s.active[sess.Handle.Index()].state != free {
		return false
	}
	s.active[sess.Handle.Index()] = slot{state: loaded}
	s.Loaded[i] = sess
	return true
}
