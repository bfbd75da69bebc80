//! Answers of an exporter: bounded, whole, and what they say they are, before anybody else reads
//! them.

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body::Body;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use serde_json::{Value, json};
use tower::BoxError;

use super::{Refused, secret::Secret, shape};
use crate::cluster::text::{MAX_MESSAGE, clean};

/// Largest page of a list that is read: one of 500 Services has about 2 MiB, of 100 full slices 3.
/// A larger one is asked for again in smaller portions.
pub(super) const MAX_LIST: usize = 8 << 20;
/// Largest answer that is no list, which is a version or a Namespace. Parsed it takes up to 16
/// times as much.
pub(super) const MAX_OBJECT: usize = 2 << 20;
/// What is read of an error answer; the rest is dropped.
const MAX_ERROR: usize = 16 << 10;

/// Refuses what would have to be unpacked: it was not asked for, and a small answer may hold a
/// large one.
pub(super) fn refuse_encoded(headers: &HeaderMap) -> Result<(), Refused> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    if encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        Ok(())
    } else {
        Err(Refused::Encoded)
    }
}

/// Reads an answer that is a list or an object and checks that it is JSON of that shape, so that
/// nothing after this point fails on it (kube logs what it cannot decode, whole).
pub(super) async fn read<B>(
    response: Response<B>,
    is_list: bool,
    max: usize,
    secret: Option<&Secret>,
) -> Result<Response<Full<Bytes>>, BoxError>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    let (parts, body) = response.into_parts();
    let bytes = match Limited::new(body, max).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(Refused::TooLarge(max >> 20).into()),
        Err(error) => return Err(error),
    };
    if secret.is_some_and(|secret| secret.is_in(&bytes)) {
        return Err(Refused::Echo.into());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Refused::NotKubernetes)?;
    let shape = match is_list {
        true => shape::check_list(text),
        false => serde_json::from_str::<Value>(text).map(drop),
    };
    shape.map_err(|_| Refused::NotKubernetes)?;
    Ok(Response::from_parts(parts, Full::new(bytes)))
}

/// Reads an error answer into a Status that is short, harmless and without the secret.
pub(super) async fn read_error<B>(response: Response<B>, secret: Option<&Secret>) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (parts, body) = response.into_parts();
    let text = prefix(body, MAX_ERROR).await;
    let text = String::from_utf8_lossy(&text);
    let said: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let harmless = |text: &str| match secret {
        Some(secret) => clean(&secret.cut_out_of(text), MAX_MESSAGE),
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

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use kube::core::ObjectList;

    use super::*;
    use crate::cluster::wire::OriginWire;

    fn body(pieces: Vec<Vec<u8>>) -> impl Body<Data = Bytes, Error = BoxError> + Unpin {
        StreamBody::new(stream::iter(pieces.into_iter().map(|piece| Ok(Frame::data(Bytes::from(piece))))))
    }

    fn refused(error: &BoxError) -> String {
        error.downcast_ref::<Refused>().unwrap().to_string()
    }

    #[tokio::test]
    async fn a04_an_answer_beyond_the_cap_is_not_held() {
        let ask = |pieces, max| read(Response::new(body(pieces)), false, max, None);
        assert!(ask(vec![b"[1]".to_vec()], 3).await.is_ok());
        assert_eq!(
            refused(&ask(vec![vec![b' '; 1 << 20]; 3], 2 << 20).await.unwrap_err()),
            "the answer is larger than 2 MiB"
        );
    }

    #[tokio::test]
    async fn a12_answers_that_are_no_lists_of_kubernetes_are_refused() {
        let ask =
            |text: &str, is_list| read(Response::new(body(vec![text.as_bytes().to_vec()])), is_list, MAX_LIST, None);
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
        // What kube could not decode it would log, whole: texts and numbers that cannot be held.
        for unsound in ["\"\\ud800\"", "1e999", "{\"\\udc00\": 1}", "[[\"\\ud800x\"]]"] {
            let list = format!("{{\"items\": [{{\"metadata\": {unsound}}}]}}");
            assert!(serde_json::from_str::<ObjectList<OriginWire>>(&list).is_err(), "{unsound}");
            assert!(ask(&list, true).await.is_err(), "{unsound}");
        }
        let kind = format!("{{\"items\": [], \"kind\": {}{}}}", "[".repeat(200), "]".repeat(200));
        assert!(ask(&kind, true).await.is_err(), "kube would hold it, and give up on its depth");
        let invalid = Response::new(body(vec![b"{\"items\": [], \"kind\": \"\xff\"}".to_vec()]));
        assert!(read(invalid, true, MAX_LIST, None).await.is_err());
    }

    #[tokio::test]
    async fn a05_an_answer_that_would_be_held_many_times_its_size_is_refused() {
        let ask = |text: String| read(Response::new(body(vec![text.into_bytes()])), true, MAX_LIST, None);
        let items = |n: usize| format!("{{\"items\": [{}0]}}", "0,".repeat(n - 1));
        assert!(ask(items(20_000)).await.is_ok());
        assert!(ask(items(20_001)).await.is_err());
        assert!(ask(items(3_000_000)).await.is_err());
        assert!(ask(format!("{{\"items\": [], \"x\": [{}0]}}", "0,".repeat(3_000_000))).await.is_err());
        assert!(ask(r#"{"items": [], "items": []}"#.to_owned()).await.is_err());
        assert!(ask(r#"{"items": [], "metadata": {}, "metadata": {}}"#.to_owned()).await.is_err());
        for token in ["resourceVersion", "continue"] {
            let list = |n| format!("{{\"items\": [], \"metadata\": {{\"{token}\": \"{}\"}}}}", "9".repeat(n));
            assert!(ask(list(200)).await.is_ok() && ask(list(20 << 10)).await.is_err());
        }
        assert!(ask(r#"{"items": null}"#.to_owned()).await.is_ok());
    }

    #[tokio::test]
    async fn a14_a_good_answer_that_repeats_the_credential_is_not_used() {
        let secret = Secret::new("canary-4f7a");
        let version = |text: &str| Response::new(body(vec![format!("{{\"gitVersion\": \"{text}\"}}").into_bytes()]));
        assert_eq!(
            refused(&read(version("canary-4f7a"), false, MAX_OBJECT, Some(&secret)).await.unwrap_err()),
            "the answer repeats the credential that it was asked with; nothing of it is used"
        );
        assert!(read(version("v1.36.0"), false, MAX_OBJECT, Some(&secret)).await.is_ok());
        assert!(
            read(version("a"), false, MAX_OBJECT, Some(&Secret::new("a"))).await.is_ok(),
            "it stands there by chance"
        );
    }

    #[tokio::test]
    async fn a14_an_error_answer_is_short_and_without_the_secret() {
        let said = |text: Vec<u8>| async {
            let mut response = Response::new(body(vec![text]));
            *response.status_mut() = http::StatusCode::FORBIDDEN;
            response.headers_mut().insert(header::RETRY_AFTER, http::HeaderValue::from_static("7"));
            let bytes = read_error(response, Some(&Secret::new("canary")))
                .await
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes();
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
