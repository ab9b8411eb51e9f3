//! Response bodies with a size limit and an idle timeout.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep, sleep};
use wasmtime_wasi_http::{Error, WasiBody};

/// The size limit of a body, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BodyLimit {
    /// Limits the whole body.
    Total(u64),
    /// Limits each line. The number of lines is not limited.
    PerLine(u64),
}

struct Limited<B> {
    incoming: B,
    left: u64,
    limit: BodyLimit,
    idle_timeout: Duration,
    deadline: Pin<Box<Sleep>>,
}

/// Limits a body. It fails beyond the limit, and if no data arrive within `idle_timeout`.
pub(crate) fn limited<B>(incoming: B, limit: BodyLimit, idle_timeout: Duration) -> WasiBody
where
    B: Body<Data = Bytes, Error = Error> + Send + Unpin + 'static,
{
    let (BodyLimit::Total(left) | BodyLimit::PerLine(left)) = limit;
    Limited { incoming, left, limit, idle_timeout, deadline: Box::pin(sleep(idle_timeout)) }.boxed_unsync()
}

/// Converts the error of a connection that ends before its body.
pub(crate) fn incomplete<E>(_: E) -> Error {
    Error::HttpResponseIncomplete
}

impl<B> Limited<B> {
    /// Counts the data against the limit, and returns whether it fits.
    fn fits(&mut self, data: &[u8]) -> bool {
        let count = |left: &mut u64, length: usize| match left.checked_sub(length as u64) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        };
        match self.limit {
            BodyLimit::Total(_) => count(&mut self.left, data.len()),
            BodyLimit::PerLine(most) => {
                let mut lines = data.split(|byte| *byte == b'\n');
                let mut fit = lines.next().is_none_or(|end| count(&mut self.left, end.len()));
                for line in lines {
                    self.left = most;
                    fit &= count(&mut self.left, line.len());
                }
                fit
            }
        }
    }
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for Limited<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let Some(data) = frame.data_ref() else { return Poll::Ready(Some(Ok(frame))) };
                if !self.fits(data) {
                    let (BodyLimit::Total(limit) | BodyLimit::PerLine(limit)) = self.limit;
                    return Poll::Ready(Some(Err(Error::HttpResponseBodySize(Some(limit)))));
                }
                let next = Instant::now() + self.idle_timeout;
                self.deadline.as_mut().reset(next);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.deadline.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(Error::ConnectionReadTimeout))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A body that holds `T` until it was read or is dropped.
struct Held<T> {
    body: WasiBody,
    held: Option<T>,
}

/// Holds a value until a body was read or is dropped.
pub(super) fn until_read<T: Send + Unpin + 'static>(body: WasiBody, held: Option<T>) -> WasiBody {
    let held = if body.is_end_stream() { None } else { held };
    Held { body, held }.boxed_unsync()
}

impl<T: Unpin> Body for Held<T> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.held = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(limit: BodyLimit, parts: &[&'static str]) -> Result<usize, Error> {
        let parts: Vec<_> =
            parts.iter().map(|part| Ok::<_, Error>(Frame::data(Bytes::from(*part)))).collect();
        let incoming = http_body_util::StreamBody::new(Parts(parts.into_iter()));
        let body = limited(incoming, limit, Duration::from_secs(1));
        body.collect().await.map(|body| body.to_bytes().len())
    }

    struct Parts(std::vec::IntoIter<Result<Frame<Bytes>, Error>>);

    impl futures_core::Stream for Parts {
        type Item = Result<Frame<Bytes>, Error>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(self.0.next())
        }
    }

    #[tokio::test]
    async fn limits_apply_to_the_whole_body_or_to_each_line() {
        assert_eq!(read(BodyLimit::Total(6), &["abc", "def"]).await.unwrap(), 6);
        assert!(read(BodyLimit::Total(5), &["abc", "def"]).await.is_err());
        assert_eq!(read(BodyLimit::PerLine(3), &["abc\nde", "f\n", "\nabc\nabc"]).await.unwrap(), 16);
        assert!(read(BodyLimit::PerLine(3), &["ab", "cd\n"]).await.is_err());
        assert!(read(BodyLimit::PerLine(3), &["a\nabcd\nb"]).await.is_err());
    }
}
