//! What a client may set for its connection: catalog, schema, the form of rows, and limits of its queries.
//!
//! A session is a TCP connection, so it needs no cookie, no store and no expiry. (Behind a proxy that shares one
//! connection among clients, qualify the names instead.)

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Extensions;

use crate::backend::Scope;
use crate::connections::{Call, Life};
use crate::wire::Profile;

/// The options of one connection, as they are now.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub scope: Scope,
    pub profile: Profile,
}

#[derive(Clone)]
pub(crate) struct Session {
    settings: Arc<Mutex<Settings>>,
    /// Of its connection, if it has one.
    life: Option<Arc<Life>>,
}

/// Why an option was not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unset {
    UnknownName,
    /// With what it can be.
    BadValue(String),
}

impl Session {
    pub fn new(defaults: Scope) -> Self {
        let settings = Settings { scope: defaults, profile: Profile::default() };
        Session { settings: Arc::new(Mutex::new(settings)), life: None }
    }

    pub fn of_connection(self, life: Arc<Life>) -> Self {
        Session { life: Some(life), ..self }
    }

    /// Its connection is at work as long as this is kept.
    pub fn call(&self) -> Option<Call> {
        self.life.as_ref().map(Life::call)
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
        let known =
            |found: bool, reason: &str| if found { Ok(()) } else { Err(Unset::BadValue(reason.to_owned())) };
        let mut settings = self.lock();
        match name {
            "catalog" => {
                known(schemas.iter().any(|(catalog, _)| catalog == value), "there is no such catalog")?;
                settings.scope.catalog = value.to_owned();
            }
            "schema" => {
                known(schemas.iter().any(|(_, schema)| schema == value), "there is no such schema")?;
                settings.scope.schema = value.to_owned();
            }
            "compression" => {
                known(["none", "lz4", "zstd"].contains(&value), "it is none, lz4 or zstd")?;
                settings.profile.compression = if value == "none" { String::new() } else { value.to_owned() };
            }
            "timestamp_unit" => {
                known(["planned", "ns"].contains(&value), "it is planned or ns")?;
                settings.profile.nanoseconds = value == "ns";
            }
            name => match settings.scope.limits.set(name, value) {
                None => return Err(Unset::UnknownName),
                Some(set) => set.map_err(Unset::BadValue)?,
            },
        }
        Ok(())
    }

    /// Every option and its value, named as `set` takes them.
    pub fn options(&self) -> HashMap<String, String> {
        let Settings { scope, profile } = self.settings();
        let compression =
            if profile.compression.is_empty() { "none".to_owned() } else { profile.compression };
        let unit = if profile.nanoseconds { "ns" } else { "planned" };
        let limits = scope.limits.told().map(|(name, value)| (name.to_owned(), value));
        let others = [
            ("catalog".to_owned(), scope.catalog),
            ("schema".to_owned(), scope.schema),
            ("compression".to_owned(), compression),
            ("timestamp_unit".to_owned(), unit.to_owned()),
        ];
        others.into_iter().chain(limits).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
