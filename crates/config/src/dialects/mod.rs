//! The file formats that are read into the one [`crate::Model`].

pub mod native;
