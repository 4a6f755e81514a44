//! The Truechimer daemon, as a library so that `chime demo` can start it in-process.

pub mod log_limit;
pub mod logging;
pub mod service_manager;
pub mod serving;
pub mod state_files;
pub mod store;
