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
    __m128i, __m512i, _mm_add_epi32, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aeskeygenassist_si128,
    _mm_and_si128, _mm_clmulepi64_si128, _mm_loadu_si128, _mm_maskz_loadu_epi8, _mm_or_si128, _mm_set_epi8,
    _mm_set_epi32, _mm_set_epi64x, _mm_setzero_si128, _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_slli_si128,
    _mm_srli_si128, _mm_storeu_si128, _mm_unpacklo_epi64, _mm_xor_si128, _mm512_broadcast_i32x4,
    _mm512_castsi128_si512, _mm512_clmulepi64_epi128, _mm512_inserti32x4, _mm512_mask_xor_epi64,
    _mm512_setzero_si512, _mm512_shuffle_epi32, _mm512_storeu_si512, _mm512_xor_si512,
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

/// Adds the stream to up to so many blocks: the fewer these are, the sooner those of the next messages go on meanwhile.
#[target_feature(enable = "aes,avx")]
pub(super) fn add_key_stream<const BLOCKS: usize>(schedule: &Schedule, counter: &Counter, text: &mut [u8]) {
    // The word that counts, little-endian, is changed in registers: a block that was just written to memory in parts would
    // have to be waited for.
    let turned = _mm_set_epi8(12, 13, 14, 15, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let (tag, ahead) = (load(&counter.tag), counter.ahead.cast_signed());
    let first = match counter.place {
        Place::First => {
            _mm_add_epi32(_mm_or_si128(tag, _mm_set_epi32(i32::MIN, 0, 0, 0)), _mm_set_epi32(0, 0, 0, ahead))
        }
        Place::Last => {
            let fixed = _mm_set_epi8(-1, -1, -1, 0x7f, -1, -1, -1, 0x7f, -1, -1, -1, -1, -1, -1, -1, -1);
            _mm_add_epi32(_mm_shuffle_epi8(_mm_and_si128(tag, fixed), turned), _mm_set_epi32(ahead, 0, 0, 0))
        }
    };
    let mut states = [_mm_setzero_si128(); BLOCKS];
    for (number, state) in (0..).zip(&mut states) {
        let block = match counter.place {
            Place::First => _mm_add_epi32(first, _mm_set_epi32(0, 0, 0, number)),
            Place::Last => _mm_shuffle_epi8(_mm_add_epi32(first, _mm_set_epi32(number, 0, 0, 0)), turned),
        };
        *state = _mm_xor_si128(block, load_key(&schedule.0[0]));
    }
    for round in 1..LAST {
        let key = load_key(&schedule.0[round]);
        for state in &mut states {
            *state = _mm_aesenc_si128(*state, key);
        }
    }
    let last = load_key(&schedule.0[LAST]);
    let (blocks, rest) = text.as_chunks_mut::<16>();
    let whole = blocks.len();
    for (block, state) in blocks.iter_mut().zip(states) {
        store(block, _mm_xor_si128(_mm_aesenclast_si128(state, last), load(block)));
    }
    if let ([_, ..], Some(state)) = (&rest, states.get(whole)) {
        let mut stream = [0; 16];
        store(&mut stream, _mm_aesenclast_si128(*state, last));
        rest.iter_mut().zip(stream).for_each(|(octet, key)| *octet ^= key);
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

/// Less than a block, and zeros behind.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn load_padded(octets: &[u8]) -> __m128i {
    let mask = (1 << octets.len().min(16)) - 1;
    // SAFETY: no octets are read but those for which the mask has a bit, and these the slice has; this load needs no
    // alignment.
    unsafe { _mm_maskz_loadu_epi8(mask, octets.as_ptr().cast()) }
}

/// As [`polyval`], four messages to a vector where they have the same shape, as requests mostly do.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,vpclmulqdq")]
pub(super) fn polyval_vectors(messages: &[Polyval<'_>], sums: &mut [Block; LANES]) {
    for (messages, sums) in messages.chunks(4).zip(sums.as_chunks_mut().0) {
        let [first, others @ ..] = messages else { continue };
        // Spare places go with the first.
        let mut four = [first; 4];
        for (place, message) in four[1..].iter_mut().zip(others) {
            *place = message;
        }
        if others.iter().all(|other| other.shape() == first.shape()) {
            store_four(sums, polyval_of_four(four));
        } else {
            polyval(messages, sums);
        }
    }
}

/// With one reduction for four blocks of each message.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,vpclmulqdq")]
fn polyval_of_four(messages: [&Polyval<'_>; 4]) -> __m512i {
    let key = gather([messages[0].key, messages[1].key, messages[2].key, messages[3].key]);
    let second = multiply_four(key, key);
    let powers = [key, second, multiply_four(second, key), multiply_four(second, second)];
    // Of each part whole blocks and one that is padded, then the lengths: of each message as many.
    let mut pieces = [[&[][..]; 4]; 5];
    let mut ends = [[[0; 16]; 3]; 4];
    for (lane, (message, ends)) in messages.iter().zip(&mut ends).enumerate() {
        for (part, octets) in message.parts.iter().enumerate() {
            let (whole, rest) = octets.as_chunks();
            pieces[2 * part][lane] = whole;
            // Even when it reads nothing, a load from an address that is none takes long.
            if !rest.is_empty() {
                store(&mut ends[part], load_padded(rest));
            }
        }
        ends[2] = message.lengths();
        let ([first, second], lengths) = ends.split_at(2) else { continue };
        for (part, end) in [first, second].into_iter().enumerate() {
            pieces[2 * part + 1][lane] = &core::slice::from_ref(end)[..message.shape()[part][1]];
        }
        pieces[4][lane] = lengths;
    }
    let mut left = messages[0].blocks();
    let zero = _mm512_setzero_si512();
    let (mut state, mut low, mut middle, mut high) = (zero, zero, zero, zero);
    for [a, b, c, d] in pieces {
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            left -= 1;
            let (sum, power) = (_mm512_xor_si512(state, gather([a, b, c, d])), powers[left % 4]);
            state = zero;
            low = _mm512_xor_si512(low, _mm512_clmulepi64_epi128::<0x00>(sum, power));
            high = _mm512_xor_si512(high, _mm512_clmulepi64_epi128::<0x11>(sum, power));
            middle = _mm512_xor_si512(middle, _mm512_clmulepi64_epi128::<0x01>(sum, power));
            middle = _mm512_xor_si512(middle, _mm512_clmulepi64_epi128::<0x10>(sum, power));
            if left.is_multiple_of(4) {
                state = reduce_four(low, middle, high);
                (low, middle, high) = (zero, zero, zero);
            }
        }
    }
    state
}

/// As [`multiply`], four times.
#[inline]
#[target_feature(enable = "avx512f,vpclmulqdq")]
fn multiply_four(a: __m512i, b: __m512i) -> __m512i {
    let low = _mm512_clmulepi64_epi128::<0x00>(a, b);
    let high = _mm512_clmulepi64_epi128::<0x11>(a, b);
    let middle =
        _mm512_xor_si512(_mm512_clmulepi64_epi128::<0x01>(a, b), _mm512_clmulepi64_epi128::<0x10>(a, b));
    reduce_four(low, middle, high)
}

/// As [`reduce`], four times.
#[inline]
#[target_feature(enable = "avx512f,vpclmulqdq")]
fn reduce_four(low: __m512i, middle: __m512i, high: __m512i) -> __m512i {
    // Each half of the middle goes to the other place.
    let swapped = _mm512_shuffle_epi32::<0x4e>(middle);
    let low = _mm512_mask_xor_epi64(low, 0b1010_1010, low, swapped);
    let high = _mm512_mask_xor_epi64(high, 0b0101_0101, high, swapped);
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

/// POLYVAL of each message, side by side.
#[target_feature(enable = "avx,pclmulqdq")]
pub(super) fn polyval(messages: &[Polyval<'_>], sums: &mut [Block]) {
    let blocks = messages.iter().map(Polyval::blocks).max().unwrap_or(0);
    for at in 0..blocks {
        for (message, sum) in messages.iter().zip(sums.iter_mut()) {
            if let Some(block) = message.block(at) {
                store(sum, multiply(_mm_xor_si128(load(sum), load(&block)), load(message.key)));
            }
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
    reduce(low, middle, high)
}

/// The parts of a product, of which those in the middle overlap with both others.
#[inline]
#[target_feature(enable = "avx,pclmulqdq")]
fn reduce(low: __m128i, middle: __m128i, high: __m128i) -> __m128i {
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
