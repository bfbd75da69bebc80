//! Texts.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    convert::Infallible,
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    str::FromStr,
    sync::LazyLock,
};

use arcstr::ArcStr;
use serde::{Serialize, Serializer};

use crate::intern::Pool;

static TEXTS: LazyLock<Pool<ArcStr>> = LazyLock::new(Pool::default);

/// A text. Equal ones are the same block of memory, one word points to it, and it is freed some time
/// after nobody holds it any more.
#[derive(Clone, Default)]
pub struct Text(ArcStr);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        match text {
            "" => Self::default(),
            text => Self(TEXTS.get(text, || ArcStr::from(text))),
        }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<&Self> for Text {
    fn from(text: &Self) -> Self {
        text.clone()
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.as_str().to_owned()
    }
}

impl FromStr for Text {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.into())
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        ArcStr::ptr_eq(&self.0, &other.0) || self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        if ArcStr::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.as_str().cmp(other.as_str()) }
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<Text> for str {
    fn eq(&self, other: &Text) -> bool {
        self == other.as_str()
    }
}

impl PartialEq<Text> for &str {
    fn eq(&self, other: &Text) -> bool {
        *self == other.as_str()
    }
}

impl PartialEq<Text> for String {
    fn eq(&self, other: &Text) -> bool {
        self == other.as_str()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_takes_one_word_and_equal_ones_one_block() {
        let (a, b) = (Text::from("shop"), Text::from(String::from("shop")));
        assert!(ArcStr::ptr_eq(&a.0, &b.0));
        assert_eq!(size_of::<Option<Text>>(), size_of::<usize>());
        assert_eq!((a.as_str(), Text::default().as_str(), Text::from("")), ("shop", "", Text::default()));
    }

    #[test]
    fn a_text_stands_for_its_letters_in_every_form() {
        let text: Text = "shop".parse().unwrap();
        let letters: &str = text.as_ref();
        assert_eq!(letters, "shop");
        assert_eq!(Text(ArcStr::from("shop")), text, "by what they are, and not by where they lie");
        assert!(*"shop" == text && *"shops" != text && "shop" == text && "shops" != text);
    }

    #[test]
    fn texts_are_ordered_as_strings_are() {
        let mut texts: Vec<Text> = ["b", "", "a", "ab", "B"].into_iter().map(Text::from).collect();
        texts.sort();
        assert_eq!(texts, ["", "B", "a", "ab", "b"]);
    }
}
