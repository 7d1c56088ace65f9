//! Prints what the configs of `configs/catalog` make of the synthetic host: the table of `docs/thinning.md`, and the lines
//! of each config's header.
#![allow(clippy::print_stdout, reason = "to print is all it does")]

use std::error::Error;

use phoenix_benches::catalog::{TABLE, measure};

fn main() -> Result<(), Box<dyn Error>> {
    let mut headers = String::new();
    println!("{TABLE}");
    for (name, figures) in measure()? {
        println!("{}", figures.row(&name));
        headers += &format!("\n{name}\n{}", figures.header());
    }
    println!("{headers}");
    Ok(())
}
