//! The Truechimer daemon, as a library so that `chime demo` can start it in-process.

pub mod state_files;
pub mod store;
