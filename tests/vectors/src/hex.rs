//! Octets as the vectors write them: lower-case hexadecimal.

use serde::{Deserialize, Deserializer, de::Error};
use std::fmt;
use std::ops::Deref;

/// Octets that were written in hexadecimal.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Hex(pub(crate) Vec<u8>);

impl Deref for Hex {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        decode(&text).map(Self).ok_or_else(|| D::Error::custom("not pairs of hexadecimal digits"))
    }
}

/// Octets from hexadecimal digits; `None` if there is anything else.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let octets = pairs.iter().map(|[high, low]| u8::try_from(high << 4 | low).ok()).collect();
    if rest.is_empty() { octets } else { None }
}

/// Hexadecimal digits of octets, the first 24 of them.
pub(crate) fn encode(octets: &[u8]) -> String {
    let digits: String = octets.iter().take(24).map(|octet| format!("{octet:02x}")).collect();
    if octets.len() > 24 { format!("{digits}… ({} octets)", octets.len()) } else { digits }
}
