//! What was answered and what was not, and why: the numbers behind `serverstats` and the metrics.

use core::fmt;

/// Declares an enum whose variants are counted: their number, all of them, and a short name for metrics and reports.
macro_rules! counted {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable name in metrics and reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

counted! {
    /// What was sent.
    ResponseKind {
        /// Time without authentication.
        Plain => "plain_time",
        /// Time without authentication, in interleaved mode. RFC 9769 §2.
        Interleaved => "interleaved_time",
        /// Time with a MAC of the key that the request was made with. RFC 5905 §7.3.
        Keyed => "key_time",
        /// Time with NTS. RFC 8915 §5.7.
        Nts => "nts_time",
        /// Time that was handed to Samba, to be signed for a member of a Windows domain.
        Signed => "signed_time",
        /// The kiss code NTSN: the cookie or the authenticator was not accepted. RFC 8915 §5.7.
        NtsNak => "nts_nak",
        /// The kiss code RATE: too many requests from this address.
        KissRate => "kiss_rate",
        /// The kiss code DENY: this address or this kind of request is not served.
        KissDeny => "kiss_deny",
    }
}

counted! {
    /// Why nothing was sent.
    SilenceReason {
        /// Under 48 octets.
        TooShort => "too_short",
        /// A version that is not answered.
        Version => "version",
        /// Not a request: neither client nor symmetric active mode.
        Mode => "mode",
        /// A control message (mode 6, RFC 9327): not this responder's business.
        Control => "control",
        /// A private message (mode 7): never answered.
        Private => "private",
        /// The access list refuses the address.
        AccessDenied => "access_denied",
        /// Too many requests from this address.
        RateLimited => "rate_limited",
        /// It waited for so long that its answer would be too late.
        Late => "late",
        /// Only NTS is served, or only what is authenticated.
        NtsRequired => "nts_required",
        /// What follows the header is neither extension fields nor a MAC.
        Malformed => "malformed",
        /// Not an NTP message in a PTP message of our domain, where such are served.
        PtpMalformed => "ptp_malformed",
        /// A MAC of a key that this server does not have.
        UnknownKey => "unknown_key",
        /// A MAC that is not that of the packet.
        WrongMac => "wrong_mac",
        /// Its answer was to be signed by Samba, which is not there or has too much to do.
        CannotSign => "cannot_sign",
        /// Dropped at random, as the terms for its network say.
        Flaky => "flaky",
        /// NTS fields that do not make a request. RFC 8915 §5.7.
        NtsMalformed => "nts_malformed",
        /// NTS is not served.
        NtsNotServed => "nts_not_served",
        /// A kiss code NTSN was due, but this address has had enough of them.
        NtsNakLimited => "nts_nak_limited",
        /// The answer would have been longer than the request.
        ResponseTooLong => "response_too_long",
    }
}

/// Ages of cookie keys that are counted apart: the current one, three before it, and older ones.
pub const COOKIE_AGES: usize = 5;

/// Counts of one responder since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServerCounters {
    /// Datagrams that were looked at.
    pub received: u64,
    /// Answers in interleaved mode, however authenticated. RFC 9769 §2.
    pub interleaved: u64,
    /// Requests of a version below 4.
    pub old_versions: u64,
    /// Cookies that were sent in answers.
    pub cookies_made: u64,
    /// Cookies that were good, by the age of their key: the current one, those before it, and all older ones.
    pub cookies_opened: [u64; COOKIE_AGES],
    responses: [u64; ResponseKind::ALL.len()],
    silences: [u64; SilenceReason::ALL.len()],
}

/// Plain requests that did not come to a responder.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PlainCounts {
    /// Answered with the time.
    pub answered: u64,
    /// Told that they are too many, with the kiss code RATE.
    pub kissed: u64,
    /// Not answered, as they are too many.
    pub limited: u64,
    /// Those of all these with a version below 4.
    pub old_versions: u64,
}

impl ServerCounters {
    /// How many numbers these are.
    pub const LENGTH: usize = ResponseKind::ALL.len() + SilenceReason::ALL.len() + 4 + COOKIE_AGES;

    /// How many answers of this kind were made.
    #[must_use]
    pub const fn responses(&self, kind: ResponseKind) -> u64 {
        self.responses[kind as usize]
    }

    /// How many requests were not answered for this reason.
    #[must_use]
    pub const fn silences(&self, reason: SilenceReason) -> u64 {
        self.silences[reason as usize]
    }

    /// How many requests were answered, kisses included.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.responses.iter().sum()
    }

    /// How many requests were not answered.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.silences.iter().sum()
    }

    /// How many answers were authenticated, with NTS or with a key.
    #[must_use]
    pub const fn authenticated(&self) -> u64 {
        self.responses(ResponseKind::Nts) + self.responses(ResponseKind::Keyed)
    }

    /// Adds the counts of another responder.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.interleaved += other.interleaved;
        self.old_versions += other.old_versions;
        self.cookies_made += other.cookies_made;
        self.cookies_opened.iter_mut().zip(other.cookies_opened).for_each(|(sum, count)| *sum += count);
        self.responses.iter_mut().zip(other.responses).for_each(|(sum, count)| *sum += count);
        self.silences.iter_mut().zip(other.silences).for_each(|(sum, count)| *sum += count);
    }

    /// Counts plain requests that somebody else has seen to.
    pub const fn add_plain(&mut self, counts: &PlainCounts) {
        self.received += counts.answered + counts.kissed + counts.limited;
        self.responses[ResponseKind::Plain as usize] += counts.answered;
        self.responses[ResponseKind::KissRate as usize] += counts.kissed;
        self.silences[SilenceReason::RateLimited as usize] += counts.limited;
        self.old_versions += counts.old_versions;
    }

    /// The numbers alone, in a fixed order, for those who pass them on one by one.
    #[must_use]
    pub fn to_array(&self) -> [u64; Self::LENGTH] {
        let mut array = [0; Self::LENGTH];
        let counts = self.responses.iter().chain(&self.silences).chain(&self.cookies_opened);
        let others = [&self.received, &self.interleaved, &self.old_versions, &self.cookies_made];
        let counts = counts.chain(others);
        array.iter_mut().zip(counts).for_each(|(to, count)| *to = *count);
        array
    }

    /// The inverse of [`Self::to_array`].
    #[must_use]
    pub fn from_array(array: &[u64; Self::LENGTH]) -> Self {
        let mut counters = Self::default();
        let others = [
            &mut counters.received,
            &mut counters.interleaved,
            &mut counters.old_versions,
            &mut counters.cookies_made,
        ];
        let counts = counters.responses.iter_mut().chain(&mut counters.silences);
        let counts = counts.chain(&mut counters.cookies_opened).chain(others);
        counts.zip(array).for_each(|(to, count)| *to = *count);
        counters
    }

    pub(crate) const fn count_response(&mut self, kind: ResponseKind) {
        self.responses[kind as usize] += 1;
    }

    /// A good cookie, sealed with the key that was current `age` keys ago, and how many came back for it.
    pub(crate) const fn count_cookies(&mut self, age: usize, made: usize) {
        self.cookies_opened[if age < COOKIE_AGES { age } else { COOKIE_AGES - 1 }] += 1;
        self.cookies_made += made as u64;
    }

    pub(crate) const fn count_silence(&mut self, reason: SilenceReason) {
        self.silences[reason as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_kinds_and_reasons_apart() {
        let mut one = ServerCounters { received: 3, interleaved: 5, ..ServerCounters::default() };
        one.count_response(ResponseKind::Nts);
        one.count_silence(SilenceReason::ResponseTooLong);
        let mut sum = one;
        sum.count_response(ResponseKind::Keyed);
        sum.add(&one);
        assert_eq!((sum.received, sum.answered(), sum.dropped(), sum.authenticated()), (6, 3, 2, 3));
        let mut more = sum;
        more.add_plain(&PlainCounts { answered: 5, kissed: 1, limited: 3, old_versions: 2 });
        assert_eq!((more.received, more.responses(ResponseKind::Plain), more.old_versions), (15, 5, 2));
        assert_eq!(
            (more.responses(ResponseKind::KissRate), more.silences(SilenceReason::RateLimited)),
            (1, 3)
        );
        assert_eq!(sum.interleaved, 10);
        assert_eq!(sum.responses(ResponseKind::Nts), 2);
        assert_eq!(sum.silences(SilenceReason::ResponseTooLong), 2);
        assert_eq!(ServerCounters::from_array(&sum.to_array()), sum);
        assert_eq!(ResponseKind::Nts.to_string(), "nts_time");
    }
}
