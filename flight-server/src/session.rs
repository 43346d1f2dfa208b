//! What a client may set for its connection: catalog, schema, and the form of rows.
//!
//! A session is a TCP connection, so it needs no cookie, no store and no expiry. (Behind a proxy that shares one
//! connection among clients, qualify the names instead.)

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::Extensions;
use tonic::transport::server::Connected;

use crate::backend::Scope;
use crate::wire::Profile;

/// The options of one connection, as they are now.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub scope: Scope,
    pub profile: Profile,
}

#[derive(Clone)]
pub(crate) struct Session(Arc<Mutex<Settings>>);

/// Why an option was not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unset {
    UnknownName,
    BadValue,
}

impl Session {
    pub fn new(defaults: Scope) -> Self {
        Session(Arc::new(Mutex::new(Settings { scope: defaults, profile: Profile::default() })))
    }

    /// The session of the connection that a request came by.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get::<Session>().cloned()
    }

    pub fn name_client(&self, name: &str) {
        let mut settings = self.lock();
        if settings.scope.client.as_deref() != Some(name) {
            settings.scope.client = Some(name.to_owned());
        }
    }

    pub fn settings(&self) -> Settings {
        self.lock().clone()
    }

    /// Sets one option; `schemas` are the (catalog, schema) pairs there are.
    pub fn set(&self, name: &str, value: &str, schemas: &[(String, String)]) -> Result<(), Unset> {
        let known = |found: bool| if found { Ok(()) } else { Err(Unset::BadValue) };
        let mut settings = self.lock();
        match name {
            "catalog" => {
                known(schemas.iter().any(|(catalog, _)| catalog == value))?;
                settings.scope.catalog = value.to_owned();
            }
            "schema" => {
                known(schemas.iter().any(|(_, schema)| schema == value))?;
                settings.scope.schema = value.to_owned();
            }
            "compression" => {
                known(["none", "lz4", "zstd"].contains(&value))?;
                settings.profile.compression = if value == "none" { String::new() } else { value.to_owned() };
            }
            "timestamp_unit" => {
                known(["planned", "ns"].contains(&value))?;
                settings.profile.nanoseconds = value == "ns";
            }
            _ => return Err(Unset::UnknownName),
        }
        Ok(())
    }

    /// Every option and its value, named as `set` takes them.
    pub fn options(&self) -> HashMap<String, String> {
        let Settings { scope, profile } = self.settings();
        let compression =
            if profile.compression.is_empty() { "none".to_owned() } else { profile.compression };
        let unit = if profile.nanoseconds { "ns" } else { "planned" };
        HashMap::from([
            ("catalog".to_owned(), scope.catalog),
            ("schema".to_owned(), scope.schema),
            ("compression".to_owned(), compression),
            ("timestamp_unit".to_owned(), unit.to_owned()),
        ])
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Settings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A TCP connection that carries its session to every request that comes by it.
pub(crate) struct Connection {
    pub stream: TcpStream,
    pub session: Session,
}

impl Connected for Connection {
    type ConnectInfo = Session;

    fn connect_info(&self) -> Session {
        self.session.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(ctx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(ctx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(ctx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(ctx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(ctx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
