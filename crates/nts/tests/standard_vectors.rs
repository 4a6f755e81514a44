//! The AEADs against published and generated vectors; where they come from stands beside each of them.

use chime_nts::{AeadAlgorithm, AeadError, AeadKey};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    id: String,
    kind: String,
    key: String,
    ad: Option<String>,
    nonce: Option<String>,
    s2v_components: Option<Vec<String>>,
    plaintext: Option<String>,
    output: String,
    #[serde(default)]
    must_fail: bool,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../testdata/standard_vectors.json")).expect("the file is well-formed")
}

fn optional_hex(text: &Option<String>) -> Vec<u8> {
    text.as_deref().map(hex).unwrap_or_default()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

fn aead_vectors() -> Vec<(AeadAlgorithm, Vector)> {
    let algorithm =
        |vector: &Vector| vector.kind.strip_prefix("aead-")?.parse().ok().and_then(AeadAlgorithm::from_id);
    vectors().into_iter().filter_map(|vector| Some((algorithm(&vector)?, vector))).collect()
}

#[test]
fn every_aead_vector_seals_and_opens_as_it_should() {
    let mut checked = [0; 4];
    for (algorithm, vector) in aead_vectors() {
        let key = AeadKey::new(algorithm, &hex(&vector.key)).expect("the key has the right length");
        let (ad, nonce) = (optional_hex(&vector.ad), optional_hex(&vector.nonce));
        let (plaintext, output) = (optional_hex(&vector.plaintext), hex(&vector.output));
        let mut room = vec![0; output.len().max(plaintext.len() + 16)];
        if vector.must_fail {
            assert_eq!(
                key.open(&nonce, &ad, &output, &mut room),
                Err(AeadError::Unauthentic),
                "{}",
                vector.id
            );
            assert!(room.iter().all(|octet| *octet == 0), "{}: plaintext was left behind", vector.id);
        } else {
            assert_eq!(key.seal(&nonce, &ad, &plaintext, &mut room), Ok(output.len()), "{}", vector.id);
            assert_eq!(room, output, "{}", vector.id);
            let mut opened = vec![0; plaintext.len()];
            assert_eq!(key.open(&nonce, &ad, &output, &mut opened), Ok(plaintext.len()), "{}", vector.id);
            assert_eq!(opened, plaintext, "{}", vector.id);
        }
        checked[AeadAlgorithm::ALL.iter().position(|known| *known == algorithm).expect("one of all")] += 1;
    }
    assert!(checked.iter().all(|count| *count > 5), "{checked:?}");
}

#[test]
fn every_flipped_bit_of_a_vector_is_refused() {
    for (algorithm, vector) in aead_vectors().into_iter().filter(|(_, vector)| !vector.must_fail) {
        let key = AeadKey::new(algorithm, &hex(&vector.key)).expect("the key has the right length");
        let (ad, nonce) = (optional_hex(&vector.ad), optional_hex(&vector.nonce));
        let mut output = hex(&vector.output);
        let mut room = vec![0; output.len()];
        for bit in 0..output.len().min(64) * 8 {
            output[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                key.open(&nonce, &ad, &output, &mut room),
                Err(AeadError::Unauthentic),
                "{} {bit}",
                vector.id
            );
            output[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn deterministic_siv_gives_the_vectors_of_rfc_5297() {
    let mut checked = 0;
    for vector in vectors() {
        let Some(components) = &vector.s2v_components else { continue };
        let components: Vec<_> = components.iter().map(|component| hex(component)).collect();
        let components: Vec<_> = components.iter().map(Vec::as_slice).collect();
        let aead =
            AeadKey::new(AeadAlgorithm::AesSivCmac256, &hex(&vector.key)).expect("right length").expand();
        let mut room = vec![0; hex(&vector.output).len()];
        let octets = aead.seal_with_components(&components, &optional_hex(&vector.plaintext), &mut room);
        assert_eq!((octets, room.as_slice()), (Ok(room.len()), &hex(&vector.output)[..]), "{}", vector.id);
        checked += 1;
    }
    assert!(checked > 0);
}

#[test]
fn gcm_siv_takes_nonces_of_twelve_octets_only() {
    let key = AeadKey::new(AeadAlgorithm::Aes128GcmSiv, &[1; 16]).expect("right length");
    for octets in [0, 1, 11, 13, 16] {
        assert_eq!(key.seal(&vec![0; octets], b"ad", b"text", &mut [0; 64]), Err(AeadError::NonceLength));
        assert_eq!(key.open(&vec![0; octets], b"ad", &[0; 20], &mut [0; 64]), Err(AeadError::NonceLength));
    }
    assert_eq!(key.expand().seal_with_components(&[], b"text", &mut [0; 64]), Err(AeadError::Components));
}
