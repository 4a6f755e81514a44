//! NTP server: request to response, access lists, rate limits.
