//! NTS requests of a server, several at a time: cookies opened, authenticators verified, answers sealed.
//!
//! The steps are those of [`crate::request`], which is the reference, and the octets are the same. But each step is done for
//! all requests before the next one, so that their ciphers go side by side ([`crate::Arithmetic`]). A server calls
//! [`NtsBatch::accept`], then [`NtsBatch::prepare`], writes the headers with the time of now, and calls
//! [`NtsBatch::seal`]: nothing that takes long lies between the clock's reading and the answers' leaving but the last step.

use crate::authenticator::{Authenticator, AuthenticatorFrame};
use crate::key_ring::{
    COOKIE_HEAD_OCTETS, KEY_ID_OCTETS, PLAINTEXT_OCTETS_MAX, plaintext_keys, plaintext_parts, write_plaintext,
};
use crate::request::NtsRequest;
use crate::vector::siv::{Data, SameDataKey, SivKey};
use crate::vector::{Block, LANES, Schedule, Vector, gcm_siv, siv};
use crate::{
    AEAD_TAG_OCTETS, AeadAlgorithm, COOKIES_MAX, CookieError, KeyRing, NakReason, NtsKeys, NtsRequestError,
};
use arrayvec::ArrayVec;
use chime_wire::{
    DecodeError, EXTENSION_FIELD_HEADER_OCTETS, ExchangeFields, FieldWriter, HEADER_OCTETS, field_type,
};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// How many requests a batch has at most.
pub const BATCH_REQUESTS_MAX: usize = LANES;

/// Octets of random numbers for one nonce.
const NONCE_ROOM: usize = 16;
/// Which of a client's two keys.
const C2S: usize = 0;
const S2C: usize = 1;

/// Up to [`BATCH_REQUESTS_MAX`] requests on their way through the ciphers. The memory is taken once.
///
/// The keys of a batch stay in it until the next one; they are wiped when it is dropped.
pub struct NtsBatch {
    clients: Box<[Client; LANES]>,
}

/// What the cookie of one request carried.
struct Client {
    algorithm: AeadAlgorithm,
    /// The plaintext of the cookie, and so of all that are made for this client.
    plaintext: [u8; PLAINTEXT_OCTETS_MAX],
    octets: usize,
    cipher: Cipher,
    siv: [SivKey; 2],
    gcm_siv: [Schedule; 2],
    message: gcm_siv::MessageKeys,
}

/// How the packets of a client are opened and sealed.
enum Cipher {
    /// With `Client::siv`, side by side with others.
    Siv,
    /// With `Client::gcm_siv`, side by side with others.
    GcmSiv,
    /// One after the other.
    Alone(NtsKeys),
}

/// An answer to a request of a batch. Its header is written by the caller, between [`NtsBatch::prepare`] and
/// [`NtsBatch::seal`].
pub struct BatchAnswer<'a> {
    request: usize,
    unique_identifier: &'a [u8],
    cookies: usize,
    fields: ExchangeFields,
    response: &'a mut [u8],
    frame: Option<AuthenticatorFrame>,
}

impl<'a> BatchAnswer<'a> {
    /// An answer to number `request` of the batch with `cookies` fresh cookies (at most [`COOKIES_MAX`]), at the start of
    /// `response`.
    #[must_use]
    pub fn new(request: usize, unique_identifier: &'a [u8], cookies: usize, response: &'a mut [u8]) -> Self {
        let (cookies, fields) = (cookies.min(COOKIES_MAX), ExchangeFields::default());
        Self { request, unique_identifier, cookies, fields, response, frame: None }
    }

    /// With these fields in the clear, authenticated like the header.
    #[must_use]
    pub const fn with_fields(self, fields: ExchangeFields) -> Self {
        Self { fields, ..self }
    }

    /// Octets of the answer; `None` when it does not fit the room.
    #[must_use]
    pub fn octets(&self) -> Option<usize> {
        self.frame.as_ref().map(AuthenticatorFrame::end)
    }

    /// The room for the header.
    pub fn header_mut(&mut self) -> Option<&mut [u8; HEADER_OCTETS]> {
        self.response.first_chunk_mut()
    }
}

impl core::fmt::Debug for NtsBatch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("NtsBatch")
    }
}

impl Clone for NtsBatch {
    /// Room of its own: what is in it means nothing after a batch.
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl Default for NtsBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl NtsBatch {
    /// Room for a batch.
    #[must_use]
    pub fn new() -> Self {
        Self { clients: Box::new(core::array::from_fn(|_| Client::new())) }
    }

    /// As [`NtsRequest::accept`], for each request: how many cookies to answer with, or why not. The keys of the clients
    /// are kept for the answers. Of more than [`BATCH_REQUESTS_MAX`] requests the first ones are taken.
    pub fn accept(
        &mut self,
        ring: &KeyRing,
        requests: &[&NtsRequest<'_>],
    ) -> ArrayVec<Result<usize, NtsRequestError>, LANES> {
        let requests = &requests[..requests.len().min(LANES)];
        let Some(vector) = ring.arithmetic().vector() else {
            return requests
                .iter()
                .zip(self.clients.iter_mut())
                .map(|(request, client)| client.accept(ring, request))
                .collect();
        };
        let opened = self.open_cookies(vector, ring, requests);
        self.expand(vector, &opened);
        self.verify((vector, ring), requests, &opened)
    }

    fn open_cookies(
        &mut self,
        vector: Vector,
        ring: &KeyRing,
        requests: &[&NtsRequest<'_>],
    ) -> [Result<(), CookieError>; LANES] {
        let mut opened = [Err(CookieError::Length); LANES];
        let mut tags = ArrayVec::<(usize, &Block), LANES>::new();
        let mut messages = ArrayVec::<_, LANES>::new();
        for (number, (client, request)) in self.clients.iter_mut().zip(requests).enumerate() {
            match client.decrypt_cookie(vector, ring, request.cookie) {
                Ok((tag, key, nonce)) => {
                    let client: &Client = client;
                    tags.push((number, tag));
                    messages.push(key.message(nonce, client.plaintext()));
                }
                Err(error) => opened[number] = Err(error),
            }
        }
        let right = siv::tags(vector, &messages);
        drop(messages);
        for ((number, tag), right) in tags.into_iter().zip(right) {
            let client = &mut self.clients[number];
            opened[number] = if equal(&right, tag) && client.read_plaintext() {
                Ok(())
            } else {
                client.plaintext.zeroize();
                Err(CookieError::Unauthentic)
            };
        }
        for (number, request) in requests.iter().enumerate().filter(|_| ring.predecessor().is_some()) {
            if opened[number].is_err()
                && let Some(keys) = ring.open_foreign_cookie(request.cookie)
                && self.clients[number].take_keys(&keys)
            {
                opened[number] = Ok(());
            }
        }
        opened
    }

    /// Expands the keys of all clients whose cookies were opened.
    fn expand(&mut self, vector: Vector, opened: &[Result<(), CookieError>; LANES]) {
        let mut siv_keys = [const { ArrayVec::<(&[u8; 32], &mut SivKey), LANES>::new_const() }; 2];
        let mut schedules = ArrayVec::<(&Block, &mut Schedule), { 2 * LANES }>::new();
        for (client, _) in self.clients.iter_mut().zip(opened).filter(|(_, opened)| opened.is_ok()) {
            let Some((_, c2s, s2c)) = plaintext_parts(&client.plaintext[..client.octets]) else { continue };
            match &client.cipher {
                Cipher::Siv => {
                    for ((keys, octets), key) in siv_keys.iter_mut().zip([c2s, s2c]).zip(&mut client.siv) {
                        keys.extend(octets.first_chunk().map(|octets| (octets, key)));
                    }
                }
                Cipher::GcmSiv => {
                    for (octets, schedule) in [c2s, s2c].into_iter().zip(&mut client.gcm_siv) {
                        schedules.extend(octets.first_chunk().map(|octets| (octets, schedule)));
                    }
                }
                Cipher::Alone(_) => {}
            }
        }
        for keys in &mut siv_keys {
            SivKey::expand(vector, keys);
        }
        vector.expand(&mut schedules);
    }

    fn verify(
        &mut self,
        (vector, ring): (Vector, &KeyRing),
        requests: &[&NtsRequest<'_>],
        opened: &[Result<(), CookieError>; LANES],
    ) -> ArrayVec<Result<usize, NtsRequestError>, LANES> {
        let mut outcomes = ArrayVec::<Result<usize, NtsRequestError>, LANES>::new();
        let mut waiting = [None; LANES];
        for (number, (request, opened)) in requests.iter().zip(opened).enumerate() {
            let client = &self.clients[number];
            outcomes.push(match opened {
                Err(error) => Err(NakReason::Cookie(*error).into()),
                Ok(()) => request.authenticator_for(client.algorithm).and_then(|authenticator| {
                    match (&client.cipher, authenticator.tag_alone()) {
                        (Cipher::Siv | Cipher::GcmSiv, Some(_)) => {
                            waiting[number] = Some(authenticator);
                            Ok(1 + request.placeholders)
                        }
                        // Something encrypted, which is rare, or lengths that cannot be right.
                        _ => plaintext_keys(client.plaintext())
                            .ok_or(NakReason::Unauthentic.into())
                            .and_then(|keys| request.verify(&keys)),
                    }
                }),
            });
        }
        let right = self.request_tags(vector, &waiting);
        for (number, outcome) in outcomes.iter_mut().enumerate() {
            if let Some(tag) = waiting[number].and_then(|authenticator| authenticator.tag_alone()) {
                let verified = right[number].is_some_and(|right| equal(&right, tag));
                if !verified {
                    *outcome = Err(NakReason::Unauthentic.into());
                }
            }
            if let Ok(cookies) = outcome {
                let algorithm = self.clients[number].algorithm;
                *cookies = requests[number].cookies_that_fit(ring, algorithm, (*cookies).min(COOKIES_MAX));
            }
        }
        outcomes
    }

    /// The tags that these authenticators should have, by the number of the request; none is right where the nonce has a
    /// length that the algorithm does not take.
    fn request_tags(
        &mut self,
        vector: Vector,
        waiting: &[Option<Authenticator<'_>>; LANES],
    ) -> [Option<Block>; LANES] {
        let mut derived = ArrayVec::<_, LANES>::new();
        for (client, authenticator) in self.clients.iter_mut().zip(waiting) {
            if let (Cipher::GcmSiv, Some(authenticator)) = (&client.cipher, authenticator)
                && let Ok(nonce) = authenticator.nonce().try_into()
            {
                derived.push((&client.gcm_siv[C2S], nonce, &mut client.message));
            }
        }
        gcm_siv::MessageKeys::derive(vector, &mut derived);
        drop(derived);
        let (mut siv_numbers, mut siv_messages) =
            (ArrayVec::<usize, LANES>::new(), ArrayVec::<_, LANES>::new());
        let (mut gcm_numbers, mut gcm_messages) =
            (ArrayVec::<usize, LANES>::new(), ArrayVec::<_, LANES>::new());
        for (number, (client, authenticator)) in self.clients.iter().zip(waiting).enumerate() {
            let Some(authenticator) = authenticator else { continue };
            let (associated_data, nonce) = (authenticator.associated_data(), authenticator.nonce());
            match client.cipher {
                Cipher::Siv => {
                    siv_numbers.push(number);
                    let key = &client.siv[C2S];
                    let associated_data = Data::Octets(associated_data);
                    siv_messages.push(siv::Message { key, associated_data, nonce, plaintext: &[] });
                }
                Cipher::GcmSiv => {
                    let Ok(nonce) = nonce.try_into() else { continue };
                    gcm_numbers.push(number);
                    let keys = &client.message;
                    gcm_messages.push(gcm_siv::Message { keys, associated_data, nonce, plaintext: &[] });
                }
                Cipher::Alone(_) => {}
            }
        }
        let mut tags = [None; LANES];
        let siv_tags = siv_numbers.into_iter().zip(siv::tags(vector, &siv_messages));
        let gcm_tags = gcm_numbers.into_iter().zip(gcm_siv::tags(vector, &gcm_messages));
        for (number, tag) in siv_tags.chain(gcm_tags) {
            tags[number] = Some(tag);
        }
        tags
    }
}

impl NtsBatch {
    /// Writes all of the answers but their headers and what depends on these: the identifiers, and fresh cookies, sealed.
    /// `random` fills octets with random ones; it is asked once.
    pub fn prepare(
        &mut self,
        ring: &KeyRing,
        answers: &mut [BatchAnswer<'_>],
        random: &mut dyn FnMut(&mut [u8]),
    ) {
        let count = answers.len().min(LANES);
        let answers = &mut answers[..count];
        let mut nonces = [[0; NONCE_ROOM]; LANES * (1 + COOKIES_MAX)];
        let wanted = answers.iter().map(|answer| 1 + answer.cookies).sum();
        random(nonces[..wanted].as_flattened_mut());
        let mut nonces = nonces.iter();
        let mut cookies = ArrayVec::<FreshCookie, LANES>::new();
        for number in 0..answers.len() {
            let answer = &mut answers[number];
            let Some(client) = self.clients.get_mut(answer.request) else { continue };
            let (nonce, rest) = (nonces.next().copied().unwrap_or_default(), nonces.as_slice());
            let (cookie_nonces, rest) = rest.split_at(answer.cookies.min(rest.len()));
            nonces = rest.iter();
            let step = EXTENSION_FIELD_HEADER_OCTETS + ring.fresh_cookie_octets(client.algorithm);
            answer.frame = lay_out(answer, client.algorithm, &nonce, answer.cookies * step).ok();
            let Some(frame) = &answer.frame else { continue };
            let mut at = frame.text().start;
            for nonce in cookie_nonces {
                cookies.push(FreshCookie { answer: number, at, nonce: *nonce });
                at += step;
                if cookies.is_full() {
                    self.make_cookies(ring, answers, &cookies);
                    cookies.clear();
                }
            }
        }
        self.make_cookies(ring, answers, &cookies);
    }

    fn make_cookies(&self, ring: &KeyRing, answers: &mut [BatchAnswer<'_>], cookies: &[FreshCookie]) {
        let client =
            |answers: &[BatchAnswer<'_>], cookie: &FreshCookie| &self.clients[answers[cookie.answer].request];
        let id = ring.current_id().to_be_bytes();
        let (Some(vector), Some(key)) = (ring.arithmetic().vector(), ring.current_siv_key()) else {
            for cookie in cookies {
                if let Some(keys) = client(answers, cookie).keys() {
                    let made = ring.seal_cookie(&keys, cookie.nonce);
                    let room = cookie.field(answers, made.as_bytes().len());
                    room.copy_from_slice(made.as_bytes());
                }
            }
            return;
        };
        let mut messages = ArrayVec::<_, LANES>::new();
        for cookie in cookies {
            messages.push(key.message(&cookie.nonce, client(answers, cookie).plaintext()));
        }
        let tags = siv::tags(vector, &messages);
        for (cookie, tag) in cookies.iter().zip(tags) {
            let plaintext = client(answers, cookie).plaintext();
            let room = cookie.field(answers, COOKIE_HEAD_OCTETS + AEAD_TAG_OCTETS + plaintext.len());
            room[..KEY_ID_OCTETS].copy_from_slice(&id);
            room[KEY_ID_OCTETS..COOKIE_HEAD_OCTETS].copy_from_slice(&cookie.nonce);
            let (room_for_tag, text) = room[COOKIE_HEAD_OCTETS..].split_at_mut(AEAD_TAG_OCTETS);
            room_for_tag.copy_from_slice(&tag);
            text.copy_from_slice(plaintext);
            key.add_key_stream(vector, tag, text);
        }
    }

    /// Seals the answers, whose headers are written by now.
    pub fn seal(&mut self, ring: &KeyRing, answers: &mut [BatchAnswer<'_>]) {
        let count = answers.len().min(LANES);
        let answers = &mut answers[..count];
        if let Some(vector) = ring.arithmetic().vector() {
            self.seal_siv(vector, answers);
            self.seal_gcm_siv(vector, answers);
        }
        for answer in answers {
            if let (Some(frame), Some(client)) = (&answer.frame, self.clients.get(answer.request))
                && let Cipher::Alone(keys) = &client.cipher
                && frame.seal(&keys.s2c.expand(), answer.response).is_err()
            {
                answer.frame = None;
            }
        }
    }

    fn seal_siv(&self, vector: Vector, answers: &mut [BatchAnswer<'_>]) {
        let mut numbers = ArrayVec::<usize, LANES>::new();
        let mut messages = ArrayVec::<siv::Message<'_>, LANES>::new();
        for (number, answer) in answers.iter().enumerate() {
            let client = &self.clients[answer.request];
            if let (Cipher::Siv, Some(frame)) = (&client.cipher, &answer.frame) {
                numbers.push(number);
                messages.push(siv::Message {
                    key: &client.siv[S2C],
                    associated_data: Data::Octets(&answer.response[frame.associated_data()]),
                    nonce: &answer.response[frame.nonce()],
                    plaintext: &answer.response[frame.text()],
                });
            }
        }
        let tags = siv::tags(vector, &messages);
        drop(messages);
        for (number, tag) in numbers.into_iter().zip(tags) {
            let answer = &mut answers[number];
            let key = &self.clients[answer.request].siv[S2C];
            answer.finish(tag, |text| key.add_key_stream(vector, tag, text));
        }
    }

    fn seal_gcm_siv(&mut self, vector: Vector, answers: &mut [BatchAnswer<'_>]) {
        let mut derived = ArrayVec::<_, LANES>::new();
        let mut numbers = ArrayVec::<(usize, [u8; gcm_siv::NONCE_OCTETS]), LANES>::new();
        for (request, client) in self.clients.iter_mut().enumerate() {
            let answer = answers.iter().enumerate().find(|(_, answer)| answer.request == request);
            if let (Cipher::GcmSiv, Some((number, answer))) = (&client.cipher, answer)
                && let Some(frame) = &answer.frame
                && let Ok(nonce) = answer.response[frame.nonce()].try_into()
            {
                numbers.push((number, nonce));
                derived.push((&client.gcm_siv[S2C], nonce, &mut client.message));
            }
        }
        gcm_siv::MessageKeys::derive(vector, &mut derived);
        drop(derived);
        let messages: ArrayVec<_, LANES> = numbers
            .iter()
            .filter_map(|(number, nonce)| {
                let answer = &answers[*number];
                let frame = answer.frame.as_ref()?;
                Some(gcm_siv::Message {
                    keys: &self.clients[answer.request].message,
                    nonce: *nonce,
                    associated_data: &answer.response[frame.associated_data()],
                    plaintext: &answer.response[frame.text()],
                })
            })
            .collect();
        let tags = gcm_siv::tags(vector, &messages);
        drop(messages);
        for ((number, _), tag) in numbers.into_iter().zip(tags) {
            let keys = &self.clients[answers[number].request].message;
            answers[number].finish(tag, |text| keys.add_key_stream(vector, tag, text));
        }
    }
}

impl BatchAnswer<'_> {
    /// Writes the tag and encrypts the text.
    fn finish(&mut self, tag: Block, encrypt: impl FnOnce(&mut [u8])) {
        if let Some(frame) = &self.frame {
            self.response[frame.tag()].copy_from_slice(&tag);
            encrypt(&mut self.response[frame.text()]);
        }
    }
}

/// A cookie to be made, and where.
struct FreshCookie {
    answer: usize,
    at: usize,
    nonce: [u8; NONCE_ROOM],
}

impl FreshCookie {
    /// Writes the field's head and gives the room for a cookie of so many octets.
    fn field<'a>(&self, answers: &'a mut [BatchAnswer<'_>], octets: usize) -> &'a mut [u8] {
        let field = &mut answers[self.answer].response[self.at..][..EXTENSION_FIELD_HEADER_OCTETS + octets];
        let (head, room) = field.split_at_mut(EXTENSION_FIELD_HEADER_OCTETS);
        head[..2].copy_from_slice(&field_type::NTS_COOKIE.to_be_bytes());
        let length = u16::try_from(EXTENSION_FIELD_HEADER_OCTETS + octets).unwrap_or(u16::MAX);
        head[2..].copy_from_slice(&length.to_be_bytes());
        room
    }
}

/// In constant time, eight octets at once.
fn equal(left: &Block, right: &Block) -> bool {
    let halves = |block: &Block| {
        let (halves, _) = block.as_chunks::<8>();
        [u64::from_ne_bytes(halves[0]), u64::from_ne_bytes(halves[1])]
    };
    let ([a, b], [c, d]) = (halves(left), halves(right));
    (a.ct_eq(&c) & b.ct_eq(&d)).into()
}

/// Writes the identifier and the start of the authenticator.
fn lay_out(
    answer: &mut BatchAnswer<'_>,
    algorithm: AeadAlgorithm,
    nonce: &[u8; NONCE_ROOM],
    text_octets: usize,
) -> Result<AuthenticatorFrame, DecodeError> {
    if answer.response.len() < HEADER_OCTETS {
        return Err(DecodeError::BufferTooShort);
    }
    let mut writer = FieldWriter::new(answer.response, HEADER_OCTETS);
    answer.fields.append(&mut writer)?;
    writer.put_field(field_type::UNIQUE_IDENTIFIER, answer.unique_identifier, 0)?;
    AuthenticatorFrame::lay_out(&mut writer, algorithm, &nonce[..algorithm.nonce_octets()], text_octets)
}

impl Client {
    fn new() -> Self {
        Self {
            algorithm: AeadAlgorithm::AesSivCmac256,
            plaintext: [0; PLAINTEXT_OCTETS_MAX],
            octets: 0,
            cipher: Cipher::Siv,
            siv: [const { SivKey::EMPTY }; 2],
            gcm_siv: [const { Schedule::EMPTY }; 2],
            message: gcm_siv::MessageKeys::EMPTY,
        }
    }

    /// One request alone, in the portable way.
    fn accept(&mut self, ring: &KeyRing, request: &NtsRequest<'_>) -> Result<usize, NtsRequestError> {
        let (keys, cookies) = request.accept(ring)?;
        self.algorithm = keys.algorithm();
        self.cipher = Cipher::Alone(keys);
        Ok(cookies)
    }

    /// Decrypts a cookie, unverified as yet; gives its tag, the key that should have made it, and its nonce.
    fn decrypt_cookie<'r, 'c>(
        &mut self,
        vector: Vector,
        ring: &'r KeyRing,
        cookie: &'c [u8],
    ) -> Result<(&'c Block, &'r SameDataKey, &'c [u8]), CookieError> {
        if !KeyRing::is_cookie_length(cookie.len()) {
            return Err(CookieError::Length);
        }
        let (head, rest) = cookie.split_first_chunk::<COOKIE_HEAD_OCTETS>().ok_or(CookieError::Length)?;
        let (tag, text) = rest.split_first_chunk().ok_or(CookieError::Length)?;
        let [a, b, c, d, ..] = *head;
        let key = ring.siv_key(u32::from_be_bytes([a, b, c, d])).ok_or(CookieError::UnknownKey)?;
        self.octets = text.len();
        let plaintext = self.plaintext.get_mut(..text.len()).ok_or(CookieError::Length)?;
        plaintext.copy_from_slice(text);
        key.add_key_stream(vector, *tag, plaintext);
        Ok((tag, key, &head[KEY_ID_OCTETS..]))
    }

    /// Keys that came in another program's cookie, as if it had been one of ours.
    fn take_keys(&mut self, keys: &NtsKeys) -> bool {
        self.octets = write_plaintext(keys, &mut self.plaintext);
        self.read_plaintext()
    }

    /// What the verified plaintext says about the algorithm; false when a later version may have sealed it.
    fn read_plaintext(&mut self) -> bool {
        let Some((algorithm, ..)) = plaintext_parts(self.plaintext()) else { return false };
        self.algorithm = algorithm;
        self.cipher = match algorithm {
            AeadAlgorithm::AesSivCmac256 => Cipher::Siv,
            AeadAlgorithm::Aes128GcmSiv => Cipher::GcmSiv,
            AeadAlgorithm::AesSivCmac384 | AeadAlgorithm::AesSivCmac512 => {
                let Some(keys) = plaintext_keys(self.plaintext()) else { return false };
                Cipher::Alone(keys)
            }
        };
        true
    }

    fn plaintext(&self) -> &[u8] {
        &self.plaintext[..self.octets]
    }

    /// The keys themselves, where cookies are made one by one.
    fn keys(&self) -> Option<NtsKeys> {
        match &self.cipher {
            Cipher::Alone(keys) => Some(keys.clone()),
            Cipher::Siv | Cipher::GcmSiv => plaintext_keys(self.plaintext()),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.plaintext.zeroize();
    }
}

#[cfg(test)]
mod tests;
