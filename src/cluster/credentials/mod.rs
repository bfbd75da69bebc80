//! The kubeconfig of a link: read into a closed struct of our own, so that nothing in it can make
//! the controller run a program, open a file, use a proxy, act as somebody else or skip the
//! verification of the server. What is not understood is refused, by the name of its field and
//! never with its value (design: section 7).
//!
//! Nothing here dials, resolves, opens or runs anything.
//!
//! Understood are one `clusters` entry (`server`, `certificate-authority-data`, `tls-server-name`),
//! one `users` entry (`token`, or `client-certificate-data` with `client-key-data`), one `contexts`
//! entry (`cluster`, `user`, and `namespace`, which is ignored), `current-context`, and kubectl's
//! boilerplate (`apiVersion: v1`, `kind: Config`, empty `preferences` and `extensions`).
//! `tls-server-name` is allowed because it is inline and only says which name the server's
//! certificate must have; that it has it is verified all the same.

mod document;
mod server;
mod tls;

use std::{fmt, sync::Arc};

use http::HeaderValue;
use jiff::Timestamp;
use rustls::{ClientConfig, pki_types::ServerName};

pub use self::server::{Host, Server};
use self::{
    document::{Document, Identity},
    tls::Tls,
};
use crate::api::Reason;

/// Largest kubeconfig that is read, in bytes. One with chains of certificates has about 20 KiB.
pub const MAX_BYTES: usize = 256 * 1024;

/// How a remote is reached and who we are there. `Debug` shows nothing that is secret.
#[derive(Clone)]
pub struct Credentials {
    /// The API server.
    pub server: Server,
    /// The name that the server's certificate must have, where it is not the server's host.
    pub server_name: Option<ServerName<'static>>,
    /// When the token or client certificate runs out, where it says so.
    pub expires_at: Option<Timestamp>,
    /// Trusts the inline certificate authority and nothing else; carries the client certificate.
    pub(super) tls: Arc<ClientConfig>,
    /// `Bearer <token>`.
    pub(super) authorization: Option<HeaderValue>,
}

impl Credentials {
    /// Reads a kubeconfig. One that has run out is read all the same: see [`Self::check_expiry`].
    ///
    /// # Errors
    /// Names the field that is missing, illegal or not allowed, and says what to do.
    pub fn parse(kubeconfig: &[u8]) -> Result<Self, CredentialsError> {
        let document = Document::parse(kubeconfig)?;
        let server = Server::parse(&document.server)?;
        let server_name = document.server_name.as_deref().map(server::tls_name).transpose()?;
        let tls = Tls::new(&document.authority, &document.identity)?;
        let authorization = match &document.identity {
            Identity::Token(token) => Some(bearer(token)?),
            Identity::Certificate { .. } => None,
        };
        Ok(Self { server, server_name, expires_at: tls.expires_at, tls: Arc::new(tls.config), authorization })
    }

    /// Whether the credential can still be used.
    ///
    /// # Errors
    /// [`CredentialsError::Expired`] when it ran out before `now`.
    pub fn check_expiry(&self, now: Timestamp) -> Result<(), CredentialsError> {
        match self.expires_at {
            Some(at) if at <= now => Err(CredentialsError::Expired { at }),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.authorization.is_some() { "token" } else { "client certificate" };
        f.debug_struct("Credentials").field("kind", &kind).field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Why a kubeconfig cannot be used. No variant carries a value of it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CredentialsError {
    /// More than [`MAX_BYTES`].
    #[error(
        "the kubeconfig has {bytes} bytes and at most {MAX_BYTES} are read; keep one cluster, user and context in it"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not YAML, or YAML with what is refused as such: duplicate keys, anchors, aliases, tags.
    #[error("the kubeconfig cannot be read at line {line}: {what}")]
    Unreadable {
        /// Line, from 1; 0 where the parser does not say.
        line: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A field that would run, open, dial or skip something, or that nobody knows.
    #[error("{field} is not allowed in the kubeconfig of a link: {why}")]
    NotAllowed {
        /// Path of the field.
        field: String,
        /// Why, and what to do instead.
        why: &'static str,
    },
    /// A field that is missing.
    #[error("{field} is missing from the kubeconfig: {why}")]
    Missing {
        /// Path of the field.
        field: String,
        /// What it is for.
        why: &'static str,
    },
    /// A field whose value cannot be used.
    #[error("{field} of the kubeconfig {why}")]
    Invalid {
        /// Path of the field.
        field: String,
        /// What is wrong with it, and what to do.
        why: &'static str,
    },
    /// The token or client certificate has run out.
    #[error("the credential ran out at {at}; issue another one: heliostat link NAME --renew")]
    Expired {
        /// When.
        at: Timestamp,
    },
}

impl CredentialsError {
    /// The reason for `CredentialsValid=False`.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Expired { .. } => Reason::CredentialsExpired,
            _ => Reason::CredentialsRejected,
        }
    }

    fn invalid(field: &str, why: &'static str) -> Self {
        Self::Invalid { field: field.to_owned(), why }
    }
}

fn bearer(token: &str) -> Result<HeaderValue, CredentialsError> {
    let illegal = || {
        CredentialsError::invalid(
            document::TOKEN,
            "is not one word of visible ASCII; paste the token as it was issued, without spaces or line breaks",
        )
    };
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(illegal());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| illegal())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
