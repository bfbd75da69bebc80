//! The token of a link, looked for in what the remote says: a proxy that repeats the request in its
//! answer must not bring it into a status or a log.

use memchr::memmem;

/// Shortest token that is looked for in good answers; any shorter one may stand there by chance.
/// Kubernetes' own have hundreds of characters, those for bootstrapping 23.
const SHORTEST: usize = 8;

/// A token. Has no `Debug`.
#[derive(Clone)]
pub(super) struct Secret(String);

impl Secret {
    /// `token` is not empty.
    pub(super) fn new(token: &str) -> Self {
        Self(token.to_owned())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether it stands there.
    pub(super) fn is_in(&self, data: &[u8]) -> bool {
        self.0.len() >= SHORTEST && memmem::find(data, self.bytes()).is_some()
    }

    /// The text without it.
    pub(super) fn cut_out_of(&self, text: &str) -> String {
        text.replace(&self.0, "[redacted]")
    }
}
