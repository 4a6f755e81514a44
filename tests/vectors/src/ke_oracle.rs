//! Key establishment, read plainly from RFC 8915 §4 and docs/choices.md: what our server ought to decide, and what our
//! client ought to read.

/// What a server does about a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// Gives keys of this AEAD; `echo`: with record 1024.
    Accept {
        aead: u16,
        echo: bool,
    },
    NoProtocol,
    NoAead,
    Error(u16),
    Close,
}

/// What a client reads in an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Accepted {
        aead: u16,
        cookies: Vec<Vec<u8>>,
        server: Option<String>,
        port: Option<u16>,
    },
    /// Refused; with the code of the server's error, if that is why.
    Refused(Option<u16>),
}

type Record<'a> = (bool, u16, &'a [u8]);

/// The records up to End of Message; `None` unless that is the end of the message, critical and empty.
fn message(octets: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut records = Vec::new();
    let mut rest = octets;
    while let [first, second, high, low, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let body = behind.get(..length)?;
        rest = &behind[length..];
        let record = (first & 0x80 != 0, u16::from_be_bytes([first & 0x7f, *second]), body);
        if record.1 == 0 {
            return (record.0 && body.is_empty() && rest.is_empty()).then_some(records);
        }
        records.push(record);
    }
    None
}

fn numbers(body: &[u8]) -> Option<Vec<u16>> {
    let (pairs, rest) = body.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect())
}

/// The AEADs in a request that we know, in order.
pub(crate) fn known_aeads(request: &[u8]) -> Vec<u16> {
    let mut rest = request;
    let mut known = Vec::new();
    while let [first, second, high, low, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(body) = behind.get(..length) else { break };
        if [first & 0x7f, *second] == [0, 4] {
            let numbers = numbers(body).unwrap_or_default();
            known.extend(numbers.into_iter().filter(|aead| [15, 16, 17, 30].contains(aead)));
        }
        rest = &behind[length..];
    }
    known
}

pub(crate) fn decide(request: &[u8]) -> Decision {
    let Some(records) = message(request).filter(|_| request.len() <= 16 * 1024) else {
        return Decision::Close;
    };
    if records.iter().any(|(critical, kind, _)| *critical && !matches!(kind, 0..=7 | 1024)) {
        return Decision::Error(0);
    }
    let of = |wanted| records.iter().filter(move |(_, kind, _)| *kind == wanted).collect::<Vec<_>>();
    let (protocols, aeads, compliant) = (of(1), of(4), of(1024));
    let forbidden = records.iter().any(|(_, kind, _)| matches!(kind, 2 | 3 | 5));
    let [(true, _, protocols @ [_, ..])] = protocols[..] else { return Decision::Error(1) };
    let Some(protocols) = numbers(protocols) else { return Decision::Error(1) };
    let odd = aeads.iter().any(|(_, _, body)| body.len() % 2 != 0);
    if forbidden || odd || aeads.len() > 1 || compliant.iter().any(|(_, _, body)| !body.is_empty()) {
        return Decision::Error(1);
    }
    if !protocols.contains(&0) {
        return Decision::NoProtocol;
    }
    let [(_, _, aeads)] = aeads[..] else { return Decision::Error(1) };
    let ours: Vec<_> =
        numbers(aeads).unwrap_or_default().into_iter().filter(|aead| [15, 30].contains(aead)).collect();
    let compliant = !compliant.is_empty();
    let aead = match ours[..] {
        [] => return Decision::NoAead,
        [30, ..] if compliant => 30,
        _ if ours.contains(&15) => 15,
        _ => 30,
    };
    Decision::Accept { aead, echo: aead == 30 && compliant }
}

pub(crate) fn read_answer(octets: &[u8], offered: &[u16]) -> Answer {
    if let Some(code) = error_code(octets) {
        return Answer::Refused(code);
    }
    message(octets).and_then(|records| accept(&records, offered)).unwrap_or(Answer::Refused(None))
}

/// The error record of an answer, wherever it stands: outside `None` if there is none, inside if it is malformed.
fn error_code(octets: &[u8]) -> Option<Option<u16>> {
    let mut rest = octets;
    while let [first, second, high, low, behind @ ..] = rest {
        let body = behind.get(..usize::from(u16::from_be_bytes([*high, *low])))?;
        if [first & 0x7f, *second] == [0, 2] {
            return Some(body.try_into().ok().map(u16::from_be_bytes));
        }
        rest = &behind[body.len()..];
    }
    None
}

fn accept(records: &[Record<'_>], offered: &[u16]) -> Option<Answer> {
    let only = |wanted| -> Option<Option<&Record<'_>>> {
        let mut found = records.iter().filter(|(_, kind, _)| *kind == wanted);
        let first = found.next();
        found.next().is_none().then_some(first)
    };
    if records.iter().any(|(critical, kind, body)| match kind {
        3 => true,
        1024 => !body.is_empty(),
        0..=7 => false,
        _ => *critical,
    }) {
        return None;
    }
    let (true, _, [0, 0]) = only(1)?? else { return None };
    let aead = u16::from_be_bytes(only(4)??.2.try_into().ok()?);
    let server = match only(6)? {
        Some((_, _, name)) => Some(host(name)?),
        None => None,
    };
    let port = match only(7)? {
        Some((_, _, port)) => Some(u16::from_be_bytes((*port).try_into().ok()?)).filter(|port| *port != 0),
        None => None,
    };
    let usable = |octets: &[u8]| octets.len().is_multiple_of(4) && (12..=1024).contains(&octets.len());
    let cookies: Vec<_> = records
        .iter()
        .filter(|(_, kind, body)| *kind == 5 && usable(body))
        .map(|(_, _, body)| body.to_vec())
        .take(8)
        .collect();
    let accepted = offered.contains(&aead) && !cookies.is_empty();
    accepted.then_some(Answer::Accepted { aead, cookies, server, port })
}

/// A host name or an address, without a trailing dot.
fn host(octets: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(octets).ok()?;
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Some(text.to_owned());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let fits = |label: &str| {
        let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
        !label.is_empty() && label.len() < 64 && !label.starts_with('-') && label.chars().all(allowed)
    };
    (name.len() <= 253 && name.split('.').all(fits)).then(|| name.to_owned())
}
