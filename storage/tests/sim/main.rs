//! The queue on a simulated disk: a crash between any two file operations, with and without loss of what was not synced, and
//! random histories with failing operations, each against an oracle that knows every record.

#![allow(clippy::unwrap_used)]

mod crash;
mod disk;
mod histories;
mod reading;
