//! NTS key establishment over TLS 1.3, client and server, without input or output.
