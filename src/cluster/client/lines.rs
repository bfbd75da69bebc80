//! The bodies of a link's watches: lines that are bounded in length, over all watches of the link
//! in what is not complete yet, and in how many are read a second. A server that sends more is
//! held back by TCP; no other link is slower for it.

use std::{
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use memchr::memchr_iter;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::BoxError;

use super::{Refused, secret::Secret};

/// Longest line of a watch: etcd takes objects of 1.5 MiB, JSON may double that.
pub(super) const MAX_LINE: usize = 4 << 20;
/// Most bytes of lines that are not complete yet, over all watches of a link.
const MAX_UNFINISHED: usize = 16 << 20;
/// Lines that are read a second of all watches of a link. A rollout of a thousand pods takes some
/// thousand lines, over minutes.
const RATE: u32 = 2000;
/// How long a quiet time counts: after it, that many seconds' worth of lines come at once.
const BURST: Duration = Duration::from_secs(10);
/// Longest wait for what one frame had too much.
const MAX_DEBT: Duration = Duration::from_secs(10);

/// What the watches of one link share.
pub(super) struct Share {
    secret: Option<Secret>,
    unfinished: AtomicUsize,
    /// By when the lines read so far were due at [`RATE`].
    due: Mutex<Instant>,
}

impl Share {
    pub(super) fn new(secret: Option<Secret>) -> Arc<Self> {
        Arc::new(Self { secret, unfinished: AtomicUsize::new(0), due: Mutex::new(Instant::now()) })
    }

    /// A watch that held so many bytes of a line now holds so many; says how many all of them hold.
    fn hold(&self, before: usize, now: usize) -> usize {
        if now >= before {
            self.unfinished.fetch_add(now - before, Ordering::Relaxed) + (now - before)
        } else {
            self.unfinished.fetch_sub(before - now, Ordering::Relaxed) - (before - now)
        }
    }

    /// Counts lines in; says until when to wait before more are read, if there were too many.
    fn count(&self, lines: usize) -> Option<Instant> {
        let now = Instant::now();
        let took = Duration::from_secs(1) * u32::try_from(lines).unwrap_or(u32::MAX) / RATE;
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        *due = ((*due).max(earliest) + took).min(now + MAX_DEBT);
        Some(*due).filter(|due| *due > now)
    }
}

/// The body of a watch.
pub(super) struct Lines<B> {
    body: B,
    share: Arc<Share>,
    since_newline: usize,
    /// The end of what was read, in which the secret may have begun.
    tail: Vec<u8>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<B> Lines<B> {
    pub(super) fn new(body: B, share: Arc<Share>) -> Self {
        Self { body, share, since_newline: 0, tail: Vec::new(), pause: None }
    }

    fn check(&mut self, data: &[u8]) -> Result<(), Refused> {
        if self.repeats_the_secret(data) {
            return Err(Refused::Echo);
        }
        let (longest, left, newlines) = measure(data, self.since_newline);
        let before = mem::replace(&mut self.since_newline, left);
        let held = self.share.hold(before, left);
        if longest > MAX_LINE || held > MAX_UNFINISHED {
            return Err(Refused::LineTooLong(MAX_LINE >> 20));
        }
        self.pause = self.share.count(newlines).map(|until| Box::pin(sleep_until(until)));
        Ok(())
    }

    fn repeats_the_secret(&mut self, data: &[u8]) -> bool {
        let Some(secret) = &self.share.secret else { return false };
        let edge = secret.bytes().len() - 1;
        let mut seam = mem::take(&mut self.tail);
        seam.extend(&data[..data.len().min(edge)]);
        let found = secret.is_in(data) || secret.is_in(&seam);
        let end = if data.len() < edge { &seam } else { data };
        self.tail = end[end.len().saturating_sub(edge)..].to_vec();
        found
    }
}

/// Of a piece that follows so many bytes without a newline: the longest line, the bytes behind the
/// last newline, and the newlines.
fn measure(data: &[u8], since_newline: usize) -> (usize, usize, usize) {
    let (mut longest, mut begin, mut newlines) = (0, 0, 0);
    let mut before = since_newline;
    for at in memchr_iter(b'\n', data) {
        longest = longest.max(before + at - begin);
        (before, begin, newlines) = (0, at + 1, newlines + 1);
    }
    let left = before + data.len() - begin;
    (longest.max(left), left, newlines)
}

impl<B> Drop for Lines<B> {
    fn drop(&mut self) {
        self.share.hold(self.since_newline, 0);
    }
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin> Body for Lines<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        match frame.data_ref().map_or(Ok(()), |data| self.check(data)) {
            Ok(()) => Poll::Ready(Some(Ok(frame))),
            Err(refused) => Poll::Ready(Some(Err(refused.into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn body(pieces: impl IntoIterator<Item = Vec<u8>>) -> impl Body<Data = Bytes, Error = BoxError> + Unpin {
        let frames: Vec<_> = pieces.into_iter().map(|piece| Ok(Frame::data(Bytes::from(piece)))).collect();
        StreamBody::new(stream::iter(frames))
    }

    fn lines(pieces: Vec<Vec<u8>>) -> Lines<impl Body<Data = Bytes, Error = BoxError> + Unpin> {
        Lines::new(body(pieces), Share::new(Some(Secret::new("canary-4f7a"))))
    }

    fn refused(error: &BoxError) -> String {
        error.downcast_ref::<Refused>().unwrap().to_string()
    }

    #[tokio::test]
    async fn a04_an_endless_line_ends_the_watch() {
        let piece = vec![b'x'; 1 << 20];
        let mut short = piece.clone();
        short.extend(b"\n{}\n");
        assert!(lines(vec![piece.clone(); 4]).collect().await.is_ok());
        assert!(lines(vec![short; 64]).collect().await.is_ok());
        assert_eq!(
            refused(&lines(vec![piece.clone(); 5]).collect().await.unwrap_err()),
            "a line of the watch is longer than 4 MiB, or too much of the watches of this link is held"
        );
        assert!(lines(vec![b"{}\n".repeat(1000), vec![b'x'; 5 << 20]]).collect().await.is_err());
    }

    #[tokio::test]
    async fn a04_unfinished_lines_of_all_watches_together_are_bounded() {
        let share = Share::new(None);
        let mut watches: Vec<_> =
            (0..100).map(|_| Lines::new(body(vec![vec![b'x'; 1 << 20]]), share.clone())).collect();
        let mut passed = 0;
        for watch in &mut watches {
            passed += usize::from(watch.frame().await.unwrap().is_ok());
        }
        assert_eq!(passed, MAX_UNFINISHED >> 20);
        drop(watches);
        assert_eq!(share.unfinished.load(Ordering::Relaxed), 0, "what ended holds nothing");
        assert!(Lines::new(body(vec![vec![b'x'; 1 << 20], b"\n".to_vec()]), share.clone()).collect().await.is_ok());
        assert_eq!(share.unfinished.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a05_a_million_events_a_second_are_read_at_a_bounded_rate() {
        let event = b"{\"type\":\"BOOKMARK\",\"object\":{}}\n";
        // A second's worth of what the server sends, in the pieces that come.
        let pieces = vec![event.repeat(1000); 1000];
        let share = Share::new(None);
        let begin = Instant::now();
        let mut flood = Lines::new(body(pieces), share);
        let mut read = 0;
        while begin.elapsed() < Duration::from_secs(60) {
            read += memchr_iter(b'\n', flood.frame().await.unwrap().unwrap().data_ref().unwrap()).count();
        }
        let most = (RATE * 60 + RATE * 10 + 1000) as usize;
        assert!(read <= most && read > most / 2, "{read}");
    }

    #[tokio::test(start_paused = true)]
    async fn a05_one_frame_of_nothing_but_newlines_stops_a_watch_for_seconds_only() {
        let begin = Instant::now();
        lines(vec![b"\n".repeat(10_000_000), b"{}\n".to_vec()]).collect().await.unwrap();
        assert_eq!(begin.elapsed().as_secs(), MAX_DEBT.as_secs());
    }

    #[tokio::test]
    async fn a14_a_watch_that_repeats_the_credential_ends_wherever_its_pieces_are_cut() {
        let text = b"{\"type\":\"ERROR\",\"object\":{\"message\":\"bad token canary-4f7a\"}}\n";
        for size in 1..=text.len() {
            let pieces = text.chunks(size).map(<[u8]>::to_vec).collect();
            let error = lines(pieces).collect().await.expect_err(&size.to_string());
            assert_eq!(
                refused(&error),
                "the answer repeats the credential that it was asked with; nothing of it is used"
            );
        }
        let harmless = b"canary-4f7 canary-4f7b anary-4f7a";
        for size in 1..=harmless.len() {
            let pieces = harmless.chunks(size).map(<[u8]>::to_vec).collect();
            assert!(lines(pieces).collect().await.is_ok(), "{size}");
        }
    }
}
