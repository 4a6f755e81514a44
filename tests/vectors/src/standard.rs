//! Published and generated vectors of the primitives.

use crate::checks::Checks;
use crate::hex::{Hex, encode};
use crate::vector::Vector;
use chime_nts::{AeadAlgorithm, AeadError, AeadKey};
use chime_wire::{MacAlgorithm, SymmetricKey};
use polyval::universal_hash::UniversalHash;

/// Kinds `aead-15`, `aead-16`, `aead-17`, `aead-30`.
pub(crate) fn check_aead(vector: &Vector, checks: &mut Checks) {
    let number = vector.aead.or_else(|| vector.kind.strip_prefix("aead-")?.parse().ok());
    let Some(algorithm) = checks.field("known AEAD number", number.and_then(AeadAlgorithm::from_id)) else {
        return;
    };
    let key = vector.key.as_deref().unwrap_or_default();
    let Some(key) = checks.take(AeadKey::new(algorithm, key).map_err(|error| error.to_string())) else {
        return;
    };
    let Some(output) = checks.field("output", vector.output.as_deref()) else { return };
    let part = |part: &Option<Hex>| part.clone().unwrap_or_default().0;
    let (nonce, ad, plaintext) = (part(&vector.nonce), part(&vector.ad), part(&vector.plaintext));
    let mut room = vec![0; output.len().max(plaintext.len() + 16)];
    let opened = key.open(&nonce, &ad, output, &mut room);
    if vector.must_fail {
        checks.equal("opening", &opened, &Err(AeadError::Unauthentic));
        checks.that(room.iter().all(|octet| *octet == 0), || "plaintext was left behind".to_owned());
        return;
    }
    checks.equal("opening", &opened, &Ok(plaintext.len()));
    checks.that(room.starts_with(&plaintext), || format!("opened to {}", encode(&room)));
    checks.equal("sealing", &key.seal(&nonce, &ad, &plaintext, &mut room), &Ok(output.len()));
    checks.that(room == output, || format!("sealed to {}", encode(&room)));
}

/// Kind `aes-siv-cmac-256`: RFC 5297 with any number of components.
pub(crate) fn check_siv(vector: &Vector, checks: &mut Checks) {
    let key = AeadKey::new(AeadAlgorithm::AesSivCmac256, vector.key.as_deref().unwrap_or_default());
    let Some(key) = checks.take(key.map_err(|error| error.to_string())) else { return };
    let Some(output) = checks.field("output", vector.output.as_deref()) else { return };
    let Some(components) = checks.field("s2v_components", vector.s2v_components.as_ref()) else { return };
    let components: Vec<&[u8]> = components.iter().map(|component| &component[..]).collect();
    let plaintext = vector.plaintext.as_deref().unwrap_or_default();
    let mut room = vec![0; plaintext.len() + 16];
    let sealed = key.expand().seal_with_components(&components, plaintext, &mut room);
    checks.equal("sealing", &sealed, &Ok(output.len()));
    checks.that(room == output, || format!("sealed to {}", encode(&room)));
}

/// Kind `aes-cmac`.
pub(crate) fn check_cmac(vector: &Vector, checks: &mut Checks) {
    let key = vector.key.as_deref().unwrap_or_default();
    let algorithm = if key.len() == 16 { MacAlgorithm::Aes128 } else { MacAlgorithm::Aes256 };
    let key = SymmetricKey::new(1, algorithm, key).map_err(|error| error.to_string());
    let Some(key) = checks.take(key) else { return };
    let (message, output) = (vector.message.as_deref().unwrap_or_default(), vector.output.as_deref());
    let Some(output) = checks.field("output", output) else { return };
    let mut digest = [0; 64];
    let octets = key.digest(message, &mut digest);
    checks.that(digest[..octets] == *output, || format!("digest {}", encode(&digest[..octets])));
    checks.that(key.verify(message, output, 4), || "the digest does not verify".to_owned());
    let mut wrong = output.to_vec();
    wrong[0] ^= 1;
    checks.that(!key.verify(message, &wrong, 4), || "a wrong digest verifies".to_owned());
}

/// Kind `polyval`: the hash inside of AES-GCM-SIV, from the crate that is used for it.
pub(crate) fn check_polyval(vector: &Vector, checks: &mut Checks) {
    let key = vector.key.as_deref().and_then(|key| <[u8; 16]>::try_from(key).ok());
    let Some(key) = checks.field("key of 16 octets", key) else { return };
    let mut hash = polyval::Polyval::new(&key.into());
    hash.update_padded(vector.message.as_deref().unwrap_or_default());
    let digest: [u8; 16] = hash.finalize().into();
    checks.that(vector.output.as_deref() == Some(&digest), || format!("digest {}", encode(&digest)));
}
