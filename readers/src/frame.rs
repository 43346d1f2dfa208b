//! What crosses a socket: a message in JSON, and byte strings behind it.
//!
//! ```text
//! u32 bytes of the message · u32 number of byte strings · u64 bytes of each · the message · the byte strings
//! ```
//! Lengths are held against bounds, and memory is taken as bytes come: the other side may have gone mad.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const MESSAGE_BYTES_MAX: u64 = 256 << 20;
const BODIES_MAX: u32 = 64;

#[derive(Debug)]
pub struct Frame {
    message: Bytes,
    pub bodies: Vec<Bytes>,
}

impl Frame {
    pub fn new(message: &impl Serialize, bodies: Vec<Bytes>) -> io::Result<Frame> {
        Ok(Frame { message: serde_json::to_vec(message)?.into(), bodies })
    }

    pub fn message<M: DeserializeOwned>(&self) -> io::Result<M> {
        Ok(serde_json::from_slice(&self.message)?)
    }

    pub async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut head = Vec::with_capacity(8 + 8 * self.bodies.len() + self.message.len());
        head.extend(u32::try_from(self.message.len()).map_err(io::Error::other)?.to_le_bytes());
        head.extend((self.bodies.len() as u32).to_le_bytes());
        for body in &self.bodies {
            head.extend((body.len() as u64).to_le_bytes());
        }
        head.extend(&self.message);
        to.write_all(&head).await?;
        for body in &self.bodies {
            to.write_all(body).await?;
        }
        Ok(())
    }

    /// The next one; `None` where the other side has ended. No byte string may be longer than `bytes_max`.
    pub async fn read(from: &mut (impl AsyncRead + Unpin), bytes_max: u64) -> io::Result<Option<Frame>> {
        let length = match from.read_u32_le().await {
            Ok(length) => u64::from(length),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let count = from.read_u32_le().await?;
        if length > MESSAGE_BYTES_MAX || count > BODIES_MAX {
            return Err(io::Error::other(format!("no frame begins so. bytes={length}, bodies={count}")));
        }
        let mut lengths = vec![];
        for _ in 0..count {
            lengths.push(from.read_u64_le().await?);
        }
        if let Some(length) = lengths.iter().find(|length| **length > bytes_max) {
            return Err(io::Error::other(format!(
                "a frame is too large. bytes={length}, bytes_max={bytes_max}"
            )));
        }
        let message = bytes(from, length).await?;
        let mut bodies = vec![];
        for length in lengths {
            bodies.push(bytes(from, length).await?);
        }
        Ok(Some(Frame { message, bodies }))
    }
}

/// So many bytes are believed before any of them has come.
const BELIEVED: usize = 4 << 20;

async fn bytes(from: &mut (impl AsyncRead + Unpin), length: u64) -> io::Result<Bytes> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut bytes = BytesMut::with_capacity(length.min(BELIEVED));
    while bytes.len() < length {
        let left = length - bytes.len();
        if from.read_buf(&mut (&mut bytes).limit(left)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_and_an_end_within_is_no_end() {
        let frame = Frame::new(&("a", 7), vec![Bytes::from_static(b"xyz"), Bytes::new()]).unwrap();
        let mut written = vec![];
        frame.write(&mut written).await.unwrap();
        let mut from = written.as_slice();
        let read = Frame::read(&mut from, 3).await.unwrap().unwrap();
        assert_eq!(read.message::<(String, u8)>().unwrap(), ("a".to_owned(), 7));
        assert_eq!(read.bodies, frame.bodies);
        assert!(Frame::read(&mut from, 3).await.unwrap().is_none());
        assert!(Frame::read(&mut written.as_slice(), 2).await.is_err());
        for length in 4..written.len() {
            assert!(Frame::read(&mut &written[..length], 3).await.is_err(), "{length}");
        }
        let mad = [0xff; 64];
        assert!(Frame::read(&mut mad.as_slice(), u64::MAX).await.is_err());
    }
}
