//! The Truechimer daemon, as a library so that `chime demo` can start it in-process.
