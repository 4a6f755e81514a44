//! Network Time Security: records, AEADs, cookies, key ring, NTS extension fields.
#![forbid(unsafe_code)]

pub mod record;
