//! `phoenix`, the agent: reads the command line, checks the configuration, runs until it is told to stop.

#![deny(unsafe_code)]

mod admin;
mod allocator;
mod cli;
mod components;
mod config;
mod control;
mod descriptors;
mod extensions;
mod identity;
mod logs;
mod notify;
mod own;
mod run;
mod service;
mod start_pages;
mod state;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
