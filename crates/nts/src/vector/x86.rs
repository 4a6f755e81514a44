//! The instructions of x86-64: AES-NI, PCLMULQDQ, VAES.
//!
//! Every function here is compiled for instructions that its callers know to be there. None branches on, or indexes by,
//! what is secret: the time depends on lengths only.
#![expect(unsafe_code, reason = "loads and stores of vectors take pointers")]

use super::{Block, Chain, Counter, LANES, Place, Polyval, RoundKey, Schedule};
use core::arch::x86_64::{
    __m128i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aeskeygenassist_si128, _mm_clmulepi64_si128,
    _mm_insert_epi32, _mm_loadu_si128, _mm_set_epi32, _mm_set_epi64x, _mm_setzero_si128, _mm_shuffle_epi32,
    _mm_slli_si128, _mm_srli_si128, _mm_storeu_si128, _mm_unpacklo_epi64, _mm_xor_si128,
    _mm512_aesenc_epi128, _mm512_aesenclast_epi128, _mm512_broadcast_i32x4, _mm512_castsi128_si512,
    _mm512_inserti32x4, _mm512_setzero_si512, _mm512_storeu_si512, _mm512_xor_si512,
};

/// AES-128 has ten rounds; the last is another instruction.
const LAST: usize = 10;

#[inline]
#[target_feature(enable = "avx")]
fn load(block: &Block) -> __m128i {
    // SAFETY: 16 octets are read, which the reference says are there; this load needs no alignment.
    unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx")]
fn load_key(key: &RoundKey) -> __m128i {
    // SAFETY: as in `load`.
    unsafe { _mm_loadu_si128(key.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx")]
fn store_key(key: &mut RoundKey, value: __m128i) {
    // SAFETY: as in `store`.
    unsafe { _mm_storeu_si128(key.as_mut_ptr().cast(), value) }
}

#[inline]
#[target_feature(enable = "avx")]
fn store(block: &mut Block, value: __m128i) {
    // SAFETY: 16 octets are written, to which the reference is exclusive; this store needs no alignment.
    unsafe { _mm_storeu_si128(block.as_mut_ptr().cast(), value) }
}

/// FIPS 197 §5.2, up to four keys side by side.
#[target_feature(enable = "aes,avx")]
pub(super) fn expand(keys: &mut [(&Block, &mut Schedule)]) {
    let mut round_keys = [_mm_setzero_si128(); 4];
    for (round_key, (key, schedule)) in round_keys.iter_mut().zip(keys.iter_mut()) {
        *round_key = load(key);
        store_key(&mut schedule.0[0], *round_key);
    }
    macro_rules! round {
        ($number:literal, $constant:literal) => {
            for (round_key, (_, schedule)) in round_keys.iter_mut().zip(keys.iter_mut()) {
                *round_key = next_round_key(*round_key, _mm_aeskeygenassist_si128::<$constant>(*round_key));
                store_key(&mut schedule.0[$number], *round_key);
            }
        };
    }
    round!(1, 0x01);
    round!(2, 0x02);
    round!(3, 0x04);
    round!(4, 0x08);
    round!(5, 0x10);
    round!(6, 0x20);
    round!(7, 0x40);
    round!(8, 0x80);
    round!(9, 0x1b);
    round!(10, 0x36);
}

#[inline]
#[target_feature(enable = "aes,avx")]
fn next_round_key(key: __m128i, assist: __m128i) -> __m128i {
    let key = _mm_xor_si128(key, _mm_slli_si128::<4>(key));
    let key = _mm_xor_si128(key, _mm_slli_si128::<8>(key));
    _mm_xor_si128(key, _mm_shuffle_epi32::<0xff>(assist))
}

/// One block in each lane, through all rounds. A macro, since a function might not be inlined, and the blocks are to stay
/// in registers; loops, since closures are compiled without the special instructions.
macro_rules! encrypt {
    ($schedules:expr, $states:ident) => {
        for lane in 0..LANES {
            $states[lane] = _mm_xor_si128($states[lane], load_key(&$schedules[lane].0[0]));
        }
        for round in 1..LAST {
            for lane in 0..LANES {
                $states[lane] = _mm_aesenc_si128($states[lane], load_key(&$schedules[lane].0[round]));
            }
        }
        for lane in 0..LANES {
            $states[lane] = _mm_aesenclast_si128($states[lane], load_key(&$schedules[lane].0[LAST]));
        }
    };
}

#[target_feature(enable = "aes,avx")]
pub(super) fn encrypt_each(schedules: &[&Schedule; LANES], blocks: &mut [Block; LANES]) {
    let mut states = [_mm_setzero_si128(); LANES];
    for lane in 0..LANES {
        states[lane] = load(&blocks[lane]);
    }
    encrypt!(schedules, states);
    for lane in 0..LANES {
        store(&mut blocks[lane], states[lane]);
    }
}

#[target_feature(enable = "aes,avx")]
pub(super) fn chains(chains: &[Chain<'_>], results: &mut [Block; LANES]) {
    let Some(first) = chains.first() else { return };
    // Spare lanes go with the first.
    let mut lanes = [first; LANES];
    for (lane, chain) in lanes.iter_mut().zip(chains) {
        *lane = chain;
    }
    let chains = lanes;
    let mut schedules = [first.schedule; LANES];
    let mut fronts = [first.whole; LANES];
    let (mut common, mut blocks) = (usize::MAX, 0);
    for lane in 0..LANES {
        schedules[lane] = chains[lane].schedule;
        fronts[lane] = chains[lane].whole;
        common = common.min(fronts[lane].len());
        blocks = blocks.max(chains[lane].blocks());
    }
    let mut states = [_mm_setzero_si128(); LANES];
    #[expect(clippy::needless_range_loop, reason = "one index for eight slices")]
    for at in 0..common {
        for lane in 0..LANES {
            states[lane] = _mm_xor_si128(states[lane], load(&fronts[lane][at]));
        }
        encrypt!(schedules, states);
    }
    for at in common..blocks {
        let mut inputs = states;
        for lane in 0..LANES {
            if let Some(block) = chains[lane].block(at) {
                inputs[lane] = _mm_xor_si128(inputs[lane], load(block));
            }
        }
        encrypt!(schedules, inputs);
        for lane in 0..LANES {
            // A chain that has ended keeps its result.
            if at < chains[lane].blocks() {
                states[lane] = inputs[lane];
            }
        }
    }
    for lane in 0..LANES {
        store(&mut results[lane], states[lane]);
    }
}

/// The block of a counter `ahead` of it.
macro_rules! counter_block {
    ($counter:expr, $ahead:expr) => {{
        let number = $counter.number.wrapping_add($ahead);
        let (block, other) = (load(&$counter.tag), $counter.other.cast_signed());
        match $counter.place {
            Place::First => _mm_insert_epi32::<0>(_mm_insert_epi32::<3>(block, other), number.cast_signed()),
            Place::Last => {
                _mm_insert_epi32::<3>(_mm_insert_epi32::<2>(block, other), number.swap_bytes().cast_signed())
            }
        }
    }};
}

#[target_feature(enable = "aes,avx")]
pub(super) fn key_stream(schedule: &Schedule, counter: &Counter, stream: &mut [Block; LANES]) {
    let mut states = [_mm_setzero_si128(); LANES];
    for (ahead, state) in (0..).zip(&mut states) {
        *state = counter_block!(counter, ahead);
    }
    encrypt!([schedule; LANES], states);
    for lane in 0..LANES {
        store(&mut stream[lane], states[lane]);
    }
}

#[target_feature(enable = "vaes,avx512f")]
pub(super) fn key_stream_vaes(schedule: &Schedule, counter: &Counter, stream: &mut [Block; LANES]) {
    let first = _mm512_broadcast_i32x4(load_key(&schedule.0[0]));
    let mut states = [_mm512_setzero_si512(); 2];
    let mut ahead = 0;
    for state in &mut states {
        let mut block = _mm512_castsi128_si512(counter_block!(counter, ahead));
        block = _mm512_inserti32x4::<1>(block, counter_block!(counter, ahead + 1));
        block = _mm512_inserti32x4::<2>(block, counter_block!(counter, ahead + 2));
        block = _mm512_inserti32x4::<3>(block, counter_block!(counter, ahead + 3));
        *state = _mm512_xor_si512(block, first);
        ahead += 4;
    }
    for round in 1..LAST {
        let key = _mm512_broadcast_i32x4(load_key(&schedule.0[round]));
        for state in &mut states {
            *state = _mm512_aesenc_epi128(*state, key);
        }
    }
    let last = _mm512_broadcast_i32x4(load_key(&schedule.0[LAST]));
    for (room, state) in stream.as_chunks_mut::<4>().0.iter_mut().zip(states) {
        // SAFETY: four blocks are the 64 octets that are written, and exclusively borrowed; this store needs no alignment.
        unsafe { _mm512_storeu_si512(room.as_mut_ptr().cast(), _mm512_aesenclast_epi128(state, last)) }
    }
}

/// RFC 8452 §4 for two messages: authentication and encryption key of each.
#[target_feature(enable = "aes,avx")]
pub(super) fn derive(schedules: [&Schedule; 2], nonces: [&[u8; 12]; 2], keys: &mut [[Block; 2]; 2]) {
    let lanes = [
        schedules[0],
        schedules[0],
        schedules[0],
        schedules[0],
        schedules[1],
        schedules[1],
        schedules[1],
        schedules[1],
    ];
    let mut states = [_mm_setzero_si128(); LANES];
    for message in 0..2 {
        let word = |at: usize| {
            let octets = nonces[message];
            u32::from_le_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]).cast_signed()
        };
        let (a, b, c) = (word(0), word(4), word(8));
        for (number, state) in (0..).zip(&mut states[4 * message..][..4]) {
            *state = _mm_set_epi32(c, b, a, number);
        }
    }
    encrypt!(lanes, states);
    for message in 0..2 {
        let [first, second, third, fourth] =
            [states[4 * message], states[4 * message + 1], states[4 * message + 2], states[4 * message + 3]];
        store(&mut keys[message][0], _mm_unpacklo_epi64(first, second));
        store(&mut keys[message][1], _mm_unpacklo_epi64(third, fourth));
    }
}

#[target_feature(enable = "avx,pclmulqdq")]
pub(super) fn polyval(lanes: &mut [Polyval<'_>]) {
    let blocks = lanes.iter().map(|lane| lane.octets.len().div_ceil(16)).max().unwrap_or(0);
    for at in 0..blocks {
        for lane in lanes.iter_mut() {
            let (whole, rest) = lane.octets.as_chunks::<16>();
            let mut padded = [0; 16];
            let block = match whole.get(at) {
                Some(block) => block,
                None if at == whole.len() && !rest.is_empty() => {
                    padded[..rest.len()].copy_from_slice(rest);
                    &padded
                }
                None => continue,
            };
            let sum = _mm_xor_si128(load(&lane.state), load(block));
            store(&mut lane.state, multiply(sum, load(&lane.key)));
        }
    }
}

/// `a · b · x⁻¹²⁸` in the field of RFC 8452 §3: schoolbook, then Montgomery's reduction in two steps of 64 bits.
#[inline]
#[target_feature(enable = "avx,pclmulqdq")]
fn multiply(a: __m128i, b: __m128i) -> __m128i {
    let low = _mm_clmulepi64_si128::<0x00>(a, b);
    let high = _mm_clmulepi64_si128::<0x11>(a, b);
    let middle = _mm_xor_si128(_mm_clmulepi64_si128::<0x01>(a, b), _mm_clmulepi64_si128::<0x10>(a, b));
    let low = _mm_xor_si128(low, _mm_slli_si128::<8>(middle));
    let high = _mm_xor_si128(high, _mm_srli_si128::<8>(middle));
    _mm_xor_si128(high, reduce_half(reduce_half(low)))
}

#[inline]
#[target_feature(enable = "avx,pclmulqdq")]
fn reduce_half(value: __m128i) -> __m128i {
    // x¹²⁸ + x¹²⁷ + x¹²⁶ + x¹²¹ + 1 without its highest term; the high half is what counts here.
    let polynomial = _mm_set_epi64x(0xc200_0000_0000_0000_u64.cast_signed(), 1);
    let swapped = _mm_shuffle_epi32::<0x4e>(value);
    _mm_xor_si128(swapped, _mm_clmulepi64_si128::<0x10>(value, polynomial))
}
