//! The server against arrow-flight's own client, over loopback.

use crate::{Answer, Backend, Limits, Prepared, Refusal, Scope, Table, serve};

mod plain_backend;
