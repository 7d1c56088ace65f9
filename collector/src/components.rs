//! Everything that can be named in a configuration: four plain tables.

pub use crate::extensions::EXTENSIONS;
pub use phoenix_exporters::EXPORTERS;
pub use phoenix_processors::PROCESSORS;
pub use phoenix_receivers::RECEIVERS;
