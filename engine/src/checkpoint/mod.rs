//! Makes epochs durable: state files, manifests, and the one put that commits.
//!
//! Order of an epoch: data files durable → state files durable → put-if-absent of the manifest. That put is the only
//! commit point. Whatever no manifest names is an orphan and means nothing.

pub mod manifest;
