//! What Kubernetes tells objects and their versions apart by. Both are texts of which nothing is known by
//! contract; what they nearly always are takes less room as a number, and needs no block of its own.

use std::{fmt, num::NonZeroU64, str::FromStr};

use serde::{Serialize, Serializer};

use super::Text;

/// uid of an object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(UidForm);

/// resourceVersion of an object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(VersionForm);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum UidForm {
    /// A UUID that is written in the one way in which they are. No half of a real one is nought, which leaves
    /// room to tell it from a text: so it takes its sixteen bytes and no more.
    Number { high: NonZeroU64, low: u64 },
    /// Anything else.
    Text(Text),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum VersionForm {
    /// A number that is written in the one way in which they are.
    Number(u64),
    /// Anything else.
    Text(Text),
}

/// Where the hyphens of a UUID are (RFC 9562).
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

fn uuid(text: &str) -> Option<UidForm> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 || HYPHENS.iter().any(|at| bytes[*at] != b'-') {
        return None;
    }
    let mut digits = bytes.iter().enumerate().filter(|(at, _)| !HYPHENS.contains(at)).map(|(_, digit)| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    });
    let mut half = || (0..16).try_fold(0, |half, _| Some(half << 4 | u64::from(digits.next()??)));
    Some(UidForm::Number { high: NonZeroU64::new(half()?)?, low: half()? })
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        Self(uuid(text).unwrap_or_else(|| UidForm::Text(text.into())))
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = match &self.0 {
            UidForm::Number { high, low } => u128::from(high.get()) << 64 | u128::from(*low),
            UidForm::Text(text) => return f.write_str(text),
        };
        let part = |from: u32, digits: u32| (number >> (128 - 4 * (from + digits))) & ((1 << (4 * digits)) - 1);
        write!(f, "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", part(0, 8), part(8, 4), part(12, 4), part(16, 4), part(20, 12))
    }
}

impl From<&str> for Version {
    fn from(text: &str) -> Self {
        let number = u64::from_str(text).ok().filter(|number| number.to_string() == text);
        Self(number.map_or_else(|| VersionForm::Text(text.into()), VersionForm::Number))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            VersionForm::Number(number) => number.fmt(f),
            VersionForm::Text(text) => f.write_str(text),
        }
    }
}

impl Version {
    /// Whether it is older than another. Kubernetes promises since 1.35 that versions are numbers that
    /// grow; where they are not, nothing is older.
    pub fn is_older_than(&self, other: &Self) -> bool {
        let number = |version: &Self| match &version.0 {
            VersionForm::Number(number) => Some(u128::from(*number)),
            VersionForm::Text(text) => text.parse::<u128>().ok(),
        };
        matches!((number(self), number(other)), (Some(a), Some(b)) if a < b)
    }
}

impl Uid {
    /// Whether it is the empty text.
    pub fn is_empty(&self) -> bool {
        self.0 == UidForm::Text(Text::default())
    }

    /// Bytes of its text, where it is held as one.
    pub fn text_bytes(&self) -> usize {
        match &self.0 {
            UidForm::Number { .. } => 0,
            UidForm::Text(text) => text.len(),
        }
    }
}

macro_rules! text_like {
    ($kind:ident) => {
        impl Default for $kind {
            fn default() -> Self {
                "".into()
            }
        }

        impl From<String> for $kind {
            fn from(text: String) -> Self {
                text.as_str().into()
            }
        }

        impl From<Text> for $kind {
            fn from(text: Text) -> Self {
                text.as_str().into()
            }
        }

        impl PartialEq<str> for $kind {
            fn eq(&self, other: &str) -> bool {
                let Self(other) = Self::from(other);
                self.0 == other
            }
        }

        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.to_string())
            }
        }

        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

text_like!(Uid);
text_like!(Version);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_comes_back_as_it_was(text in "[0-9a-fA-F+-]{0,40}|[0]{8}(-0000){3}-[0-9a-f]{12}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9]{0,25}|\\PC{0,9}") {
            prop_assert_eq!(Uid::from(text.as_str()).to_string(), text.clone());
            prop_assert_eq!(Version::from(text.as_str()).to_string(), text);
        }
    }

    #[test]
    fn what_kubernetes_gives_out_takes_no_block() {
        let uid = Uid::from("5f0c1d2e-0001-4a6b-9c3d-00000000001f");
        assert!(matches!(uid.0, UidForm::Number { .. }));
        assert!(matches!(Uid::from("5F0c1d2e-0001-4a6b-9c3d-00000000001f").0, UidForm::Text(_)));
        assert!(matches!(Version::from("123456").0, VersionForm::Number(_)));
        for odd in ["0123", "+1", "", "18446744073709551616"] {
            assert!(matches!(Version::from(odd).0, VersionForm::Text(_)), "{odd:?}");
        }
        assert_eq!((size_of::<Uid>(), size_of::<Version>()), (16, 16));
    }

    #[test]
    fn versions_are_compared_as_numbers_and_only_where_they_are_some() {
        let older = |a: &str, b: &str| Version::from(a).is_older_than(&b.into());
        assert!(older("9", "10") && older("10", "18446744073709551616") && older("09", "10"));
        assert!(!older("10", "9") && !older("10", "10") && !older("a", "10") && !older("10", "b"));
    }
}
