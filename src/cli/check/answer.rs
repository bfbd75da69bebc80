//! What a gateway is asked, and what it may answer.

use std::net::SocketAddr;

/// A question, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// Where.
    pub(super) to: SocketAddr,
    /// What.
    pub(super) question: Question,
    /// Whether it is about something exported, or about what nobody exports.
    pub(super) exported: bool,
    /// Of whom it is asked, in words.
    pub(super) subject: String,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Is a connection taken?
    Connection,
    /// Is it taken, and kept? Whoever has no backend takes it and closes it at once. Nothing is sent,
    /// as nobody knows what the Service speaks.
    Port,
    /// The same of a port that nobody publishes. Where it is kept, the gateway may still have an answer of its
    /// own, so it is asked by HTTP for this name, which nobody has.
    NobodysPort(String),
    /// GET by HTTP: Host and path.
    Http(String, String),
    /// A TLS greeting to that name.
    Tls(String),
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// This machine has no route there.
    NoRoute,
    /// The connection is refused; how.
    Refused(String),
    /// Nothing comes within the deadline.
    Silent,
    /// A connection is taken, and closed without a byte.
    Closed,
    /// A connection is taken, and kept.
    Kept,
    /// An answer of HTTP.
    Http {
        /// Its status.
        status: u16,
        /// What tells whose answer it is, as far as that can be told: status, names of headers, and what and
        /// how much is in the body.
        shape: String,
    },
    /// Bytes of another protocol.
    Other(String),
    /// A server certificate, as it is.
    Certificate(Vec<u8>),
    /// A TLS alert.
    Alert {
        /// It is the alert for a name that the server does not know.
        unknown_name: bool,
        /// Its name.
        name: String,
    },
}
