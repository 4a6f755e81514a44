//! Times in scenario files: seconds, or a number with a unit.

use serde::{Deserialize, Deserializer, de};

/// A time in seconds.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub(super) struct Span(pub(super) f64);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

struct SpanVisitor;

impl de::Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("seconds, or a number with one of the units ns, us, ms, s, m, h, d, as in \"90m\"")
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Span, E> {
        Ok(Span(seconds))
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Span, E> {
        Ok(Span(seconds as f64))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        parse(text).map(Span).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

fn parse(text: &str) -> Option<f64> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic() && c != 'e').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit.trim() {
        "us" => 1e-6,
        "ms" => 1e-3,
        "ns" => 1e-9,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    number.trim().parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_others_refused() {
        for (text, seconds) in [
            ("90m", 5400.0),
            ("1.5 h", 5400.0),
            ("250us", 2.5e-4),
            ("-3", -3.0),
            ("2d", 172_800.0),
            ("1e-3s", 1e-3),
        ] {
            assert!(parse(text).is_some_and(|read| (read - seconds).abs() < 1e-9), "{text}");
        }
        for text in ["", "m", "5 parsecs", "inf", "1h30m", "nan"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
