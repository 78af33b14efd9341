package store

const setLock = 37 // F_OFD_SETLK: held by the open file, not by the process
