//! Hosts and ports as operators write them.

use std::net::Ipv6Addr;

/// Splits `HOST`, `HOST:PORT`, `IPV6` or `[IPV6]:PORT` into host and port. The host is a name or an address
/// literal without brackets; whether it exists is not known here.
///
/// # Errors
/// What is wrong with it, as a phrase for a message.
pub fn parse_address(text: &str) -> Result<(String, Option<u16>), String> {
    const HOST_OCTETS_MAX: usize = 253;
    let (host, port) =
        split(text).ok_or_else(|| format!("\"{text}\" is not HOST, HOST:PORT, IPV6 or [IPV6]:PORT"))?;
    let port = match port {
        None => None,
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err(format!("\"{digits}\" is not a port from 1 to 65535")),
        },
    };
    let visible = host.chars().all(|c| c.is_ascii_graphic() || c.is_alphanumeric());
    if host.is_empty() || host.len() > HOST_OCTETS_MAX || !visible || host.contains('/') {
        return Err(format!("\"{host}\" is not a host name or an IP address"));
    }
    Ok((host.to_owned(), port))
}

fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return match after {
            "" => Some((host, None)),
            after => after.strip_prefix(':').map(|port| (host, Some(port))),
        };
    }
    match text.matches(':').count() {
        0 => Some((text, None)),
        1 => text.split_once(':').map(|(host, port)| (host, Some(port))),
        _ => text.parse::<Ipv6Addr>().ok().map(|_| (text, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        let good = [
            ("a.example", "a.example", None),
            ("a.example:4461", "a.example", Some(4461)),
            ("192.0.2.1:123", "192.0.2.1", Some(123)),
            ("::1", "::1", None),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[2001:db8::1]:1123", "2001:db8::1", Some(1123)),
        ];
        for (text, host, port) in good {
            assert_eq!(parse_address(text), Ok((host.to_owned(), port)), "{text}");
        }
        for text in ["", ":123", "a:0", "a:65536", "a:b", "[::1", "[::1]x", "[a]:1", "a:b:c", "a b", "a/b"] {
            assert!(parse_address(text).is_err(), "{text}");
        }
    }
}
