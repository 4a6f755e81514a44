//! The instructions of x86-64: AES-NI, PCLMULQDQ, VPCLMULQDQ.
//!
//! Key streams by VAES, four blocks to a vector, were tried and took longer: it is the putting together of counter blocks
//! and the waiting for the last message that counts, and not the rounds.
//!
//! Every function here is compiled for instructions that its callers know to be there. None branches on, or indexes by,
//! what is secret: the time depends on lengths only.
#![expect(unsafe_code, reason = "loads and stores of vectors take pointers")]

use super::{Block, Chain, Counter, LANES, Place, Polyval, RoundKey, Schedule};
use core::arch::x86_64::{
    __m128i, __m512i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aeskeygenassist_si128,
    _mm_clmulepi64_si128, _mm_insert_epi32, _mm_loadu_si128, _mm_set_epi32, _mm_set_epi64x,
    _mm_setzero_si128, _mm_shuffle_epi32, _mm_slli_si128, _mm_srli_si128, _mm_storeu_si128,
    _mm_unpacklo_epi64, _mm_xor_si128, _mm512_broadcast_i32x4, _mm512_castsi128_si512,
    _mm512_clmulepi64_epi128, _mm512_inserti32x4, _mm512_maskz_mov_epi64, _mm512_shuffle_epi32,
    _mm512_storeu_si512, _mm512_xor_si512,
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

/// FIPS 197 §5.2, so many keys side by side.
#[target_feature(enable = "aes,avx")]
pub(super) fn expand<const KEYS: usize>(keys: &mut [(&Block, &mut Schedule); KEYS]) {
    let mut round_keys = [_mm_setzero_si128(); KEYS];
    for lane in 0..KEYS {
        round_keys[lane] = load(keys[lane].0);
        store_key(&mut keys[lane].1.0[0], round_keys[lane]);
    }
    macro_rules! round {
        ($number:literal, $constant:literal) => {
            for lane in 0..KEYS {
                let assist = _mm_aeskeygenassist_si128::<$constant>(round_keys[lane]);
                round_keys[lane] = next_round_key(round_keys[lane], assist);
                store_key(&mut keys[lane].1.0[$number], round_keys[lane]);
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

/// The first blocks of the stream, as many as `stream` has room for: those of the next messages go on meanwhile, the
/// sooner the fewer these are.
#[target_feature(enable = "aes,avx")]
pub(super) fn key_stream<const BLOCKS: usize>(
    schedule: &Schedule,
    counter: &Counter,
    stream: &mut [Block; BLOCKS],
) {
    let mut states = [_mm_setzero_si128(); BLOCKS];
    for (ahead, state) in (0..).zip(&mut states) {
        *state = _mm_xor_si128(counter_block!(counter, ahead), load_key(&schedule.0[0]));
    }
    for round in 1..LAST {
        let key = load_key(&schedule.0[round]);
        for state in &mut states {
            *state = _mm_aesenc_si128(*state, key);
        }
    }
    let last = load_key(&schedule.0[LAST]);
    for (room, state) in stream.iter_mut().zip(states) {
        store(room, _mm_aesenclast_si128(state, last));
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_four(blocks: &mut [Block; 4], value: __m512i) {
    // SAFETY: four blocks are the 64 octets that are written, and exclusively borrowed; this store needs no alignment.
    unsafe { _mm512_storeu_si512(blocks.as_mut_ptr().cast(), value) }
}

/// Four blocks from four places in one vector.
#[inline]
#[target_feature(enable = "avx512f")]
fn gather(blocks: [&Block; 4]) -> __m512i {
    let two = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(load(blocks[0])), load(blocks[1]));
    _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(two, load(blocks[2])), load(blocks[3]))
}

/// What all lanes have in whole blocks, four lanes to a vector; the rest is for [`polyval`]. Gives how many blocks that was.
#[target_feature(enable = "avx512f,vpclmulqdq")]
pub(super) fn polyval_vectors(lanes: &mut [Polyval<'_>; LANES]) -> usize {
    let mut blocks = [&[][..]; LANES];
    let mut common = usize::MAX;
    for (blocks, lane) in blocks.iter_mut().zip(lanes.iter()) {
        *blocks = lane.octets.as_chunks::<16>().0;
        common = common.min(blocks.len());
    }
    for half in 0..2 {
        let [a, b, c, d] = [4 * half, 4 * half + 1, 4 * half + 2, 4 * half + 3];
        let key = gather([&lanes[a].key, &lanes[b].key, &lanes[c].key, &lanes[d].key]);
        let mut state = gather([&lanes[a].state, &lanes[b].state, &lanes[c].state, &lanes[d].state]);
        #[expect(clippy::needless_range_loop, reason = "one index for four slices")]
        for at in 0..common {
            let block = gather([&blocks[a][at], &blocks[b][at], &blocks[c][at], &blocks[d][at]]);
            state = multiply_four(_mm512_xor_si512(state, block), key);
        }
        let mut states = [[0; 16]; 4];
        store_four(&mut states, state);
        for (lane, state) in lanes[4 * half..][..4].iter_mut().zip(states) {
            lane.state = state;
        }
    }
    common
}

/// As [`multiply`], four times.
#[inline]
#[target_feature(enable = "avx512f,vpclmulqdq")]
fn multiply_four(a: __m512i, b: __m512i) -> __m512i {
    let low = _mm512_clmulepi64_epi128::<0x00>(a, b);
    let high = _mm512_clmulepi64_epi128::<0x11>(a, b);
    let middle =
        _mm512_xor_si512(_mm512_clmulepi64_epi128::<0x01>(a, b), _mm512_clmulepi64_epi128::<0x10>(a, b));
    // Each half of the middle goes to the other place, where a zero is in its stead.
    let swapped = _mm512_shuffle_epi32::<0x4e>(middle);
    let low = _mm512_xor_si512(low, _mm512_maskz_mov_epi64(0b1010_1010, swapped));
    let high = _mm512_xor_si512(high, _mm512_maskz_mov_epi64(0b0101_0101, swapped));
    _mm512_xor_si512(high, reduce_half_four(reduce_half_four(low)))
}

#[inline]
#[target_feature(enable = "avx512f,vpclmulqdq")]
fn reduce_half_four(value: __m512i) -> __m512i {
    let polynomial = _mm512_broadcast_i32x4(_mm_set_epi64x(POLYNOMIAL, 1));
    _mm512_xor_si512(_mm512_shuffle_epi32::<0x4e>(value), _mm512_clmulepi64_epi128::<0x10>(value, polynomial))
}

/// The high half of x¹²⁸ + x¹²⁷ + x¹²⁶ + x¹²¹ + 1 without its highest term.
const POLYNOMIAL: i64 = 0xc200_0000_0000_0000_u64.cast_signed();

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

/// Each lane from its block number `first` to its end.
#[target_feature(enable = "avx,pclmulqdq")]
pub(super) fn polyval(lanes: &mut [Polyval<'_>], first: usize) {
    let blocks = lanes.iter().map(|lane| lane.octets.len().div_ceil(16)).max().unwrap_or(0);
    for at in first..blocks {
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
    let polynomial = _mm_set_epi64x(POLYNOMIAL, 1);
    let swapped = _mm_shuffle_epi32::<0x4e>(value);
    _mm_xor_si128(swapped, _mm_clmulepi64_si128::<0x10>(value, polynomial))
}
