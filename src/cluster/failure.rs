//! What went wrong with an API server, as a reason and a message for a user.

use std::{error::Error as StdError, io, time::Duration};

use kube::{core::Status, runtime::watcher};

use super::{
    client::Refused,
    text::{MAX_MESSAGE, clean},
};
use crate::api::Reason;

/// Why an API server could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For the condition.
    pub reason: Reason,
    /// In words, harmless, with what to do next where that is known.
    pub message: String,
    /// The server asked to wait that long.
    pub retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn new(reason: Reason, message: impl AsRef<str>) -> Self {
        Self { reason, message: clean(message.as_ref(), MAX_MESSAGE), retry_after: None }
    }

    /// Trying again does not help before somebody changes something: credential, rights or server.
    #[must_use]
    pub fn is_verdict(&self) -> bool {
        !matches!(self.reason, Reason::RemoteUnreachable | Reason::Throttled)
    }
}

/// The answer of the API server in a watcher's error, if that is what it is.
fn status(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::WatchError(status) => Some(status),
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

/// The resourceVersion of a watch or of a page is too old: the watcher lists again.
pub(super) fn is_expired(error: &watcher::Error) -> bool {
    code(error) == Some(410)
}

/// The status code that the API server answered with.
pub(super) fn code(error: &watcher::Error) -> Option<u16> {
    status(error).map(|status| status.code)
}

/// How long the API server asked to wait.
pub(super) fn retry_after(error: &watcher::Error) -> Option<Duration> {
    status(error).and_then(asked)
}

/// What went wrong in words, without advice.
pub(super) fn said(error: &watcher::Error) -> String {
    match status(error) {
        Some(status) => clean(&format!("{} {}", status.code, words(status)), MAX_MESSAGE),
        None => clean(&innermost(error), MAX_MESSAGE),
    }
}

fn words(status: &Status) -> &str {
    if status.message.is_empty() { &status.reason } else { &status.message }
}

fn asked(status: &Status) -> Option<Duration> {
    let after = Duration::from_secs(status.details.as_ref()?.retry_after_seconds.into());
    (!after.is_zero()).then_some(after)
}

impl From<&watcher::Error> for Failure {
    fn from(error: &watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => Self::from(error),
            watcher::Error::WatchError(status) => from_status(status),
            watcher::Error::NoResourceVersion => {
                Self::new(Reason::RemoteUnreachable, "the API server sent an object or list without a resourceVersion")
            }
        }
    }
}

impl From<&kube::Error> for Failure {
    fn from(error: &kube::Error) -> Self {
        if let kube::Error::Api(status) = error {
            return from_status(status);
        }
        if let Some(refused) = find::<Refused>(error) {
            let reason = match refused {
                Refused::Address(_) => Reason::CredentialsRejected,
                Refused::OwnServer => Reason::SelfLink,
                _ => Reason::RemoteUnreachable,
            };
            return Self::new(reason, refused.to_string());
        }
        if let Some(error) = find::<rustls::Error>(error) {
            return tls(error);
        }
        Self::new(Reason::RemoteUnreachable, format!("the API server does not answer: {}", innermost(error)))
    }
}

fn from_status(status: &Status) -> Failure {
    let said = clean(words(status), MAX_MESSAGE);
    let (reason, message) = match status.code {
        401 => (
            Reason::Unauthorized,
            format!(
                "the API server turned the credential away (401 {said}); issue another one: heliostat link NAME --renew"
            ),
        ),
        403 => (
            Reason::Forbidden,
            format!(
                "the API server refuses to be read (403): {said}; heliostat link prints the rights that are needed"
            ),
        ),
        429 => (Reason::Throttled, format!("the API server asks for fewer requests (429): {said}")),
        code => (Reason::RemoteUnreachable, format!("the API server answered with status {code}: {said}")),
    };
    Failure { reason, message: clean(&message, 2 * MAX_MESSAGE), retry_after: asked(status) }
}

fn tls(error: &rustls::Error) -> Failure {
    let reason = match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => Reason::TLSVerificationFailed,
        _ => Reason::RemoteUnreachable,
    };
    let next = match reason {
        Reason::TLSVerificationFailed => {
            "; compare certificate-authority-data, server and tls-server-name of the kubeconfig with that server's certificate"
        }
        _ => "",
    };
    Failure {
        message: clean(&format!("TLS with the API server failed: {error}{next}"), 2 * MAX_MESSAGE),
        ..Failure::new(reason, "")
    }
}

/// The first error of a type in the chain of causes. An `io::Error` hides the error in it from
/// `source`, so that one is looked into.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error)).take(16)
}

fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> Failure {
        Failure::from(&kube::Error::Api(Box::new(Status::failure(message, "R").with_code(code))))
    }

    #[test]
    fn l06_each_status_has_its_reason() {
        for (code, reason) in [
            (401, Reason::Unauthorized),
            (403, Reason::Forbidden),
            (429, Reason::Throttled),
            (404, Reason::RemoteUnreachable),
            (500, Reason::RemoteUnreachable),
        ] {
            let failure = status(code, "services is forbidden");
            assert_eq!(failure.reason, reason);
            assert!(failure.message.contains("services is forbidden"), "{}", failure.message);
            assert_eq!(failure.is_verdict(), matches!(code, 401 | 403));
        }
    }

    #[test]
    fn a11_what_the_remote_says_is_cleaned_and_cut() {
        let failure = status(500, &format!("\u{1b}[2Jx\n{}", "y".repeat(300 * 1024)));
        assert!(failure.message.chars().count() < 700 && !failure.message.contains(['\u{1b}', '\n']));
    }

    #[test]
    fn causes_are_found_inside_io_errors() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let error = kube::Error::Service(Box::new(io::Error::other(io::Error::other(tls))));
        let failure = Failure::from(&error);
        assert_eq!(failure.reason, Reason::TLSVerificationFailed);
        assert!(failure.message.contains("UnknownIssuer") && failure.message.contains("certificate-authority-data"));

        let refused = kube::Error::Service(Box::new(io::Error::other(Refused::OwnServer)));
        assert_eq!(Failure::from(&refused).reason, Reason::SelfLink);
        let address = kube::Error::Service(Box::new(Refused::Address("leads astray")));
        assert_eq!(Failure::from(&address).reason, Reason::CredentialsRejected);
        let plain = kube::Error::Service(Box::new(io::Error::other("connection refused")));
        assert_eq!(
            Failure::from(&plain),
            Failure::new(Reason::RemoteUnreachable, "the API server does not answer: connection refused")
        );
    }
}
