//! A request's body as a whole, within bounds of size and time.
//!
//! Who says at first that the body is too large is answered before it comes. What is on its way by then is still read for a
//! while and thrown away: many clients look for an answer only when they have sent all, and a connection that is closed on
//! what nobody read takes the answer with it.

use std::error::Error;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;

use crate::fault::Fault;

/// Who brings a byte now and then would hold a connection for ever.
const BODY_TIME: Duration = Duration::from_secs(30);
/// What is refused is read so long.
pub(crate) const LINGER_TIME: Duration = Duration::from_secs(5);

pub(crate) async fn body<B>(
    mut body: B,
    headers: &HeaderMap,
    bytes_max: usize,
    too_large: impl FnOnce() -> Fault,
) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    // As its length says.
    if body.size_hint().lower() > bytes_max as u64 {
        linger(body, headers);
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIME, Limited::new(&mut body, bytes_max).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            linger(body, headers);
            Err(too_large())
        }
        Ok(Err(error)) => Err(Fault::invalid(format!("the request broke off: {error}"))),
        Err(_) => Err(Fault::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body took longer than {BODY_TIME:?} to come"),
        )),
    }
}

/// What is on its way is read for a while, and thrown away.
pub(crate) fn linger(mut body: impl Body<Data: Send> + Send + Unpin + 'static, headers: &HeaderMap) {
    // Who waits for leave to send has sent nothing, and to read would be to give it.
    if headers.contains_key(header::EXPECT) {
        return;
    }
    tokio::spawn(async move {
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        // Who takes longer is cut off.
        let _ = tokio::time::timeout(LINGER_TIME, rest).await;
    });
}
