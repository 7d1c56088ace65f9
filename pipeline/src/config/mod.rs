//! Configuration values: a tree that remembers where each value stood, and a reader that turns it into settings structs.
//!
//! The tree exists because a person fixes a config by file, line and column; serde's own trees forget them. Reading
//! collects every mistake of a component at once. Nothing here opens a file or expands a reference: the loader of the
//! agent does that and hands over finished trees.

mod de;
pub mod duration;
mod mistake;
mod parse;
mod read;
mod secret;
mod value;

pub use mistake::{Help, Mistake, nearest};
pub use parse::{MAX_DEPTH, MAX_NODES, MAX_TEXT, parse, parse_on, scalar};
pub use read::{Report, Settings, read};
pub use secret::{Headers, REDACTED, Secret, is_secret_block, is_secret_key};
pub use value::{Key, Kind, Mark, Value};

#[cfg(test)]
mod tests;
