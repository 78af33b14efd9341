// Package scheme is what the kinds of Evidence have in common: the files that a
// person or a protocol hands in (Input), the outcome of an appraisal (Result), the
// words for both, and reference values that are plain lists (Values).
//
// Each kind has a folder below, which gives its Kinds: a name, a line for people,
// and a function that appraises. Package verifier lists them all.
//
// An appraisal goes claim by claim. What cannot be examined is said to be
// unchecked and never counts as holding; what fails says what was expected, what
// was found, and why in one sentence that names the thing and the next step.
package scheme
