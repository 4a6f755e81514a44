//! The NTS state of one association: keys, cookies, and how many placeholders its path bears. RFC 8915 §5.7.

use crate::certificate_dates::CertificateDates;
use arrayvec::ArrayVec;
use chime_nts::{COOKIES_MAX, Cookie, NtsKeys};
use chime_time::MonoTime;
use chime_wire::HEADER_OCTETS;
use std::net::IpAddr;

/// The longest request that is made longer by placeholders: the smallest packet that every IPv6 path bears (1280) less
/// the IPv6 and UDP headers. A single cookie may be longer than that; nothing can be done about it.
pub(crate) const REQUEST_OCTETS_MAX: usize = 1280 - 48;
/// Octets of a request besides cookie and placeholders: header, unique identifier, authenticator with an empty plaintext
/// (nonce of up to 16 octets, tag of 16), and the headers of the fields.
const REQUEST_OCTETS_FIXED: usize = HEADER_OCTETS + 36 + 40;
/// Octets of a field's header.
const FIELD_HEADER_OCTETS: usize = 4;
/// Good answers after which one more placeholder is tried on a path that lost long requests; doubles with each loss.
const PROBE_AFTER: u32 = 4;
/// The greatest such wait; answers.
const PROBE_AFTER_MAX: u32 = 256;

/// What the server's certificate says about its dates, and whether that is judged already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Certificate {
    pub(crate) dates: CertificateDates,
    /// The dates are still to be judged against a measured time.
    pub(crate) provisional: bool,
}

/// Keys, cookies and what was learnt about the path.
#[derive(Clone, Debug)]
pub(crate) struct NtsState {
    keys: NtsKeys,
    /// The other key set of AEAD 30, until the first authentic answer decides. See docs of chrony's record 1024.
    alternative: Option<NtsKeys>,
    cookies: ArrayVec<Cookie, COOKIES_MAX>,
    /// Unix seconds by our clock at that time.
    pub(crate) established_unix: i64,
    /// The same on our monotonic scale; `None` when the keys are from before a restart.
    pub(crate) established_at: Option<MonoTime>,
    /// Successful key establishments of this association, this one included.
    pub(crate) establishments: u32,
    pub(crate) certificate: Option<Certificate>,
    /// The address of the key establishment server.
    pub(crate) ke_address: Option<IpAddr>,
    /// Whether the latest request was answered with NTSN.
    pub(crate) nak: bool,
    /// Whether new keys are wanted although cookies may be left: after NTSN, or when the keys are old.
    pub(crate) wants_keys: bool,
    path: PathMemory,
}

/// How many placeholders requests may carry on this path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct PathMemory {
    limit: usize,
    good: u32,
    probe_after: u32,
}

/// What goes into one request.
#[derive(Clone, Debug)]
pub(crate) struct RequestParts {
    pub(crate) cookie: Cookie,
    pub(crate) placeholders: usize,
}

impl NtsState {
    pub(crate) fn new(
        keys: NtsKeys,
        alternative: Option<NtsKeys>,
        cookies: impl IntoIterator<Item = Cookie>,
        established_unix: i64,
    ) -> Self {
        let path = PathMemory { limit: COOKIES_MAX - 1, good: 0, probe_after: PROBE_AFTER };
        Self {
            keys,
            alternative,
            cookies: cookies.into_iter().take(COOKIES_MAX).collect(),
            established_unix,
            established_at: None,
            establishments: 1,
            certificate: None,
            ke_address: None,
            nak: false,
            wants_keys: false,
            path,
        }
    }

    /// Takes over what an older state of the same association learnt about the path and counted.
    pub(crate) const fn inherit(&mut self, older: &Self) {
        self.path = older.path;
        self.establishments = older.establishments.saturating_add(1);
    }

    pub(crate) const fn keys(&self) -> &NtsKeys {
        &self.keys
    }

    pub(crate) fn cookies(&self) -> &[Cookie] {
        &self.cookies
    }

    /// How old the keys are; seconds. Only keys from before a restart depend on the system clock, which may have been
    /// stepped since.
    pub(crate) fn age_seconds(&self, now: MonoTime, unix_now: i64) -> f64 {
        self.established_at
            .map_or_else(|| unix_now.saturating_sub(self.established_unix) as f64, |at| now.seconds_since(at))
    }

    pub(crate) fn needs_keys(&self) -> bool {
        self.wants_keys || self.cookies.is_empty()
    }

    /// Takes the oldest cookie for one request: it is never sent again. With n cookies before, 8 − n placeholders bring
    /// the number back to 8; fewer where long requests get lost or the packet would become too long.
    pub(crate) fn take_request_parts(&mut self) -> Option<RequestParts> {
        let wanted = COOKIES_MAX - self.cookies.len();
        let cookie = self.cookies.pop_at(0)?;
        let field = cookie.as_bytes().len() + FIELD_HEADER_OCTETS;
        let fitting = REQUEST_OCTETS_MAX.saturating_sub(REQUEST_OCTETS_FIXED + field) / field;
        Some(RequestParts { cookie, placeholders: wanted.min(self.path.limit).min(fitting) })
    }

    /// A request never left: its cookie was not seen by anybody.
    pub(crate) fn put_back(&mut self, cookie: Cookie) {
        // There is room unless new cookies came in between; they are fresher.
        let _ = self.cookies.try_insert(0, cookie);
    }

    /// An authentic answer came with these cookies, to a request with so many placeholders.
    pub(crate) fn answered(&mut self, fresh: impl IntoIterator<Item = Cookie>, placeholders: usize) {
        for cookie in fresh {
            if self.cookies.is_full() {
                break;
            }
            self.cookies.push(cookie);
        }
        self.alternative = None;
        self.nak = false;
        self.path.answered(placeholders);
    }

    /// No answer came to a request with so many placeholders.
    pub(crate) fn unanswered(&mut self, placeholders: usize) {
        self.path.lost(placeholders);
    }

    /// NTSN was the best that came. Gives whether the other key set is tried; otherwise new keys are wanted. The cookies
    /// stay: an NTSN is not authenticated, and while new keys cannot be had the old ones may do.
    pub(crate) fn refused(&mut self) -> bool {
        self.nak = true;
        if let Some(other) = self.alternative.take() {
            self.keys = other;
            true
        } else {
            self.wants_keys = true;
            false
        }
    }
}

impl PathMemory {
    fn answered(&mut self, placeholders: usize) {
        if self.limit >= COOKIES_MAX - 1 {
            return;
        }
        self.limit = self.limit.max(placeholders);
        self.good += 1;
        if self.good >= self.probe_after {
            self.good = 0;
            self.limit += 1;
        }
    }

    /// A loss counts only against requests that placeholders made longer: it says nothing about the shortest ones.
    fn lost(&mut self, placeholders: usize) {
        if placeholders == 0 {
            return;
        }
        if self.limit < COOKIES_MAX - 1 {
            self.probe_after = (self.probe_after * 2).min(PROBE_AFTER_MAX);
        }
        self.limit = placeholders / 2;
        self.good = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_nts::{AeadAlgorithm, AeadKey};

    fn keys(fill: u8) -> NtsKeys {
        let key = |octet| AeadKey::new(AeadAlgorithm::AesSivCmac256, &[octet; 32]).expect("32 octets");
        NtsKeys { c2s: key(fill), s2c: key(fill + 1) }
    }

    fn cookie(fill: u8, octets: usize) -> Cookie {
        Cookie::new(&vec![fill; octets]).expect("a length that is taken")
    }

    fn state(count: u8, octets: usize) -> NtsState {
        NtsState::new(keys(1), Some(keys(3)), (0..count).map(|fill| cookie(fill, octets)), 0)
    }

    fn placeholders(state: &mut NtsState) -> Option<usize> {
        state.take_request_parts().map(|parts| parts.placeholders)
    }

    #[test]
    fn n_cookies_ask_with_eight_minus_n_placeholders() {
        let mut state = state(8, 100);
        let asked: Vec<_> = (0..9).map(|_| placeholders(&mut state)).collect();
        let wanted = [Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), Some(7), None];
        assert_eq!(asked, wanted);
        assert!(state.needs_keys());
    }

    #[test]
    fn the_oldest_cookie_goes_first_and_never_twice() {
        let mut state = state(3, 100);
        state.answered((3..20).map(|fill| cookie(fill, 100)), 0);
        let order: Vec<u8> = std::iter::from_fn(|| state.take_request_parts())
            .map(|parts| parts.cookie.as_bytes()[0])
            .collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn long_cookies_ask_with_fewer_placeholders() {
        let mut long = state(1, 1000);
        assert_eq!(placeholders(&mut long), Some(0));
        let mut middle = state(1, 252);
        assert_eq!(placeholders(&mut middle), Some(3));
        assert_eq!(REQUEST_OCTETS_FIXED + 104, 228);
    }

    #[test]
    fn lost_long_requests_become_shorter_and_the_path_is_remembered() {
        let mut state = state(1, 100);
        assert_eq!(placeholders(&mut state), Some(7));
        state.unanswered(7);
        state.put_back(cookie(9, 100));
        assert_eq!(placeholders(&mut state), Some(3));
        state.unanswered(3);
        state.put_back(cookie(9, 100));
        assert_eq!(placeholders(&mut state), Some(1));
        for _ in 0..3 {
            state.answered([cookie(1, 100)], 1);
            assert_eq!(placeholders(&mut state), Some(1));
        }
        state.unanswered(0);
        state.put_back(cookie(9, 100));
        assert_eq!(placeholders(&mut state), Some(1));
        for _ in 0..32 {
            state.answered([cookie(1, 100)], 0);
            placeholders(&mut state);
        }
        state.put_back(cookie(9, 100));
        assert!(placeholders(&mut state) > Some(1));
    }

    #[test]
    fn the_other_key_set_is_tried_once_and_only_before_the_first_answer() {
        let mut state = state(8, 100);
        assert!(state.refused());
        assert_eq!(state.keys(), &keys(3));
        assert!(!state.refused());
        assert!(state.needs_keys());
        let mut settled = self::state(8, 100);
        settled.answered([], 0);
        assert!(!settled.refused());
        assert_eq!(settled.keys(), &keys(1));
    }
}
