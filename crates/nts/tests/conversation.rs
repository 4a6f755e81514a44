//! Client and server with each other, without TLS and sockets: cookies go round, and are spent when answers are lost.

use arrayvec::ArrayVec;
use chime_nts::{
    AeadAlgorithm, AeadKey, COOKIES_MAX, Cookie, CookieKey, KeyRing, NtsKeys, NtsRequest,
    verify_nts_response, write_nts_request, write_nts_response,
};
use chime_time::NtpDate;
use chime_wire::{DATAGRAM_OCTETS_MAX, FieldWriter, HEADER_OCTETS};

/// Both sides, and a counter from which everything that ought to be random is made.
struct Conversation {
    ring: KeyRing,
    keys: NtsKeys,
    cookies: ArrayVec<Cookie, COOKIES_MAX>,
    drawn: u8,
}

impl Conversation {
    fn new(algorithm: AeadAlgorithm) -> Self {
        let key =
            |octet| AeadKey::new(algorithm, &vec![octet; algorithm.key_octets()]).expect("right length");
        let keys = NtsKeys { c2s: key(1), s2c: key(2) };
        let ring = KeyRing::new(CookieKey::new(1, [3; 32], NtpDate::from_unix(0, 0)));
        let cookies = (0..8).map(|nonce| ring.seal_cookie(&keys, [nonce; 16])).collect();
        Self { ring, keys, cookies, drawn: 8 }
    }

    fn draw<const N: usize>(&mut self) -> [u8; N] {
        self.drawn += 1;
        [self.drawn; N]
    }

    /// One request and its answer, which may be lost; gives both lengths.
    fn poll(&mut self, is_lost: bool) -> (usize, usize) {
        let (identifier, nonce) = (self.draw::<32>(), self.draw::<16>());
        let nonce = &nonce[..self.keys.algorithm().nonce_octets()];
        let mut buffer = [0; DATAGRAM_OCTETS_MAX];
        buffer[0] = 4 << 3 | 3;
        let wanted = COOKIES_MAX - self.cookies.len();
        let cookie = self.cookies.remove(0);
        let mut writer = FieldWriter::new(&mut buffer, HEADER_OCTETS);
        write_nts_request(&mut writer, &identifier, cookie.as_bytes(), wanted, &self.keys.c2s, nonce)
            .expect("room");
        let request = writer.written().to_vec();

        let read = NtsRequest::parse(&request).expect("well-formed");
        let (keys, cookies) = read.accept(&self.ring).expect("authentic");
        assert_eq!((&keys, cookies), (&self.keys, wanted + 1));
        let nonces: Vec<_> = (0..cookies).map(|_| self.draw()).collect();
        let fresh: Vec<_> = nonces.into_iter().map(|nonce| self.ring.seal_cookie(&keys, nonce)).collect();
        buffer[0] = 4 << 3 | 4;
        let mut writer = FieldWriter::new(&mut buffer, HEADER_OCTETS);
        write_nts_response(&mut writer, read.unique_identifier, &keys.s2c, nonce, &fresh).expect("room");
        let response = writer.written();
        assert!(response.len() <= request.len());
        if !is_lost {
            verify_nts_response(response, &identifier, &self.keys.s2c, &mut self.cookies).expect("authentic");
        }
        (request.len(), response.len())
    }
}

#[test]
fn cookies_go_round_with_every_algorithm() {
    for (algorithm, octets) in AeadAlgorithm::ALL.into_iter().zip([232, 264, 296, 196]) {
        let mut conversation = Conversation::new(algorithm);
        for _ in 0..20 {
            assert_eq!(conversation.poll(false), (octets, octets), "{algorithm}");
            assert_eq!(conversation.cookies.len(), COOKIES_MAX);
        }
    }
}

#[test]
fn lost_answers_cost_a_cookie_each_and_the_next_good_one_brings_them_back() {
    let mut conversation = Conversation::new(AeadAlgorithm::AesSivCmac256);
    for left in (1..8).rev() {
        conversation.poll(true);
        assert_eq!(conversation.cookies.len(), left);
    }
    let (request, response) = conversation.poll(false);
    assert_eq!(conversation.cookies.len(), COOKIES_MAX);
    assert_eq!((request, response), (232 + 7 * 108, 232 + 7 * 108));
}

/// A cookie waits for seven others before it is sent; a client that polls twice per rotation never sends one that is
/// too old.
#[test]
fn cookies_outlast_the_rotation_of_keys() {
    let mut conversation = Conversation::new(AeadAlgorithm::Aes128GcmSiv);
    for number in 2..12 {
        conversation.ring.rotate(CookieKey::new(number, [9; 32], NtpDate::from_unix(0, 0)), 4);
        conversation.poll(false);
        conversation.poll(false);
    }
}
