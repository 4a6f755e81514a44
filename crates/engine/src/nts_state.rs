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
/// Cookies of an association that are written down for the time after a crash. With one, a single lost request would be the
/// end of it; more would be missing while requests get lost.
const COOKIES_SET_ASIDE: usize = 2;
/// Of so many cookies one may be set aside: a server that hands out few leaves none to spare.
const COOKIES_PER_SET_ASIDE: usize = 4;
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
    /// Those that may be sent, oldest first.
    cookies: ArrayVec<Cookie, COOKIES_MAX>,
    /// Those that may be on disk, where a crash would leave them: they are not sent before the disk has others.
    set_aside: ArrayVec<Cookie, COOKIES_MAX>,
    /// Those that are being written, to take the place of the former.
    to_set_aside: ArrayVec<Cookie, COOKIES_MAX>,
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
            set_aside: ArrayVec::new(),
            to_set_aside: ArrayVec::new(),
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

    /// All cookies that were not sent, oldest first.
    pub(crate) fn cookies(&self) -> impl Iterator<Item = &Cookie> {
        self.set_aside.iter().chain(&self.cookies).chain(&self.to_set_aside)
    }

    pub(crate) const fn cookie_count(&self) -> usize {
        self.set_aside.len() + self.cookies.len() + self.to_set_aside.len()
    }

    /// Takes the newest cookies out of use, so that they can be written down: whoever finds them after a crash can be sure
    /// that they were not sent (RFC 8915 §5.7). The last one that may be sent stays.
    pub(crate) fn set_aside(&mut self) -> &[Cookie] {
        // What is asked for again before it was written may have been written all the same.
        self.set_aside.extend(self.to_set_aside.drain(..));
        let spare = COOKIES_SET_ASIDE.min(self.cookie_count() / COOKIES_PER_SET_ASIDE);
        let first = self.cookies.len().saturating_sub(spare).max(1).min(self.cookies.len());
        self.to_set_aside.extend(self.cookies.drain(first..));
        &self.to_set_aside
    }

    /// The disk has what [`NtsState::set_aside`] gave, and nothing older: those before may be sent.
    pub(crate) fn saved(&mut self) {
        let newer = std::mem::replace(&mut self.cookies, std::mem::take(&mut self.set_aside));
        self.cookies.extend(newer);
        self.set_aside = std::mem::take(&mut self.to_set_aside);
    }

    /// Whether the last cookie that may be sent is the next, and there are others on disk: replaced there, they can be used.
    pub(crate) const fn is_short(&self) -> bool {
        self.cookies.len() <= 1 && !self.set_aside.is_empty()
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
        let wanted = COOKIES_MAX - self.cookie_count();
        let cookie = self.cookies.pop_at(0)?;
        let field = cookie.as_bytes().len() + FIELD_HEADER_OCTETS;
        let fitting = REQUEST_OCTETS_MAX.saturating_sub(REQUEST_OCTETS_FIXED + field) / field;
        Some(RequestParts { cookie, placeholders: wanted.min(self.path.limit).min(fitting) })
    }

    /// A request never left: its cookie was not seen by anybody.
    pub(crate) fn put_back(&mut self, cookie: Cookie) {
        // Otherwise new cookies came in between; they are fresher.
        if self.cookie_count() < COOKIES_MAX {
            self.cookies.insert(0, cookie);
        }
    }

    /// An authentic answer came with these cookies, to a request with so many placeholders.
    pub(crate) fn answered(&mut self, fresh: impl IntoIterator<Item = Cookie>, placeholders: usize) {
        for cookie in fresh {
            if self.cookie_count() >= COOKIES_MAX {
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

    /// The first octets of all cookies that are still sent.
    fn sent(state: &mut NtsState) -> Vec<u8> {
        std::iter::from_fn(|| state.take_request_parts()).map(|parts| parts.cookie.as_bytes()[0]).collect()
    }

    /// The first octets of the cookies that are written down.
    fn written(state: &mut NtsState) -> Vec<u8> {
        state.set_aside().iter().map(|cookie| cookie.as_bytes()[0]).collect()
    }

    #[test]
    fn cookies_that_may_be_on_disk_are_not_sent() {
        let mut state = state(8, 100);
        assert_eq!(written(&mut state), [6, 7]);
        let mut crashed = state.clone();
        assert_eq!(placeholders(&mut crashed), Some(0), "those set aside count");
        assert_eq!(sent(&mut crashed), [1, 2, 3, 4, 5]);
        assert!(crashed.needs_keys());
        state.saved();
        assert_eq!(written(&mut state), [4, 5]);
        assert_eq!(sent(&mut state.clone()), [0, 1, 2, 3], "as long as it is not known which are on disk");
        state.saved();
        assert_eq!(sent(&mut state), [6, 7, 0, 1, 2, 3], "the disk has 4 and 5");
        assert_eq!(state.cookies().count(), 2);
    }

    #[test]
    fn what_could_not_be_written_is_not_sent_either() {
        let mut state = state(8, 100);
        assert_eq!(written(&mut state), [6, 7]);
        assert_eq!(written(&mut state), [4, 5]);
        state.saved();
        state.answered((10..20).map(|fill| cookie(fill, 100)), 0);
        assert_eq!((state.cookie_count(), sent(&mut state)), (8, vec![6, 7, 0, 1, 2, 3]));
    }

    #[test]
    fn when_only_those_on_disk_are_left_they_can_be_had_back() {
        let mut state = state(8, 100);
        state.set_aside();
        state.saved();
        while state.cookies.len() > 2 {
            state.take_request_parts();
        }
        assert!(!state.is_short());
        state.take_request_parts();
        assert!(state.is_short());
        assert_eq!(written(&mut state), [0; 0], "the last one stays");
        state.saved();
        assert!(!state.is_short());
        assert_eq!(sent(&mut state), [6, 7, 5]);
    }

    #[test]
    fn a_server_of_few_cookies_leaves_none_to_spare() {
        for (count, spared) in [(0, 0), (1, 0), (3, 0), (4, 1), (7, 1), (8, 2)] {
            assert_eq!(written(&mut state(count, 100)).len(), spared, "{count}");
        }
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
