// Package collateral is the one cache for what makers publish about their
// machines: certificates, revocation lists (CRLs), TCB information, identities of
// signing enclaves.
//
// A kind of Evidence says what it Needs ("the VCEK of this chip at this TCB",
// VCEK and its like build the Need); the Cache knows where it is published, keeps
// it in a directory, fetches it again ahead of its expiry, asks each host no
// oftener than it allows (429 and 503 with Retry-After are obeyed, across
// processes), and says what will expire or change soon (Check).
//
// What the Cache hands out is no more trusted than its way here: a directory and
// a host on the network. It checks that an Item is whole and of its Form. Whoever
// asked checks its signature up to a pinned root, and its dates against the time
// of the appraisal. A stale Item is therefore handed out too, with its dates.
//
// Offline it answers from the directory alone.
package collateral
