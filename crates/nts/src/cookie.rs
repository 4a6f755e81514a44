//! Cookies as clients see them: opaque octets. RFC 8915 §4.1.6, §6.

use arrayvec::ArrayVec;
use core::fmt;

/// Octets of the shortest cookie that we take from a server: what fills an extension field without padding, which would
/// make another cookie of it. RFC 7822 §3.
pub const COOKIE_OCTETS_MIN: usize = 12;
/// Octets of the longest cookie that we take from a server.
pub const COOKIE_OCTETS_MAX: usize = 1024;
/// How many cookies a server gives and a client keeps. RFC 8915 §4.1.6.
pub const COOKIES_MAX: usize = 8;

/// A cookie: what a server gives, and a client sends back once.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie(ArrayVec<u8, COOKIE_OCTETS_MAX>);

/// A cookie of a length that we do not take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a cookie of {0} octets; {COOKIE_OCTETS_MIN} to {COOKIE_OCTETS_MAX} are taken, in multiples of 4")]
pub struct CookieLength(pub usize);

impl Cookie {
    /// Takes octets from a record or an extension field.
    ///
    /// # Errors
    /// [`CookieLength`] under [`COOKIE_OCTETS_MIN`], over [`COOKIE_OCTETS_MAX`], and for what is not a multiple of four.
    pub fn new(octets: &[u8]) -> Result<Self, CookieLength> {
        if octets.len() < COOKIE_OCTETS_MIN || !octets.len().is_multiple_of(4) {
            return Err(CookieLength(octets.len()));
        }
        ArrayVec::try_from(octets).map(Self).map_err(|_| CookieLength(octets.len()))
    }

    /// The octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Cookie {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Cookie {
    /// The length only: a cookie lets whoever sees it link two requests.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cookie({} octets)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        for octets in [0, 1, 4, 8, 11, 13, 101, 1025, 1028] {
            assert_eq!(Cookie::new(&vec![0; octets]), Err(CookieLength(octets)));
        }
        for octets in [12, 64, 1024] {
            assert_eq!(Cookie::new(&vec![0; octets]).map(|cookie| cookie.as_bytes().len()), Ok(octets));
        }
    }
}
