//! HTTP/1.1 as one client needs it: a request, then an answer with a length, over a connection that stays.

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

pub struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// `127.0.0.1:8080` and `/api/events`
pub fn target(url: &Url) -> Result<(String, String)> {
    ensure!(url.scheme() == "http", "an address begins with http://");
    let host = url.host_str().context("an address has a host")?;
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    Ok((format!("{host}:{}", url.port_or_known_default().unwrap_or(80)), format!("{}{query}", url.path())))
}

impl Connection {
    pub async fn open(host: &str) -> Result<Connection> {
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, read: Vec::with_capacity(4096) })
    }

    pub async fn send(&mut self, request: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(request).await?)
    }

    /// The status, once all of the answer is there.
    pub async fn answer(&mut self) -> Result<u16> {
        let (status, end, length) = loop {
            if let Some(head) = head(&self.read)? {
                break head;
            }
            self.more().await?;
        };
        let length = length.context("an answer has a length")?;
        while self.read.len() < end + length {
            self.more().await?;
        }
        self.read.drain(..end + length);
        Ok(status)
    }

    /// The status, when the headers are there; what follows has no end.
    pub async fn begun(&mut self) -> Result<u16> {
        loop {
            if let Some((status, end, _)) = head(&self.read)? {
                self.read.drain(..end);
                return Ok(status);
            }
            self.more().await?;
        }
    }

    /// What has come since the last call, at least one byte.
    pub async fn chunk(&mut self) -> Result<Vec<u8>> {
        if self.read.is_empty() {
            self.more().await?;
        }
        Ok(std::mem::take(&mut self.read))
    }

    async fn more(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.read).await? == 0 {
            bail!("the server has closed the connection");
        }
        Ok(())
    }
}

/// Status, where the body begins, and its length.
fn head(bytes: &[u8]) -> Result<Option<(u16, usize, Option<usize>)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end]).context("headers are text")?;
    let status =
        text.split(' ').nth(1).and_then(|status| status.parse().ok()).context("an answer has a status")?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok(Some((status, end + 4, length)))
}
