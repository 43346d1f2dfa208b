//! A request's body as a whole, within bounds of size and time.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::fault::Fault;

/// Who brings a byte now and then would hold a connection for ever.
const BODY_TIME: Duration = Duration::from_secs(30);

pub(crate) async fn body(
    body: Body,
    bytes_max: usize,
    too_large: impl FnOnce() -> Fault,
) -> Result<Bytes, Fault> {
    match tokio::time::timeout(BODY_TIME, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Fault::invalid(format!("the request broke off: {error}"))),
        Err(_) => Err(Fault::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body took longer than {BODY_TIME:?} to come"),
        )),
    }
}
