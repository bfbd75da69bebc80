//! Answers of an exporter: bounded, whole, and what they say they are, before anybody else reads
//! them.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use kube::core::ObjectList;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tower::BoxError;

use super::Refused;
use crate::cluster::text::{MAX_MESSAGE, clean};

/// Largest answer that is read: a page of 500 Services has about 2 MiB, of 200 full slices 10 MiB.
pub(super) const MAX_ANSWER: usize = 64 << 20;
/// What is read of an error answer; the rest is dropped.
const MAX_ERROR: usize = 16 << 10;
/// Longest line of a watch: etcd takes objects of 1.5 MiB, JSON may double that.
const MAX_LINE: usize = 8 << 20;

/// Reads an answer that is a list or an object and checks that it is JSON of that shape, so that
/// nothing after this point fails on it (kube logs what it cannot decode, whole).
pub(super) async fn read<B>(response: Response<B>, is_list: bool, max: usize) -> Result<Response<Full<Bytes>>, BoxError>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    let (parts, body) = response.into_parts();
    let bytes = match Limited::new(body, max).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(Refused::TooLarge(max >> 20).into()),
        Err(error) => return Err(error),
    };
    let shape = match is_list {
        true => serde_json::from_slice::<ObjectList<IgnoredAny>>(&bytes).map(|_| ()),
        false => serde_json::from_slice::<Value>(&bytes).map(|_| ()),
    };
    shape.map_err(|_| Refused::NotKubernetes)?;
    Ok(Response::from_parts(parts, Full::new(bytes)))
}

/// Reads an error answer into a Status that is short, harmless and without the secret.
pub(super) async fn read_error<B>(response: Response<B>, secret: Option<&str>) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (parts, body) = response.into_parts();
    let text = prefix(body, MAX_ERROR).await;
    let text = String::from_utf8_lossy(&text);
    let said: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let harmless = |text: &str| match secret {
        Some(secret) => clean(&text.replace(secret, "[redacted]"), MAX_MESSAGE),
        None => clean(text, MAX_MESSAGE),
    };
    let is_status = said["kind"] == "Status";
    let message = if is_status { said["message"].as_str().unwrap_or_default() } else { &text };
    let retry_after = retry_after(&parts.headers).or_else(|| said["details"]["retryAfterSeconds"].as_u64());
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": parts.status.as_u16(),
        "reason": harmless(said["reason"].as_str().unwrap_or_default()),
        "message": harmless(message),
        "details": {"retryAfterSeconds": retry_after.and_then(|s| u32::try_from(s).ok()).unwrap_or(0)},
    });
    let mut response = Response::new(Full::new(Bytes::from(status.to_string())));
    *response.status_mut() = parts.status;
    response
}

/// `Retry-After` in seconds (RFC 9110); API servers give no dates.
fn retry_after(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

async fn prefix(mut body: impl Body<Data = Bytes> + Unpin, max: usize) -> Vec<u8> {
    let mut text = Vec::new();
    while text.len() < max {
        match body.frame().await {
            Some(Ok(frame)) => text.extend(frame.data_ref().into_iter().flatten()),
            _ => break,
        }
    }
    text.truncate(max);
    text
}

/// The body of a watch: lines, none longer than [`MAX_LINE`].
pub(super) struct Lines<B> {
    body: B,
    since_newline: usize,
}

impl<B> Lines<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, since_newline: 0 }
    }

    fn passes(&mut self, data: &[u8]) -> bool {
        let mut pieces = data.split(|byte| *byte == b'\n');
        let first = pieces.next().map_or(0, <[u8]>::len);
        let longest = pieces.clone().map(<[u8]>::len).max().unwrap_or(0).max(self.since_newline + first);
        self.since_newline = pieces.next_back().map_or(self.since_newline + first, <[u8]>::len);
        longest <= MAX_LINE
    }
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin> Body for Lines<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        match frame.data_ref().is_none_or(|data| self.passes(data)) {
            true => Poll::Ready(Some(Ok(frame))),
            false => Poll::Ready(Some(Err(Refused::LineTooLong(MAX_LINE >> 20).into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::StreamBody;

    use super::*;

    fn body(pieces: Vec<Vec<u8>>) -> impl Body<Data = Bytes, Error = BoxError> + Unpin {
        StreamBody::new(stream::iter(pieces.into_iter().map(|piece| Ok(Frame::data(Bytes::from(piece))))))
    }

    fn refused(error: &BoxError) -> String {
        error.downcast_ref::<Refused>().unwrap().to_string()
    }

    #[tokio::test]
    async fn a04_an_endless_line_ends_the_watch() {
        let piece = vec![b'x'; 1 << 20];
        let mut short = piece.clone();
        short.extend(b"\n{}\n");
        let lines = |pieces| Lines::new(body(pieces)).collect();
        assert!(lines(vec![piece.clone(); 8]).await.is_ok());
        assert!(lines(vec![short; 64]).await.is_ok());
        assert_eq!(
            refused(&lines(vec![piece.clone(); 9]).await.unwrap_err()),
            "a line of the watch is longer than 8 MiB"
        );
        assert!(lines(vec![b"{}\n".repeat(1000), vec![b'x'; 9 << 20]]).await.is_err());
    }

    #[tokio::test]
    async fn a04_an_answer_beyond_the_cap_is_not_held() {
        let ask = |pieces, max| read(Response::new(body(pieces)), false, max);
        assert!(ask(vec![b"[1]".to_vec()], 3).await.is_ok());
        assert_eq!(
            refused(&ask(vec![vec![b' '; 1 << 20]; 3], 2 << 20).await.unwrap_err()),
            "the answer is larger than 2 MiB"
        );
    }

    #[tokio::test]
    async fn a12_answers_that_are_no_lists_of_kubernetes_are_refused() {
        let ask = |text: &str, is_list| read(Response::new(body(vec![text.as_bytes().to_vec()])), is_list, MAX_ANSWER);
        let list =
            r#"{"apiVersion": "v1", "kind": "ServiceList", "metadata": {"resourceVersion": "1"}, "items": [1, {}]}"#;
        assert!(ask(list, true).await.is_ok());
        let deep = format!("{{\"items\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for bad in ["<html>", "", "[]", r#"{"items": 5}"#, r#"{"metadata": 5, "items": []}"#, r#"{"kind": "X"}"#] {
            assert_eq!(
                refused(&ask(bad, true).await.unwrap_err()),
                "the answer is not one of a Kubernetes API server",
                "{bad}"
            );
        }
        assert!(ask(&deep, true).await.is_ok());
        assert!(ask(&deep, false).await.is_err());
    }

    #[tokio::test]
    async fn a14_an_error_answer_is_short_and_without_the_secret() {
        let said = |text: Vec<u8>| async {
            let mut response = Response::new(body(vec![text]));
            *response.status_mut() = http::StatusCode::FORBIDDEN;
            response.headers_mut().insert(header::RETRY_AFTER, http::HeaderValue::from_static("7"));
            let bytes = read_error(response, Some("canary")).await.into_body().collect().await.unwrap().to_bytes();
            serde_json::from_slice::<Value>(&bytes).unwrap()
        };
        let status = said(
            br#"{"kind": "Status", "message": "token canary\u001b[2J is bad", "reason": "canary", "extra": "canary"}"#
                .to_vec(),
        )
        .await;
        assert_eq!(status["message"], "token [redacted] [2J is bad");
        assert_eq!((&status["code"], &status["details"]["retryAfterSeconds"]), (&json!(403), &json!(7)));
        assert!(!status.to_string().contains("canary"));
        assert_eq!(said(b"<html>canary</html>".to_vec()).await["message"], "<html>[redacted]</html>");
        assert!(said(vec![b'x'; 1 << 20]).await["message"].as_str().unwrap().len() < 400);
        assert_eq!(said(vec![0xff, 0xfe]).await["code"], 403);
    }
}
