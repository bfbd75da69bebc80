//! Durations as the API writes them: strings in the form of Go's `time.ParseDuration`, without
//! sign (`300ms`, `1.5h`, `2m30s`). Total: no input panics or wraps.

use std::time::Duration;

/// Why a string is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The empty string.
    #[error("a duration is missing: write a number with a unit, such as 30s, 5m or 1h30m")]
    Empty,
    /// A negative duration; none of ours may be.
    #[error("{0:?} is negative: write a duration of 0s or more")]
    Negative(String),
    /// A number without digits, or something else where a number must be.
    #[error("{0:?} is not a duration: each part is a number and a unit, such as 30s, 5m or 1h30m")]
    Number(String),
    /// A number with no unit behind it, or with one that doesn't exist.
    #[error("{0:?} has a number without a known unit: use ns, us, ms, s, m or h")]
    Unit(String),
    /// More than Go's `time.Duration` holds (about 292 years).
    #[error("{0:?} is too long: the longest duration is about 2562047h")]
    TooLong(String),
}

/// Reads a duration in the syntax of Go's `time.ParseDuration`, but for negative ones.
///
/// What is finer than a nanosecond is cut off.
///
/// # Errors
/// [`DurationError`], which quotes the input.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text.starts_with('-') {
        return Err(DurationError::Negative(text.to_owned()));
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if unsigned.is_empty() {
        return Err(DurationError::Number(text.to_owned()));
    }
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = unsigned;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (nanoseconds, behind) = part(rest, text)?;
        total = total.saturating_add(nanoseconds);
        rest = behind;
    }
    match i64::try_from(total) {
        Ok(nanoseconds) => Ok(Duration::from_nanos(nanoseconds.unsigned_abs())),
        Err(_) => Err(DurationError::TooLong(text.to_owned())),
    }
}

/// Fractions are summed in this part of a nanosecond: no digit that matters is lost to division.
const FRACTION_SCALE: u128 = 1_000_000_000_000_000_000;

/// One number with its unit, in nanoseconds, and what stands behind it. `whole` is for errors.
fn part<'a>(text: &'a str, whole: &str) -> Result<(u128, &'a str), DurationError> {
    let (integer, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(behind) => digits(behind),
        None => ("", rest),
    };
    if integer.is_empty() && fraction.is_empty() {
        return Err(DurationError::Number(whole.to_owned()));
    }
    let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let unit = unit(name).ok_or_else(|| DurationError::Unit(whole.to_owned()))?;
    let mut nanoseconds: u128 = 0;
    for digit in integer.bytes() {
        nanoseconds = nanoseconds.saturating_mul(10).saturating_add(u128::from(digit - b'0'));
    }
    let mut place = unit * FRACTION_SCALE;
    let mut scaled = 0;
    for digit in fraction.bytes() {
        place /= 10;
        scaled += place * u128::from(digit - b'0');
    }
    let nanoseconds = nanoseconds.saturating_mul(unit).saturating_add(scaled / FRACTION_SCALE);
    Ok((nanoseconds, rest))
}

/// The leading ASCII digits of `text`, and the rest.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// A unit in nanoseconds. Go accepts both spellings of µ: the micro sign and the Greek letter.
fn unit(name: &str) -> Option<u128> {
    Some(match name {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("+0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("5.s", 5_000_000_000),
            (".5s", 500_000_000),
            ("1.0s", 1_000_000_000),
            ("1.004s", 1_004_000_000),
            ("1.00400s", 1_004_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("13ms", 13_000_000),
            ("15m", 900_000_000_000),
            ("16h", 57_600_000_000_000),
            ("3h30m", 12_600_000_000_000),
            ("10.5s4m", 250_500_000_000),
            ("39h9m14.425s", 140_954_425_000_000),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 1_200_000_000_000 - 1),
            ("9007199254740993ns", 9_007_199_254_740_993),
            ("9223372036854775807ns", i64::MAX.unsigned_abs()),
            ("9223372036854775.807us", i64::MAX.unsigned_abs()),
            ("0.9223372036854775807ns", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses_and_negatives_and_says_why() {
        let number = |text: &str| DurationError::Number(text.to_owned());
        let unit = |text: &str| DurationError::Unit(text.to_owned());
        let long = |text: &str| DurationError::TooLong(text.to_owned());
        for (text, error) in [
            ("", DurationError::Empty),
            ("3", unit("3")),
            ("-", DurationError::Negative("-".to_owned())),
            ("-5s", DurationError::Negative("-5s".to_owned())),
            ("+", number("+")),
            ("s", number("s")),
            (".", number(".")),
            (".s", number(".s")),
            ("+.s", number("+.s")),
            ("1d", unit("1d")),
            ("1w", unit("1w")),
            ("\u{85}\u{85}", number("\u{85}\u{85}")),
            ("5 s", unit("5 s")),
            (" 5s", number(" 5s")),
            ("1e3s", unit("1e3s")),
            ("1s-1s", unit("1s-1s")),
            ("9223372036854775808ns", long("9223372036854775808ns")),
            ("9223372036854775.808us", long("9223372036854775.808us")),
            ("3000000h", long("3000000h")),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text}");
        }
        let endless = format!("{}h", "9".repeat(100_000));
        assert_eq!(parse_duration(&endless), Err(long(&endless)));
    }

    proptest! {
        #[test]
        fn never_panics(text in ".*") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn sums_its_parts(hours in 0_u64..1000, minutes in 0_u64..10_000, milliseconds in 0_u64..1_000_000) {
            let text = format!("{hours}h{minutes}m{milliseconds}ms");
            let sum = Duration::from_secs(hours * 3600 + minutes * 60) + Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&text), Ok(sum));
        }
    }
}
