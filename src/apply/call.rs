//! One request to this cluster's API server: sent once, bounded in time, its failure classified.
//! Never retries: who asked decides about that.

use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode, header};
use kube::{Client, client::Body};
use serde_json::Value;

use crate::{
    cluster::text,
    core::io::{WriteError, WriteFailure},
};

/// Sends a request and gives the body of a 2xx answer.
///
/// # Errors
/// When the API server refuses, or does not answer within `deadline`; in that case the request may
/// have been carried out all the same.
pub(super) async fn call(
    client: &Client,
    request: Result<Request<Vec<u8>>, http::Error>,
    deadline: Duration,
) -> Result<Vec<u8>, WriteError> {
    let request = request.map_err(|error| failure(WriteFailure::Invalid, &error.to_string()))?;
    let exchange = async {
        let answer = client.send(request.map(Body::from)).await?;
        let (head, body) = answer.into_parts();
        Ok::<_, kube::Error>((head, body.collect_bytes().await?))
    };
    match tokio::time::timeout(deadline, exchange).await {
        Err(_) => Err(failure(
            WriteFailure::Transient,
            &format!("this cluster's API server did not answer within {deadline:?}"),
        )),
        Ok(Err(error)) => Err(failure(WriteFailure::Transient, &causes(&error))),
        Ok(Ok((head, body))) if head.status.is_success() => Ok(body.into()),
        Ok(Ok((head, body))) => Err(refusal(&Response::from_parts(head, ()), &body)),
    }
}

/// A failure of which the API server said nothing.
pub(super) fn failure(kind: WriteFailure, message: &str) -> WriteError {
    WriteError { kind, message: text::clean(message, text::MAX_MESSAGE), retry_after: None }
}

/// An error of the client with what caused it: the outermost alone says only "ServiceError".
fn causes(error: &kube::Error) -> String {
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let more = next.to_string();
        if !said.ends_with(&more) {
            said = format!("{said}: {more}");
        }
        cause = next.source();
    }
    said
}

/// What a refusal means, from its status code and the `Status` in its body.
fn refusal(head: &Response<()>, body: &[u8]) -> WriteError {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    let kind = match head.status() {
        StatusCode::CONFLICT if status["reason"] == "AlreadyExists" => WriteFailure::AlreadyExists,
        StatusCode::CONFLICT => WriteFailure::Conflict,
        StatusCode::NOT_FOUND => WriteFailure::NotFound,
        StatusCode::FORBIDDEN => WriteFailure::Forbidden,
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => WriteFailure::Invalid,
        _ => WriteFailure::Transient,
    };
    let said = status["message"].as_str().unwrap_or_default();
    let message =
        if said.is_empty() { format!("this cluster's API server answered {}", head.status()) } else { said.to_owned() };
    WriteError { retry_after: retry_after(head.headers(), &status), ..failure(kind, &message) }
}

/// `Retry-After` in seconds (RFC 9110, 10.2.3; API servers send no dates), else the same from the
/// `Status`.
fn retry_after(headers: &HeaderMap, status: &Value) -> Option<Duration> {
    let header = headers.get(header::RETRY_AFTER);
    let seconds = header
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .or_else(|| status["details"]["retryAfterSeconds"].as_u64())?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(code: u16, headers: &[(&str, &str)], body: &[u8]) -> WriteError {
        let mut head = Response::builder().status(code);
        for (name, value) in headers {
            head = head.header(*name, *value);
        }
        refusal(&head.body(()).unwrap(), body)
    }

    #[test]
    fn a_failure_is_told_with_what_caused_it_and_each_word_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("no route")]
        struct Cause;
        #[derive(Debug, thiserror::Error)]
        #[error("connecting failed")]
        struct Outer(#[source] Cause);
        let error = kube::Error::Service(Box::new(Outer(Cause)));
        assert_eq!(causes(&error), "ServiceError: connecting failed: no route");
    }

    #[test]
    fn l12_refusals_are_told_apart() {
        let status = |reason: &str| json!({"kind": "Status", "reason": reason, "message": "m"});
        for (code, reason, kind) in [
            (409, "AlreadyExists", WriteFailure::AlreadyExists),
            (409, "Conflict", WriteFailure::Conflict),
            (404, "NotFound", WriteFailure::NotFound),
            (403, "Forbidden", WriteFailure::Forbidden),
            (400, "BadRequest", WriteFailure::Invalid),
            (413, "RequestEntityTooLarge", WriteFailure::Invalid),
            (415, "UnsupportedMediaType", WriteFailure::Invalid),
            (422, "Invalid", WriteFailure::Invalid),
            (401, "Unauthorized", WriteFailure::Transient),
            (429, "TooManyRequests", WriteFailure::Transient),
            (500, "InternalError", WriteFailure::Transient),
            (504, "Timeout", WriteFailure::Transient),
        ] {
            let error = refused(code, &[], status(reason).to_string().as_bytes());
            assert_eq!((error.kind, error.message.as_str()), (kind, "m"), "{code}");
            assert_eq!(error.retry_after, None);
        }
    }

    #[test]
    fn l12_retry_after_is_passed_on() {
        let seconds = |n| Some(Duration::from_secs(n));
        let body = json!({"details": {"retryAfterSeconds": 7}}).to_string();
        let from_header = refused(429, &[("Retry-After", "3")], body.as_bytes());
        assert_eq!(from_header.retry_after, seconds(3));
        assert_eq!(refused(503, &[], body.as_bytes()).retry_after, seconds(7));
        let date = [("Retry-After", "Fri, 02 Jan 2026 03:04:05 GMT")];
        assert_eq!(refused(503, &date, b"").retry_after, None);
    }

    #[test]
    fn a11_a_message_is_made_harmless_and_short() {
        let body = json!({"message": format!("\u{1b}[31m{}", "x".repeat(10_000))}).to_string();
        let message = refused(422, &[], body.as_bytes()).message;
        assert!(message.starts_with("[31mx"), "{message}");
        assert_eq!(message.chars().count(), text::MAX_MESSAGE + 1);
    }

    #[test]
    fn an_answer_that_is_no_status_is_told_by_its_code() {
        for body in [b"<html>".as_slice(), b"", b"[]", b"null"] {
            let error = refused(502, &[], body);
            assert_eq!(error.kind, WriteFailure::Transient);
            assert_eq!(error.message, "this cluster's API server answered 502 Bad Gateway");
        }
    }
}
