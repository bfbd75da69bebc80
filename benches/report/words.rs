//! Numbers as people read them, with as many digits as mean something; what is missing is `-`.

/// What stands where nothing was measured.
pub(crate) const MISSING: &str = "-";

/// The value in words.
pub(crate) fn or_dash<T>(value: Option<T>, say: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| MISSING.to_owned(), say)
}

/// Milliseconds with their unit; seconds where there are many.
pub(crate) fn ms(ms: f64) -> String {
    if ms.abs() < 1e4 { format!("{} ms", bare_ms(ms)) } else { format!("{:.1} s", ms / 1e3) }
}

/// Milliseconds without a unit, for tables that name it once.
pub(crate) fn bare_ms(ms: f64) -> String {
    match ms.abs() {
        small if small < 10.0 => format!("{ms:.2}"),
        middle if middle < 100.0 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

/// How many times as much.
pub(crate) fn times(ratio: f64) -> String {
    format!("{} times", ratio_of(ratio))
}

/// The same without the word.
pub(crate) fn ratio_of(ratio: f64) -> String {
    if ratio.abs() < 10.0 { format!("{ratio:.2}") } else { format!("{ratio:.1}") }
}

/// KiB as MiB.
pub(crate) fn mib(kib: u64) -> String {
    let mib = kib as f64 / 1024.0;
    if mib < 100.0 { format!("{mib:.1} MiB") } else { format!("{mib:.0} MiB") }
}

/// A share, given as part of one.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 10.0 { format!("{percent:.2} %") } else { format!("{percent:.0} %") }
}

/// A limit, a rate or the like, without more digits than it needs.
pub(crate) fn amount(value: f64) -> String {
    if value.abs() >= 1e3 {
        return count(value.round() as usize);
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Time on a core, given in milliseconds.
pub(crate) fn cpu(ms: u64) -> String {
    format!("{:.2} s", ms as f64 / 1e3)
}

/// A whole number, with commas between thousands.
pub(crate) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The number and what is counted.
pub(crate) fn counted(number: usize, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}
