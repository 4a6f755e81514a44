//! Single values: what a string, a number or a list must look like, and what to say when it does
//! not.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::de::DeValue;

use super::table::{Fault, Parsed, Value, article, nearest};
use chime_nts::AeadAlgorithm;
use chime_server::{AccessRule, Subnet, Terms, TermsRule};

use crate::AuthenticationPolicy;
use crate::model::TERMS_WORDS;

/// A string, borrowed.
pub(in crate::dialects) fn string<'v>(value: &'v Value<'_>) -> Parsed<&'v str> {
    value.get_ref().as_str().ok_or_else(|| wrong_type(value, "a string"))
}

/// A string that is not empty.
pub(in crate::dialects) fn text(value: &Value<'_>) -> Parsed<String> {
    match string(value)? {
        "" => Err(fault(value, "must not be empty")),
        text => Ok(text.to_owned()),
    }
}

/// A path.
pub(in crate::dialects) fn path(value: &Value<'_>) -> Parsed<PathBuf> {
    text(value).map(PathBuf::from)
}

/// `true` or `false`.
pub(in crate::dialects) fn boolean(value: &Value<'_>) -> Parsed<bool> {
    value.get_ref().as_bool().ok_or_else(|| wrong_type(value, "true or false"))
}

/// An integer in a range.
pub(in crate::dialects) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&Value<'_>) -> Parsed<T>
where
    T: Copy + PartialOrd + Display + TryFrom<i64>,
{
    move |value| {
        let wanted = || format!("an integer from {} to {}", range.start(), range.end());
        let DeValue::Integer(digits) = value.get_ref() else {
            return Err(wrong_type(value, &wanted()));
        };
        i64::from_str_radix(digits.as_str(), digits.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| fault(value, format!("{digits} is out of range; give {}", wanted())))
    }
}

/// A number in a range; an integer is accepted too. `unit` goes behind the range in messages.
pub(in crate::dialects) fn number(
    range: RangeInclusive<f64>,
    unit: &'static str,
) -> impl Fn(&Value<'_>) -> Parsed<f64> {
    move |value| {
        let (low, high) = (range.start(), range.end());
        let wanted = if high.is_finite() {
            format!("a number from {low} to {high}{unit}")
        } else {
            format!("a number of at least {low}{unit}")
        };
        let number = plain_number(value).ok_or_else(|| wrong_type(value, &wanted))?;
        if number.is_finite() && range.contains(&number) {
            Ok(number)
        } else {
            Err(fault(value, format!("{number} is out of range; give {wanted}")))
        }
    }
}

/// One of a few words.
pub(in crate::dialects) fn word<T: Copy>(
    choices: &'static [(&'static str, T)],
) -> impl Fn(&Value<'_>) -> Parsed<T> {
    move |value| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let wanted = format!("one of \"{}\"", names.join("\", \""));
        let Some(given) = value.get_ref().as_str() else {
            return Err(wrong_type(value, &wanted));
        };
        let found = choices.iter().find(|(name, _)| *name == given);
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            vec![Fault {
                help: nearest(given, &names).map(|near| format!("did you mean \"{near}\"?")),
                ..Fault::new(value.span(), format!("\"{given}\" is not {wanted}"))
            }]
        })
    }
}

/// A list of which each item is read by `item`; every wrong item is reported.
pub(in crate::dialects) fn list<'i, T>(
    item: impl Fn(&Value<'i>) -> Parsed<T>,
) -> impl Fn(&Value<'i>) -> Parsed<Vec<T>> {
    move |value| {
        let DeValue::Array(items) = value.get_ref() else {
            return Err(wrong_type(value, "a list in square brackets"));
        };
        let mut good = Vec::new();
        let mut faults = Vec::new();
        for one in items {
            match item(one) {
                Ok(parsed) => good.push(parsed),
                Err(more) => faults.extend(more),
            }
        }
        if faults.is_empty() { Ok(good) } else { Err(faults) }
    }
}

/// One value or a list of them.
pub(in crate::dialects) fn one_or_list<'i, T>(
    item: impl Fn(&Value<'i>) -> Parsed<T>,
) -> impl Fn(&Value<'i>) -> Parsed<Vec<T>> {
    move |value| match value.get_ref() {
        DeValue::Array(_) => list(&item)(value),
        _ => item(value).map(|one| vec![one]),
    }
}

/// An IP address without a port.
pub(in crate::dialects) fn ip_address(value: &Value<'_>) -> Parsed<IpAddr> {
    let given = string(value)?;
    given.parse().map_err(|_| fault(value, format!("\"{given}\" is not an IP address")))
}

/// An address and a port to listen on.
pub(in crate::dialects) fn socket_address(value: &Value<'_>) -> Parsed<SocketAddr> {
    let given = string(value)?;
    given.parse().map_err(|_| {
        let help = match given.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => Some(format!("add a port: \"[{address}]:123\"")),
            Ok(IpAddr::V4(address)) => Some(format!("add a port: \"{address}:123\"")),
            Err(_) => None,
        };
        let message = format!("\"{given}\" is not IP:PORT, such as \"[::]:123\" or \"0.0.0.0:123\"");
        vec![Fault { help, ..Fault::new(value.span(), message) }]
    })
}

/// A network in CIDR notation; host bits are accepted and cleared.
pub(in crate::dialects) fn subnet(value: &Value<'_>) -> Parsed<Subnet> {
    let given = string(value)?;
    let parsed = given.split_once('/').and_then(|_| given.parse().ok());
    parsed.ok_or_else(|| {
        let alone = given.parse::<IpAddr>().ok();
        let help = alone.map(|address| {
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            format!("for this address alone write \"{address}/{prefix}\"")
        });
        vec![Fault {
            help,
            ..Fault::new(value.span(), format!("\"{given}\" is not a network like \"192.0.2.0/24\""))
        }]
    })
}

/// A rule `allow [all] [NETWORK]` or `deny [all] [NETWORK]`.
pub(in crate::dialects) fn access_rule(value: &Value<'_>) -> Parsed<AccessRule> {
    let given = string(value)?;
    let mut words = given.split_ascii_whitespace().peekable();
    let allow = match words.next() {
        Some("allow") => Some(true),
        Some("deny") => Some(false),
        _ => None,
    };
    let all = words.next_if_eq(&"all").is_some();
    let network = words.next().map(str::parse::<Subnet>).transpose();
    match (allow, network, words.next()) {
        (Some(allow), Ok(subnet), None) => Ok(AccessRule { allow, all, subnet }),
        _ => {
            let message = format!("\"{given}\" is not \"allow [all] [NETWORK]\" or \"deny [all] [NETWORK]\"");
            Err(fault(value, message))
        }
    }
}

/// `NETWORK [unlimited] [no-kiss] [authenticated] [newest-version]`.
pub(in crate::dialects) fn network_terms(value: &Value<'_>) -> Parsed<TermsRule> {
    let given = string(value)?;
    let mut words = given.split_ascii_whitespace();
    let subnet = words.next().and_then(|network| network.parse::<Subnet>().ok());
    let mut terms = Terms::USUAL;
    let known = words.all(|word| {
        let found = TERMS_WORDS.iter().find(|(name, _)| *name == word);
        found.map(|(_, change)| change(&mut terms)).is_some()
    });
    subnet.filter(|_| known).map(|subnet| TermsRule { subnet, terms }).ok_or_else(|| {
        let words = TERMS_WORDS.map(|(word, _)| word).join("], [");
        fault(value, format!("\"{given}\" is not \"NETWORK\" with any of [{words}] behind it"))
    })
}

/// SHA-256 of a public key: 64 hexadecimal digits; colons between octets are accepted.
pub(in crate::dialects) fn sha256(value: &Value<'_>) -> Parsed<[u8; 32]> {
    let given = string(value)?;
    let digits: String = given.chars().filter(|c| *c != ':').collect();
    let wrong = || fault(value, "must be a SHA-256 fingerprint: 64 hexadecimal digits");
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut octets = [0; 32];
    for (octet, at) in octets.iter_mut().zip((0..64).step_by(2)) {
        *octet = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong())?;
    }
    Ok(octets)
}

/// One number or several of AEADs that NTS has here, best first. RFC 8915 §4.1.5.
pub(in crate::dialects) fn aeads(value: &Value<'_>) -> Parsed<Vec<AeadAlgorithm>> {
    let one = |value: &Value<'_>| {
        let id = integer(0..=u16::MAX)(value)?;
        let known = AeadAlgorithm::offered_as(id);
        known.ok_or_else(|| fault(value, format!("AEAD {id} is not known here: there are 30 and 15")))
    };
    let given = one_or_list(one)(value)?;
    if given.is_empty() {
        Err(fault(value, "must have at least one AEAD: 30, 15 or both"))
    } else {
        Ok(given)
    }
}

/// `required`, `preferred`, `mixed` or `ignored`.
pub(in crate::dialects) fn authentication_policy(value: &Value<'_>) -> Parsed<AuthenticationPolicy> {
    word(&[
        ("required", AuthenticationPolicy::Required),
        ("preferred", AuthenticationPolicy::Preferred),
        ("mixed", AuthenticationPolicy::Mixed),
        ("ignored", AuthenticationPolicy::Ignored),
    ])(value)
}

/// An integer or a float as a number; not checked.
pub(in crate::dialects) fn plain_number(value: &Value<'_>) -> Option<f64> {
    match value.get_ref() {
        #[expect(clippy::cast_precision_loss, reason = "2^53 is beyond any quantity that is asked for")]
        DeValue::Integer(digits) => {
            i64::from_str_radix(digits.as_str(), digits.radix()).ok().map(|number| number as f64)
        }
        DeValue::Float(digits) => digits.as_str().parse().ok(),
        _ => None,
    }
}

/// A single fault at a value.
pub(in crate::dialects) fn fault(value: &Value<'_>, message: impl Into<String>) -> Vec<Fault> {
    vec![Fault::new(value.span(), message)]
}

/// The fault of a value that has another type than is wanted.
pub(in crate::dialects) fn wrong_type(value: &Value<'_>, wanted: &str) -> Vec<Fault> {
    let is = article(value.get_ref());
    fault(value, format!("must be {wanted}, and this is {is}"))
}
