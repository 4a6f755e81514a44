//! Every arithmetic of this processor against the `aes-siv` and `aes-gcm-siv` crates, in lanes of unequal lengths.

use super::siv::SivKey;
use super::{Arithmetic, LANES, Schedule, Vector, gcm_siv, siv};
use aes_gcm_siv::aead::{Aead as _, KeyInit as _, Payload};
use aes_siv::siv::Aes128Siv;
use proptest::prelude::*;

fn vectors() -> Vec<Vector> {
    Arithmetic::available().filter_map(Arithmetic::vector).collect()
}

#[derive(Clone, Debug)]
struct Sample {
    key: [u8; 32],
    associated_data: Vec<u8>,
    nonce: Vec<u8>,
    text: Vec<u8>,
}

fn sample() -> impl Strategy<Value = Sample> {
    let octets = |most: usize| prop::collection::vec(any::<u8>(), 0..most);
    (any::<[u8; 32]>(), octets(230), prop::collection::vec(any::<u8>(), 12..40), octets(300))
        .prop_map(|(key, associated_data, nonce, text)| Sample { key, associated_data, nonce, text })
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let unlike = prop::collection::vec(sample(), 1..=LANES);
    prop_oneof![unlike, alike(Just(0).boxed()), alike((0..20_usize).boxed())]
}

/// Of equal lengths, but for one that is shorter by so many octets.
fn alike(shorter: BoxedStrategy<usize>) -> impl Strategy<Value = Vec<Sample>> {
    let lane = prop::sample::select((0..LANES).collect::<Vec<_>>());
    let all = prop::collection::vec(sample(), LANES);
    (all, 1..=LANES, lane, [shorter.clone(), shorter]).prop_map(|(mut all, count, lane, [data, text])| {
        let first = all[0].clone();
        for (number, sample) in all.iter_mut().enumerate() {
            let less =
                |octets: &[u8], by: usize| octets.len().saturating_sub(if number == lane { by } else { 0 });
            sample.associated_data.resize(less(&first.associated_data, data), 7);
            sample.text.resize(less(&first.text, text), 8);
        }
        all.truncate(count);
        all
    })
}

fn siv_of_each(vector: Vector, samples: &[Sample]) -> Vec<Vec<u8>> {
    let mut keys = vec![SivKey::EMPTY; samples.len()];
    let mut pairs: Vec<_> = samples.iter().map(|sample| &sample.key).zip(&mut keys).collect();
    SivKey::expand(vector, &mut pairs);
    let messages: Vec<_> = samples
        .iter()
        .zip(&keys)
        .map(|(sample, key)| siv::Message {
            key,
            associated_data: siv::Data::Octets(&sample.associated_data),
            nonce: &sample.nonce,
            plaintext: &sample.text,
        })
        .collect();
    let tags = siv::tags(vector, &messages);
    let sealed = samples.iter().zip(&keys).zip(tags).map(|((sample, key), tag)| {
        let mut text = sample.text.clone();
        key.add_key_stream(vector, tag, &mut text);
        let sealed = [&tag[..], &text].concat();
        key.add_key_stream(vector, tag, &mut text);
        assert_eq!(text, sample.text, "decryption is the same again");
        sealed
    });
    sealed.collect()
}

fn gcm_siv_of_each(vector: Vector, samples: &[Sample]) -> Vec<Vec<u8>> {
    let mut main = vec![Schedule::EMPTY; samples.len()];
    let mut pairs: Vec<_> =
        samples.iter().map(|sample| sample.key.first_chunk().expect("32 octets")).zip(&mut main).collect();
    vector.expand(&mut pairs);
    let nonce = |sample: &Sample| *sample.nonce.first_chunk().expect("at least 12 octets");
    let mut keys = vec![gcm_siv::MessageKeys::EMPTY; samples.len()];
    let mut jobs: Vec<_> = samples
        .iter()
        .zip(&main)
        .zip(&mut keys)
        .map(|((sample, main), keys)| (main, nonce(sample), keys))
        .collect();
    gcm_siv::MessageKeys::derive(vector, &mut jobs);
    let messages: Vec<_> = samples
        .iter()
        .zip(&keys)
        .map(|(sample, keys)| gcm_siv::Message {
            keys,
            nonce: nonce(sample),
            associated_data: &sample.associated_data,
            plaintext: &sample.text,
        })
        .collect();
    let tags = gcm_siv::tags(vector, &messages);
    let sealed = samples.iter().zip(&keys).zip(tags).map(|((sample, keys), tag)| {
        let mut text = sample.text.clone();
        keys.add_key_stream(vector, tag, &mut text);
        [&text[..], &tag].concat()
    });
    sealed.collect()
}

proptest! {
    #[test]
    fn lanes_agree_with_the_aes_siv_crate(samples in samples()) {
        let expected: Vec<_> = samples
            .iter()
            .map(|sample| {
                let parts: [&[u8]; 2] = [&sample.associated_data, &sample.nonce];
                Aes128Siv::new_from_slice(&sample.key).unwrap().encrypt(parts, &sample.text).unwrap()
            })
            .collect();
        for vector in vectors() {
            prop_assert_eq!(&siv_of_each(vector, &samples), &expected);
        }
    }

    #[test]
    fn lanes_agree_with_the_aes_gcm_siv_crate(samples in samples()) {
        let expected: Vec<_> = samples
            .iter()
            .map(|sample| {
                let cipher = aes_gcm_siv::Aes128GcmSiv::new_from_slice(&sample.key[..16]).unwrap();
                let nonce = sample.nonce[..12].try_into().unwrap();
                cipher.encrypt(&nonce, Payload { msg: &sample.text, aad: &sample.associated_data }).unwrap()
            })
            .collect();
        for vector in vectors() {
            prop_assert_eq!(&gcm_siv_of_each(vector, &samples), &expected);
        }
    }
}

#[derive(serde::Deserialize)]
struct Published {
    id: String,
    kind: String,
    key: String,
    ad: Option<String>,
    nonce: Option<String>,
    plaintext: Option<String>,
    output: String,
    #[serde(default)]
    must_fail: bool,
}

/// The published vectors, [`LANES`] of unequal lengths together, through every arithmetic.
#[test]
fn lanes_give_the_published_vectors() {
    let published: Vec<Published> =
        serde_json::from_str(include_str!("../../testdata/standard_vectors.json")).expect("well-formed");
    let hex = |text: &Option<String>| text.as_deref().map(hex).unwrap_or_default();
    for (kind, least) in [("aead-15", 5), ("aead-30", 5)] {
        let good: Vec<_> =
            published.iter().filter(|vector| vector.kind == kind && !vector.must_fail).collect();
        assert!(good.len() >= least, "{kind}: {}", good.len());
        for together in good.chunks(LANES) {
            let samples: Vec<_> = together
                .iter()
                .map(|vector| {
                    let mut key = [0; 32];
                    let octets = hex(&Some(vector.key.clone()));
                    key[..octets.len()].copy_from_slice(&octets);
                    let (associated_data, nonce) = (hex(&vector.ad), hex(&vector.nonce));
                    Sample { key, associated_data, nonce, text: hex(&vector.plaintext) }
                })
                .collect();
            for vector in vectors() {
                let sealed = if kind == "aead-15" {
                    siv_of_each(vector, &samples)
                } else {
                    gcm_siv_of_each(vector, &samples)
                };
                for (sealed, expected) in sealed.iter().zip(together) {
                    assert_eq!(*sealed, hex(&Some(expected.output.clone())), "{}", expected.id);
                }
            }
        }
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// RFC 8452 §C.3: the counter of 32 bits wraps.
#[test]
fn the_counter_of_gcm_siv_wraps_after_32_bits() {
    let tag: [u8; 16] = hex("ffffffff000000000000000000000000").try_into().unwrap();
    let key = [7; 16];
    for vector in vectors() {
        let mut main = Schedule::EMPTY;
        vector.expand(&mut [(&key, &mut main)]);
        let mut keys = gcm_siv::MessageKeys::EMPTY;
        gcm_siv::MessageKeys::derive(vector, &mut [(&main, [3; 12], &mut keys)]);
        let mut stream = [0; 48];
        keys.add_key_stream(vector, tag, &mut stream);
        let mut after = [0; 16];
        keys.add_key_stream(vector, [0; 16], &mut after);
        assert_eq!(
            stream[16..32],
            after,
            "the second block is that of counter 0, and nothing else has changed"
        );
    }
}

#[test]
fn the_portable_arithmetic_is_always_there_and_has_no_instructions() {
    assert_eq!(Arithmetic::available().next(), Some(Arithmetic::PORTABLE));
    assert!(Arithmetic::PORTABLE.vector().is_none());
    assert!(Arithmetic::available().all(|arithmetic| !arithmetic.name().is_empty()));
}
