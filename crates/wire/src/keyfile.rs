//! chrony's key file: one symmetric key on each line.
//!
//! ```text
//! # number [type] secret
//! 1 MD5 ASCII:password
//! 2 SHA1 HEX:000102030405060708090A0B0C0D0E0F10111213
//! 3 password
//! ```
//!
//! Lines whose first character is one of `! ; # %` are comments. Without a type it is MD5. A bad line does not spoil the
//! others: it is an error among the keys, for the caller to warn about.

use crate::mac::{KeyError, MacAlgorithm, SECRET_OCTETS_MAX, SymmetricKey};
use core::iter::Enumerate;
use core::str::Lines;
use zeroize::Zeroizing;

/// What is wrong with one line of a key file. The text never has the secret in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct KeyFileError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: KeyFileReason,
}

/// What is wrong with a line of a key file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyFileReason {
    /// Not two or three words.
    #[error("a key is a number, perhaps a type, and a secret")]
    Words,
    /// The first word is not a number from 1 to 2³² − 1.
    #[error("the first word is not a number from 1 to 4294967295")]
    Id,
    /// A type that we do not know.
    #[error("not a key type that we know (MD5, SHA1, SHA256, SHA384, SHA512, AES128, AES256)")]
    Type,
    /// Not pairs of hexadecimal digits after `HEX:`.
    #[error("the secret behind HEX: is not made of pairs of hexadecimal digits")]
    Hex,
    /// The key cannot be used.
    #[error("{0}")]
    Key(KeyError),
    /// An earlier line has a key with the same number.
    #[error("an earlier line has a key with the same number")]
    Duplicate,
}

/// Reads the keys of a file; see the module's description.
#[must_use]
pub fn parse(text: &str) -> KeyFile<'_> {
    KeyFile { text, lines: text.lines().enumerate(), parse_line }
}

/// Reads the keys of NTPsec's `ntp.keys`: `NUMBER TYPE KEY`, and `#` begins a comment anywhere. A key of up to 20 letters is
/// meant as it is, a longer one is hexadecimal. `AES` is AES-128; its keys are filled up with zeros.
#[must_use]
pub fn parse_ntpsec(text: &str) -> KeyFile<'_> {
    KeyFile { text, lines: text.lines().enumerate(), parse_line: parse_ntpsec_line }
}

/// The keys and errors of a file, line by line.
#[derive(Clone, Debug)]
pub struct KeyFile<'a> {
    text: &'a str,
    lines: Enumerate<Lines<'a>>,
    parse_line: fn(&str) -> Result<SymmetricKey, KeyFileReason>,
}

impl Iterator for KeyFile<'_> {
    type Item = Result<SymmetricKey, KeyFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (index, line) = self.lines.by_ref().find(|(_, line)| has_key(line))?;
        let parse_line = self.parse_line;
        let key = parse_line(line).and_then(|key| {
            let mut earlier =
                self.text.lines().take(index).filter(|line| has_key(line) && first_word_is(line, key.id()));
            if earlier.any(|line| parse_line(line).is_ok()) { Err(KeyFileReason::Duplicate) } else { Ok(key) }
        });
        Some(key.map_err(|reason| KeyFileError { line: index + 1, reason }))
    }
}

/// Whether a line is neither blank nor a comment.
fn has_key(line: &str) -> bool {
    !line.trim_start().is_empty() && !line.trim_start().starts_with(['!', ';', '#', '%'])
}

/// Whether a line begins with the number `id`.
fn first_word_is(line: &str, id: u32) -> bool {
    line.split_whitespace().next().and_then(|word| word.parse().ok()) == Some(id)
}

fn parse_line(line: &str) -> Result<SymmetricKey, KeyFileReason> {
    let mut words = line.split_whitespace();
    let words = (words.next(), words.next(), words.next(), words.next());
    let (id, algorithm, secret) = match words {
        (Some(id), Some(secret), None, None) => (id, MacAlgorithm::Md5.name(), secret),
        (Some(id), Some(algorithm), Some(secret), None) => (id, algorithm, secret),
        _ => return Err(KeyFileReason::Words),
    };
    let id = id.parse().ok().filter(|id| *id != 0).ok_or(KeyFileReason::Id)?;
    let algorithm = algorithm.parse().map_err(|_| KeyFileReason::Type)?;
    let Some(digits) = secret.strip_prefix("HEX:") else {
        let secret = secret.strip_prefix("ASCII:").unwrap_or(secret);
        return SymmetricKey::new(id, algorithm, secret.as_bytes()).map_err(KeyFileReason::Key);
    };
    let mut room = Zeroizing::new([0; SECRET_OCTETS_MAX]);
    let secret = decode_hex(digits.as_bytes(), &mut room)?;
    SymmetricKey::new(id, algorithm, secret).map_err(KeyFileReason::Key)
}

fn parse_ntpsec_line(line: &str) -> Result<SymmetricKey, KeyFileReason> {
    const LITERAL_OCTETS_MAX: usize = 20;
    let line = line.split('#').next().unwrap_or("");
    let mut words = line.split_whitespace();
    let (Some(id), Some(name), Some(secret)) = (words.next(), words.next(), words.next()) else {
        return Err(KeyFileReason::Words);
    };
    let id = id.parse().ok().filter(|id| (1..=u32::from(u16::MAX)).contains(id)).ok_or(KeyFileReason::Id)?;
    let algorithm = match name {
        "AES" | "AES-128" | "AES128CMAC" => MacAlgorithm::Aes128,
        "AES-256" | "AES256CMAC" => MacAlgorithm::Aes256,
        "SHA-1" => MacAlgorithm::Sha1,
        name => name.parse().map_err(|_| KeyFileReason::Type)?,
    };
    let mut room = Zeroizing::new([0; SECRET_OCTETS_MAX]);
    let given = if secret.len() <= LITERAL_OCTETS_MAX {
        room[..secret.len()].copy_from_slice(secret.as_bytes());
        secret.len()
    } else {
        decode_hex(secret.as_bytes(), &mut room)?.len()
    };
    // What is behind the key in the room is zero.
    let octets = algorithm.secret_octets().unwrap_or(given);
    SymmetricKey::new(id, algorithm, &room[..octets]).map_err(KeyFileReason::Key)
}

fn decode_hex<'r>(digits: &[u8], room: &'r mut [u8; SECRET_OCTETS_MAX]) -> Result<&'r [u8], KeyFileReason> {
    let octets = digits.len() / 2;
    let out = room.get_mut(..octets).ok_or(KeyFileReason::Key(KeyError::Length(octets)))?;
    if !digits.len().is_multiple_of(2) {
        return Err(KeyFileReason::Hex);
    }
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (octet, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (digit(pair[0]), digit(pair[1]));
        *octet = high.zip(low).map(|(high, low)| high << 4 | low).ok_or(KeyFileReason::Hex)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn read(text: &str) -> Vec<String> {
        let one = |key: Result<SymmetricKey, KeyFileError>| match key {
            Ok(key) => std::format!("{key:?}"),
            Err(error) => error.to_string(),
        };
        parse(text).map(one).collect()
    }

    #[test]
    fn keys_of_ntpsec_are_literal_when_short_and_hexadecimal_when_long() {
        let text = include_str!("../testdata/ntp.keys");
        let keys: Vec<_> = parse_ntpsec(text).map(|key| key.expect("each is good")).collect();
        let shown: Vec<String> = keys.iter().map(|key| std::format!("{key:?}")).collect();
        assert_eq!(
            shown,
            [
                "SymmetricKey(1, AES128, 128 bits)",
                "SymmetricKey(2, SHA1, 128 bits)",
                "SymmetricKey(10, AES128, 128 bits)",
                "SymmetricKey(11, MD5, 112 bits)",
                "SymmetricKey(12, SHA256, 120 bits)",
                "SymmetricKey(13, AES256, 256 bits)",
                "SymmetricKey(14, SHA1, 160 bits)",
            ]
        );
        let wrong: Vec<String> =
            parse_ntpsec("70000 MD5 x\n1 AES-CMAC x\n2 MD5\n# 3 MD5 x\n4 SHA1 000102030405060708090a0b0c\n")
                .filter_map(|key| key.err().map(|error| std::format!("{}", error.line)))
                .collect();
        assert_eq!(wrong, ["1", "2", "3"]);
    }

    #[test]
    fn keys_of_every_form_are_read() {
        let text = "# comment\n\n  ! another\n1 MD5 ASCII:golden-md5-key\r\n2\tSHA1  HEX:000102030405060708090a0B0c0D0e0f\n\
            3 plain\n; no\n% no\n4294967295 AES128 HEX:2b7e151628aed2a6abf7158809cf4f3c";
        assert_eq!(
            read(text),
            [
                "SymmetricKey(1, MD5, 112 bits)",
                "SymmetricKey(2, SHA1, 128 bits)",
                "SymmetricKey(3, MD5, 40 bits)",
                "SymmetricKey(4294967295, AES128, 128 bits)",
            ]
        );
    }

    #[test]
    fn the_secret_is_what_stands_in_the_file() {
        let mut digests = parse("1 HEX:6162\n2 ab\n3 ASCII:ab\n4 SHA1 ab").map(|key| {
            let mut out = [0; 64];
            let octets = key.expect("a good line").digest(b"c", &mut out);
            out[..octets].to_vec()
        });
        let first = digests.next();
        assert_eq!((digests.next(), digests.next()), (first.clone(), first.clone()));
        assert_ne!(digests.next(), first);
    }

    #[test]
    fn a_bad_line_is_named_and_the_others_are_kept() {
        let long = std::format!("20 SHA1 HEX:{}", "00".repeat(257));
        let text =
            ["1", "x MD5 y", "0 MD5 y", "-1 MD5 y", "4294967296 a", "1 md5 y", "1 SHA3-224 y", "1 MD5 a b"]
                .join("\n");
        let text =
            [&text, "1 HEX:abc", "1 HEX:zz", "1 HEX:", "1 AES128 short", "7 good", "7 SHA1 again", &long]
                .join("\n");
        let id = "the first word is not a number from 1 to 4294967295";
        let kind = "not a key type that we know (MD5, SHA1, SHA256, SHA384, SHA512, AES128, AES256)";
        let hex = "the secret behind HEX: is not made of pairs of hexadecimal digits";
        let words = "a key is a number, perhaps a type, and a secret";
        let expected = [
            std::format!("line 1: {words}"),
            std::format!("line 2: {id}"),
            std::format!("line 3: {id}"),
            std::format!("line 4: {id}"),
            std::format!("line 5: {id}"),
            std::format!("line 6: {kind}"),
            std::format!("line 7: {kind}"),
            std::format!("line 8: {words}"),
            std::format!("line 9: {hex}"),
            std::format!("line 10: {hex}"),
            "line 11: the secret has 0 octets; 1 to 256 are taken".to_string(),
            "line 12: the secret has 40 bits; AES128 needs 128".to_string(),
            "SymmetricKey(7, MD5, 32 bits)".to_string(),
            "line 14: an earlier line has a key with the same number".to_string(),
            "line 15: the secret has 257 octets; 1 to 256 are taken".to_string(),
        ];
        assert_eq!(read(&text), expected);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(?s).{0,200}", words in "([0-9]{1,11} (MD5|AES128)? ?(HEX:|ASCII:)?[^\n]{0,12}\n){0,6}") {
            let _ = read(&text);
            let _ = read(&words);
        }
    }
}
