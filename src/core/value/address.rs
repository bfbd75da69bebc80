//! Addresses.

use std::{borrow::Cow, fmt, net::Ipv4Addr};

use super::Text;

/// What a remote gives as an address, as it is written there: it is not checked.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IPv4 address in the one way in which these are written: most are such, and none is like another.
    V4(Ipv4Addr),
    /// Anything else.
    Text(Text),
}

impl Address {
    /// As it is written.
    pub fn as_text(&self) -> Cow<'_, str> {
        match self {
            Self::V4(address) => Cow::Owned(address.to_string()),
            Self::Text(text) => Cow::Borrowed(text),
        }
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        match text.parse::<Ipv4Addr>() {
            Ok(address) if address.to_string() == text => Self::V4(address),
            _ => Self::Text(text.into()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_as_it_was_written() {
        for text in ["10.0.0.1", "010.0.0.1", "10.0.0", "2001:db8::1", "::ffff:10.0.0.1", "gw.example", "", "10.0.0.1 "]
        {
            assert_eq!(Address::from(text).as_text(), text);
            assert_eq!(matches!(Address::from(text), Address::V4(_)), text == "10.0.0.1", "{text}");
        }
        assert_eq!(size_of::<Option<Address>>(), 16);
    }
}
