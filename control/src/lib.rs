//! The brain: pure functions of numbers and time. No clock, no I/O, no chance that is not a seed.
#![forbid(unsafe_code)]
