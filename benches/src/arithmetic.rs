//! NTS arithmetic alone: what the ciphers of one request cost a server, without sockets and without parsing.
//!
//! Alone means: cookie opened, keys expanded, request verified, fresh cookie made, answer sealed. Runs are short and of
//! every arithmetic in turn, and the median counts, so that a busy machine disturbs all of them alike.

use anyhow::{Context, Result};
use arrayvec::ArrayVec;
use chime_nts::{
    AeadAlgorithm, AeadKey, Arithmetic, BATCH_REQUESTS_MAX, BatchAnswer, CookieKey, KeyRing, NtsBatch,
    NtsKeys, NtsRequest, write_nts_request,
};
use chime_time::NtpDate;
use chime_wire::{FieldWriter, HEADER_OCTETS};
use std::time::Instant;

/// Short runs of each kind.
const RUNS: usize = 501;
/// Batches in a run: some ten microseconds, shorter than most of what interrupts it.
const BATCHES: usize = 8;
const ROOM_OCTETS: usize = 512;

/// One line of the result.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Line {
    /// How it was computed.
    pub(crate) arithmetic: &'static str,
    /// The AEAD's number.
    pub(crate) aead: u16,
    /// Requests that came together.
    pub(crate) batch: usize,
    /// Nanoseconds for one request.
    pub(crate) nanos: f64,
}

/// Measures every arithmetic of this processor with AEAD 15 and 30, in full batches and alone.
pub(crate) fn measure() -> Result<Vec<Line>> {
    let mut cases = Vec::new();
    for arithmetic in Arithmetic::available() {
        for algorithm in [AeadAlgorithm::AesSivCmac256, AeadAlgorithm::Aes128GcmSiv] {
            for batch in [BATCH_REQUESTS_MAX, 1] {
                cases.push((Case::new(arithmetic, algorithm, batch)?, Vec::with_capacity(RUNS)));
            }
        }
    }
    for _ in 0..RUNS {
        for (case, times) in &mut cases {
            times.push(case.run()?);
        }
    }
    Ok(cases.into_iter().map(|(case, times)| case.line(times)).collect())
}

/// One arithmetic, one AEAD, one size of batch.
struct Case {
    ring: KeyRing,
    algorithm: AeadAlgorithm,
    requests: Vec<Vec<u8>>,
    batch: NtsBatch,
}

impl Case {
    fn new(arithmetic: Arithmetic, algorithm: AeadAlgorithm, count: usize) -> Result<Self> {
        let ring =
            KeyRing::new(CookieKey::new(7, [7; 32], NtpDate::from_unix(0, 0))).with_arithmetic(arithmetic);
        let requests = (0..count).map(|number| request(&ring, algorithm, number)).collect::<Result<_>>()?;
        Ok(Self { ring, algorithm, requests, batch: NtsBatch::new() })
    }

    /// Nanoseconds for each request.
    fn run(&mut self) -> Result<f64> {
        let Self { ring, requests, batch, .. } = self;
        let requests: Vec<_> =
            requests.iter().map(|octets| NtsRequest::parse(octets)).collect::<Result<_, _>>()?;
        let references: Vec<_> = requests.iter().collect();
        let mut rooms = vec![[0; ROOM_OCTETS]; requests.len()];
        answer(ring, batch, &references, &mut rooms)?;
        let start = Instant::now();
        for _ in 0..BATCHES {
            answer(ring, batch, &references, &mut rooms)?;
        }
        Ok(start.elapsed().as_secs_f64() * 1e9 / (BATCHES * requests.len()) as f64)
    }

    fn line(&self, mut times: Vec<f64>) -> Line {
        times.sort_by(f64::total_cmp);
        Line {
            arithmetic: self.ring.arithmetic().name(),
            aead: self.algorithm.id(),
            batch: self.requests.len(),
            nanos: times[times.len() / 2],
        }
    }
}

fn answer(
    ring: &KeyRing,
    batch: &mut NtsBatch,
    requests: &[&NtsRequest<'_>],
    rooms: &mut [[u8; ROOM_OCTETS]],
) -> Result<()> {
    let outcomes = batch.accept(ring, requests);
    let mut answers = ArrayVec::<BatchAnswer<'_>, BATCH_REQUESTS_MAX>::new();
    for (number, (outcome, room)) in outcomes.into_iter().zip(rooms).enumerate() {
        let cookies = outcome.context("the request verifies")?;
        answers.push(BatchAnswer::new(number, requests[number].unique_identifier, cookies, room));
    }
    batch.prepare(ring, &mut answers, &mut |octets| octets.fill(9));
    batch.seal(ring, &mut answers);
    Ok(())
}

fn request(ring: &KeyRing, algorithm: AeadAlgorithm, number: usize) -> Result<Vec<u8>> {
    let fill = u8::try_from(number)?;
    let key = |octet: u8| AeadKey::new(algorithm, &vec![octet; algorithm.key_octets()]);
    let keys = NtsKeys { c2s: key(fill)?, s2c: key(!fill)? };
    let cookie = ring.seal_cookie(&keys, [fill; 16]);
    let mut octets = vec![0; ROOM_OCTETS];
    octets[0] = 0x23;
    let mut writer = FieldWriter::new(&mut octets, HEADER_OCTETS);
    let nonce = &[fill; 16][..algorithm.nonce_octets()];
    write_nts_request(&mut writer, &[fill; 32], cookie.as_bytes(), 0, &keys.c2s, nonce)?;
    Ok(writer.written().to_vec())
}
