//! Sockets with time stamps, clock steering, privileges: the one crate with `unsafe`.
