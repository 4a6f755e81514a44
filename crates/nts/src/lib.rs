//! Network Time Security: records, AEADs, cookies, key ring, NTS extension fields.
