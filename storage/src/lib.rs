//! A queue on disk: append-only segments with checksums, which never hands out what was damaged and never keeps anyone from
//! starting.
#![forbid(unsafe_code)]
